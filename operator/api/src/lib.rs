//! The API of keepstone's operator, group `keepstone.io/v1alpha1`: what users write, what the operator answers.
//!
//! `EtcdCluster` is a cluster and its standing policies, `EtcdBackup` the record of one backup, `EtcdOperation` one order
//! with a history. Everything but `spec.version` of a cluster has a safe default, and defaults stand in the CRD, so that
//! `kubectl get -o yaml` shows what is in force.
//!
//! This crate holds types, rules and words. It never talks to a server and decides nothing.

// kube's printcolumns repeat `type_`, which is the lint's business only by mistake.
#![allow(clippy::duplicated_attributes)]

pub mod backup;
pub mod cluster;
pub mod condition;
pub mod crd;
pub mod metrics;
pub mod operation;
pub mod pod;
pub mod policy;
pub mod reason;
pub mod record;
pub mod reference;
pub mod refs;
pub mod rules;
pub mod span;
pub mod status;
pub mod storage;
pub mod tls;

pub use backup::{EtcdBackup, EtcdBackupSpec, EtcdBackupStatus};
pub use cluster::{EtcdCluster, EtcdClusterSpec};
pub use condition::{ConditionState, ConditionType};
pub use operation::{EtcdOperation, EtcdOperationSpec, EtcdOperationStatus};
pub use reason::Reason;
pub use span::Span;
pub use status::EtcdClusterStatus;

/// The group of all kinds.
pub const GROUP: &str = "keepstone.io";
/// The one version there is.
pub const VERSION: &str = "v1alpha1";
/// On every object that is made for a cluster; its value is the cluster's name.
pub const CLUSTER_LABEL: &str = "keepstone.io/cluster";
/// On an `EtcdBackup` that retention must never remove.
pub const KEEP_ANNOTATION: &str = "keepstone.io/keep";
/// On an `EtcdCluster`: its members are restarted one after the other when the value changes.
pub const RESTART_ANNOTATION: &str = "keepstone.io/restart";
/// On an `EtcdOperation` or `EtcdBackup` that a schedule made: the time it was due, in RFC 3339.
pub const SCHEDULED_ANNOTATION: &str = "keepstone.io/scheduled-for";
/// The UID of the cluster that an [`EtcdBackup`] is of: one that is made anew may have the same name.
pub const CLUSTER_UID_ANNOTATION: &str = "keepstone.io/cluster-uid";
/// On an `EtcdBackup` taken ahead of a version change: the version to come, a slash, and the generation of the spec that asks for it.
pub const BEFORE_ANNOTATION: &str = "keepstone.io/before";
/// On a pod: a human says that this member's data is lost; pod and volume go, and the member is replaced.
pub const UNRECOVERABLE_ANNOTATION: &str = "keepstone.io/unrecoverable";
