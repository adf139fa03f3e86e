//! The member as a voter and a reader, and how long it takes to apply what was asked for. Durations are in seconds.

use std::sync::OnceLock;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::groups::{counter, doubling, gauge, register};

/// The member as a voter and a reader.
#[derive(Debug)]
pub struct Server {
    pub leader_changes: IntCounter,
    pub heartbeat_failures: IntCounter,
    /// Requests of entries past `--warning-apply-duration`.
    pub slow_applies: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub failed_read_indexes: IntCounter,
    /// 1 while a snapshot is taken over.
    pub snapshot_applies: IntGauge,
    pub learner_promotions: IntCounter,
    pub apply: ApplyDurations,
    range_ok: OnceLock<Histogram>,
    range_failed: OnceLock<Histogram>,
    ranges: HistogramVec,
    learner_promotion_failures: IntCounterVec,
}

impl Server {
    pub(super) fn new(r: &Registry) -> Self {
        let ranges = doubling("etcd_server_range_duration_seconds", "Time of reading one range.", 0.0001, 20);
        let failures = Opts::new("etcd_server_learner_promote_failures", "Promotions this member refused as leader.");
        let slow_reads = "Reads that waited long for this member to catch up, or too long.";
        Self {
            leader_changes: counter(
                r,
                "etcd_server_leader_changes_seen_total",
                "Changes of leader this member has seen.",
            ),
            heartbeat_failures: counter(
                r,
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats this member sent late as leader.",
            ),
            slow_applies: counter(r, "etcd_server_slow_apply_total", "Requests that took long to apply."),
            slow_read_indexes: counter(r, "etcd_server_slow_read_indexes_total", slow_reads),
            failed_read_indexes: counter(
                r,
                "etcd_server_read_indexes_failed_total",
                "Reads refused because leadership was not confirmed.",
            ),
            snapshot_applies: gauge(
                r,
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a snapshot from the leader is taken over.",
            ),
            learner_promotions: counter(
                r,
                "etcd_server_learner_promote_successes",
                "Learners this member promoted as leader.",
            ),
            apply: ApplyDurations::new(r),
            range_ok: OnceLock::new(),
            range_failed: OnceLock::new(),
            ranges: register(r, HistogramVec::new(ranges, &["success"])),
            learner_promotion_failures: register(r, IntCounterVec::new(failures, &["Reason"])),
        }
    }

    /// One range took so long.
    pub fn range_took(&self, success: bool, seconds: f64) {
        let (slot, label) = if success { (&self.range_ok, "true") } else { (&self.range_failed, "false") };
        slot.get_or_init(|| self.ranges.with_label_values(&[label])).observe(seconds);
    }

    /// This member refused a promotion as leader.
    pub fn promotion_failed(&self, reason: &str) {
        self.learner_promotion_failures.with_label_values(&[reason]).inc();
    }
}

/// How long requests take to apply, by what they ask for.
#[derive(Debug)]
pub struct ApplyDurations {
    all: HistogramVec,
    slots: [[OnceLock<Histogram>; 2]; OPS.len()],
}

/// What a log entry may ask for, by the names etcd prints.
const OPS: [&str; 29] = [
    "Range",
    "Put",
    "DeleteRange",
    "Txn",
    "Compaction",
    "LeaseGrant",
    "LeaseRevoke",
    "LeaseCheckpoint",
    "Alarm",
    "Authenticate",
    "AuthEnable",
    "AuthDisable",
    "AuthStatus",
    "AuthUserAdd",
    "AuthUserDelete",
    "AuthUserGet",
    "AuthUserList",
    "AuthUserChangePassword",
    "AuthUserGrantRole",
    "AuthUserRevokeRole",
    "AuthRoleAdd",
    "AuthRoleDelete",
    "AuthRoleGet",
    "AuthRoleList",
    "AuthRoleGrantPermission",
    "AuthRoleRevokePermission",
    "ClusterVersionSet",
    "ClusterMemberAttrSet",
    "DowngradeInfoSet",
];

impl ApplyDurations {
    fn new(r: &Registry) -> Self {
        let opts = doubling("etcd_server_apply_duration_seconds", "Time of applying one request.", 0.0001, 20);
        let slots = std::array::from_fn(|_| [OnceLock::new(), OnceLock::new()]);
        Self { all: register(r, HistogramVec::new(opts, &["version", "op", "success"])), slots }
    }

    /// So many requests of one kind took so long each. `op` is as in [`Self::observe`].
    pub fn observe_many(&self, op: &str, success: bool, seconds: f64, requests: usize) {
        if requests == 1 {
            return self.observe(op, success, seconds);
        }
        let Some(n) = OPS.iter().position(|known| *known == op) else { return };
        let label = if success { "true" } else { "false" };
        let histogram =
            self.slots[n][usize::from(success)].get_or_init(|| self.all.with_label_values(&["v3", op, label]));
        // Added up here first: the shared one costs an access to memory of other threads each time.
        let local = histogram.local();
        (0..requests).for_each(|_| local.observe(seconds));
        local.flush();
    }

    /// One request took so long. `op` is etcd's name of it ("Put", "LeaseGrant"); others are counted as "unknown".
    pub fn observe(&self, op: &str, success: bool, seconds: f64) {
        let resolve = |op: &str| self.all.with_label_values(&["v3", op, if success { "true" } else { "false" }]);
        match OPS.iter().position(|known| *known == op) {
            Some(n) => self.slots[n][usize::from(success)].get_or_init(|| resolve(op)).observe(seconds),
            None => resolve("unknown").observe(seconds),
        }
    }
}
