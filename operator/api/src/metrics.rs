//! What the operator's metrics are called: the chart's alerts and its dashboard ask for these and no others of its own.
//!
//! Each `keepstone_cluster_…` has the labels `namespace` and `name`.

/// 1 on the operator that works, 0 on those that wait.
pub const LEADER: &str = "keepstone_operator_leader";
/// Failures of a pass over a cluster, by `namespace`, `name` and `reason`.
pub const RECONCILE_ERRORS: &str = "keepstone_operator_reconcile_errors_total";
/// How long passes took, as a histogram.
pub const RECONCILE_DURATION: &str = "keepstone_operator_reconcile_duration_seconds";
/// 1 where the condition is true, 0 where it is not; with `condition` and `reason`. One series a condition: that of its reason of now.
pub const CONDITION: &str = "keepstone_cluster_condition";
/// Members asked for.
pub const SIZE: &str = "keepstone_cluster_size";
/// Members that serve.
pub const MEMBERS_READY: &str = "keepstone_cluster_members_ready";
/// The largest store of the members.
pub const DB_SIZE: &str = "keepstone_cluster_db_size_bytes";
/// What a store may become.
pub const QUOTA: &str = "keepstone_cluster_quota_bytes";
/// When the operation under way began, with `operation`; not there while there is none.
pub const OPERATION_STARTED: &str = "keepstone_cluster_operation_started_timestamp_seconds";
/// When the first certificate of a `plane` (ca, server, peer, client) ends.
pub const CERTIFICATE_EXPIRY: &str = "keepstone_cluster_certificate_expiry_timestamp_seconds";
/// When the newest complete backup was taken.
pub const BACKUP_LAST_SUCCESS: &str = "keepstone_cluster_backup_last_success_timestamp_seconds";

/// All of them.
pub const ALL: &[&str] = &[
    LEADER,
    RECONCILE_ERRORS,
    RECONCILE_DURATION,
    CONDITION,
    SIZE,
    MEMBERS_READY,
    DB_SIZE,
    QUOTA,
    OPERATION_STARTED,
    CERTIFICATE_EXPIRY,
    BACKUP_LAST_SUCCESS,
];
