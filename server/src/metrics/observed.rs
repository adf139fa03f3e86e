//! What is not counted but asked for when somebody scrapes.

use super::network::hex;
use super::text::{Families, Kind, label};
use crate::version;

/// A member's state at one moment. Whoever fills it leaves what it does not know at its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub member_id: u64,
    pub has_leader: bool,
    pub is_leader: bool,
    pub is_learner: bool,
    /// "3.6.0", once decided.
    pub cluster_version: Option<String>,
    /// IDs of all members of the cluster, this one too.
    pub members: Vec<u64>,
    /// Voters that have no vote yet because they have not caught up.
    pub pending_promotions: u64,
    pub alarms: Vec<ActiveAlarm>,
    pub features: Vec<Feature>,
    /// Log indexes.
    pub committed: u64,
    pub applied: u64,
    pub revision: i64,
    /// -1 before the first compaction.
    pub compact_revision: i64,
    pub auth_revision: u64,
    pub keys: u64,
    pub watchers: u64,
    pub watch_streams: u64,
    /// Watchers that are fed from the store until they have caught up.
    pub slow_watchers: u64,
    /// Events owed to watchers.
    pub pending_events: u64,
    /// Bytes on disk, and those of them that hold live data.
    pub db_size: u64,
    pub db_size_in_use: u64,
    pub open_reads: u64,
    /// Bytes; 0 for no quota.
    pub quota: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveAlarm {
    pub member_id: u64,
    /// "NOSPACE", "CORRUPT".
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// "ALPHA", "BETA".
    pub stage: &'static str,
    pub enabled: bool,
}

impl Observed {
    pub(super) fn add_to(&self, families: &mut Families) {
        self.add_server(families);
        self.add_store(families);
    }

    fn add_server(&self, f: &mut Families) {
        let flag = |on: bool| f64::from(u8::from(on));
        let one = |name: &str, value: &str| [(label(name, value), 1.0)];
        let id = hex(self.member_id);
        f.labelled("etcd_server_id", Kind::Gauge, "This member's ID as a label, always 1.", one("server_id", &id));
        let running = one("server_version", version::ETCD);
        f.labelled("etcd_server_version", Kind::Gauge, "The etcd version this member behaves as, always 1.", running);
        let cluster = self.cluster_version.iter().map(|v| (label("cluster_version", minor(v)), 1.0));
        f.labelled("etcd_cluster_version", Kind::Gauge, "The version the cluster has agreed on, always 1.", cluster);
        f.single("etcd_server_has_leader", Kind::Gauge, "1 if this member knows a leader.", flag(self.has_leader));
        f.single("etcd_server_is_leader", Kind::Gauge, "1 if this member leads.", flag(self.is_leader));
        f.single("etcd_server_is_learner", Kind::Gauge, "1 if this member has no vote yet.", flag(self.is_learner));
        f.single(
            "etcd_server_proposals_committed_total",
            Kind::Gauge,
            "The last committed log index.",
            self.committed as f64,
        );
        f.single(
            "etcd_server_proposals_applied_total",
            Kind::Gauge,
            "The last applied log index.",
            self.applied as f64,
        );
        f.single(
            "etcd_server_quota_backend_bytes",
            Kind::Gauge,
            "Bytes of data that raise NOSPACE.",
            self.quota as f64,
        );
        let features = self.features.iter().map(|feature| {
            let labels = [label("name", feature.name), label("stage", feature.stage)].join(",");
            (labels, flag(feature.enabled))
        });
        f.labelled("etcd_server_feature_enabled", Kind::Gauge, "1 for a feature gate that is on.", features);
        let known = self.members.iter().map(|m| ([label("Local", &id), label("Remote", &hex(*m))].join(","), 1.0));
        f.labelled("etcd_network_known_peers", Kind::Gauge, "The members this one knows, always 1.", known);
        f.single(
            "keepstone_cluster_pending_promotions",
            Kind::Gauge,
            "Voters that have no vote yet because they have not caught up.",
            self.pending_promotions as f64,
        );
        let alarms = self.alarms.iter().map(|alarm| {
            let labels = [label("alarm_type", alarm.kind), label("server_id", &hex(alarm.member_id))].join(",");
            (labels, 1.0)
        });
        f.labelled("etcd_debugging_server_alarms", Kind::Gauge, "Active alarms, always 1.", alarms);
    }

    fn add_store(&self, f: &mut Families) {
        let mut gauge = |name: &str, help: &str, value: f64| f.single(name, Kind::Gauge, help, value);
        gauge("etcd_debugging_mvcc_current_revision", "The store's revision.", self.revision as f64);
        gauge("etcd_debugging_mvcc_compact_revision", "The last compaction's revision.", self.compact_revision as f64);
        gauge("etcd_debugging_auth_revision", "The revision of users and roles.", self.auth_revision as f64);
        gauge("etcd_debugging_mvcc_keys_total", "Keys alive.", self.keys as f64);
        gauge("etcd_debugging_mvcc_watcher_total", "Watchers.", self.watchers as f64);
        gauge("etcd_debugging_mvcc_watch_stream_total", "Streams that watchers belong to.", self.watch_streams as f64);
        gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that lag.", self.slow_watchers as f64);
        gauge("etcd_debugging_mvcc_pending_events_total", "Events owed to watchers.", self.pending_events as f64);
        gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes on disk.", self.db_size as f64);
        gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of live data.", self.db_size_in_use as f64);
        gauge("etcd_mvcc_db_open_read_transactions", "Reads of the store under way.", self.open_reads as f64);
    }
}

/// "3.6" of "3.6.0".
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}
