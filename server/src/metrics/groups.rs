//! Counters of the parts of a member, a struct each. Durations are in seconds unless a name says otherwise.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};

/// Registers one family. Names are constants: one that is wrong or taken twice shows in the first test.
pub(super) fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    family: prometheus::Result<C>,
) -> C {
    let family = family.expect("the family's name and labels are well formed");
    registry.register(Box::new(family.clone())).expect("the family is registered once");
    family
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

/// Buckets that double, `count` of them, the first up to `first`.
pub(super) fn doubling(name: &str, help: &str, first: f64, count: usize) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(exponential_buckets(first, 2.0, count).expect("the buckets grow"))
}

fn histogram(registry: &Registry, name: &str, help: &str, first: f64, count: usize) -> Histogram {
    register(registry, Histogram::with_opts(doubling(name, help, first, count)))
}

/// A millisecond to eight seconds: what one access to a disk takes.
fn disk_time(registry: &Registry, name: &str, help: &str) -> Histogram {
    histogram(registry, name, help, 0.001, 14)
}

/// Requests on their way through the log. What is committed and applied is read when scraped.
#[derive(Debug)]
pub struct Proposals {
    pub pending: IntGauge,
    pub failed: IntCounter,
}

impl Proposals {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            pending: gauge(r, "etcd_server_proposals_pending", "Requests that wait for their log entry to be applied."),
            failed: counter(
                r,
                "etcd_server_proposals_failed_total",
                "Requests whose log entry was refused, lost or not applied in time.",
            ),
        }
    }
}

/// The log and the store on disk.
#[derive(Debug)]
pub struct Disk {
    /// One fdatasync of the log.
    pub wal_fsync: Histogram,
    /// One write to the log, before its sync.
    pub wal_write: Histogram,
    /// Bytes written to the log. Only ever added to, a gauge for etcd's sake.
    pub wal_write_bytes: IntGauge,
    /// One checkpoint of the store.
    pub backend_commit: Histogram,
    /// One copy of the store as a snapshot.
    pub backend_snapshot: Histogram,
    pub backend_defrag: Histogram,
    /// 1 while a defragmentation runs.
    pub defrag_inflight: IntGauge,
}

impl Disk {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            wal_fsync: disk_time(r, "etcd_disk_wal_fsync_duration_seconds", "Time of one sync of the log."),
            wal_write: disk_time(r, "etcd_disk_wal_write_duration_seconds", "Time of one write to the log."),
            wal_write_bytes: gauge(r, "etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            backend_commit: disk_time(
                r,
                "etcd_disk_backend_commit_duration_seconds",
                "Time of one checkpoint of the store.",
            ),
            backend_snapshot: histogram(
                r,
                "etcd_disk_backend_snapshot_duration_seconds",
                "Time of one snapshot of the store.",
                0.01,
                17,
            ),
            backend_defrag: histogram(
                r,
                "etcd_disk_backend_defrag_duration_seconds",
                "Time of one defragmentation.",
                0.1,
                13,
            ),
            defrag_inflight: gauge(r, "etcd_disk_defrag_inflight", "1 while a defragmentation runs."),
        }
    }
}

/// The key space. Sizes and revisions are read when scraped.
#[derive(Debug)]
pub struct Mvcc {
    /// Ranges, puts and deletes, those inside transactions too; transactions that changed something or had compares.
    pub ranges: IntCounter,
    pub puts: IntCounter,
    pub deletes: IntCounter,
    pub txns: IntCounter,
    /// Keys and values of puts in bytes. Only ever added to.
    pub put_bytes: IntGauge,
    /// Events handed to watchers.
    pub events: IntCounter,
    pub hash: Histogram,
    pub hash_rev: Histogram,
    /// Revisions that compactions removed.
    pub compacted_keys: IntCounter,
    /// Unix time in seconds.
    pub last_compaction: IntGauge,
    /// Milliseconds.
    pub compaction_pause: Histogram,
    /// Milliseconds.
    pub compaction_total: Histogram,
    /// Milliseconds.
    pub index_compaction_pause: Histogram,
}

impl Mvcc {
    pub(super) fn new(r: &Registry) -> Self {
        let pause = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds";
        let total = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds";
        let index = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds";
        Self {
            ranges: counter(r, "etcd_mvcc_range_total", "Ranges this member has read."),
            puts: counter(r, "etcd_mvcc_put_total", "Puts this member has applied."),
            deletes: counter(r, "etcd_mvcc_delete_total", "Deletes this member has applied."),
            txns: counter(r, "etcd_mvcc_txn_total", "Transactions this member has applied."),
            put_bytes: gauge(
                r,
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of keys and values put at this member.",
            ),
            events: counter(r, "etcd_debugging_mvcc_events_total", "Events this member has sent."),
            hash: histogram(r, "etcd_mvcc_hash_duration_seconds", "Time of hashing the whole store.", 0.01, 15),
            hash_rev: histogram(
                r,
                "etcd_mvcc_hash_rev_duration_seconds",
                "Time of hashing the keys up to a revision.",
                0.01,
                15,
            ),
            compacted_keys: counter(
                r,
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Revisions removed by compaction.",
            ),
            last_compaction: gauge(
                r,
                "etcd_debugging_mvcc_db_compaction_last",
                "Unix time of the last compaction, 0 since the start.",
            ),
            compaction_pause: histogram(r, pause, "Time of one step of compacting the store.", 1.0, 13),
            compaction_total: histogram(r, total, "Time of compacting the store.", 100.0, 14),
            index_compaction_pause: histogram(r, index, "Time the key index was held by a compaction.", 0.5, 14),
        }
    }
}

#[derive(Debug)]
pub struct Leases {
    pub granted: IntCounter,
    pub revoked: IntCounter,
    /// Keepalives that a leader answered.
    pub renewed: IntCounter,
    pub expired: IntCounter,
    /// The TTL of each lease granted or renewed, in seconds.
    pub ttl: Histogram,
}

impl Leases {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            granted: counter(r, "etcd_debugging_lease_granted_total", "Leases granted."),
            revoked: counter(r, "etcd_debugging_lease_revoked_total", "Leases revoked."),
            renewed: counter(r, "etcd_debugging_lease_renewed_total", "Keepalives this member answered as leader."),
            expired: counter(
                r,
                "etcd_debugging_server_lease_expired_total",
                "Leases this member let expire as leader.",
            ),
            ttl: histogram(r, "etcd_debugging_lease_ttl_total", "Times to live of leases, in seconds.", 1.0, 24),
        }
    }
}

/// Snapshots on their way to and from disk.
#[derive(Debug)]
pub struct Snapshots {
    /// A snapshot received from another member.
    pub db_save: Histogram,
    pub db_fsync: Histogram,
    /// This member's own.
    pub save: Histogram,
    pub encode: Histogram,
    pub fsync: Histogram,
}

impl Snapshots {
    pub(super) fn new(r: &Registry) -> Self {
        let save = "etcd_debugging_snap_save_total_duration_seconds";
        let encode = "etcd_debugging_snap_save_marshalling_duration_seconds";
        Self {
            db_save: histogram(
                r,
                "etcd_snap_db_save_total_duration_seconds",
                "Time of saving a received snapshot.",
                0.1,
                10,
            ),
            db_fsync: disk_time(r, "etcd_snap_db_fsync_duration_seconds", "Time of syncing a received snapshot."),
            save: disk_time(r, save, "Time of saving a snapshot."),
            encode: disk_time(r, encode, "Time of encoding a snapshot."),
            fsync: disk_time(r, "etcd_snap_fsync_duration_seconds", "Time of syncing a snapshot."),
        }
    }
}

/// What `/health`, `/livez` and `/readyz` answered.
#[derive(Debug)]
pub struct Health {
    pub successes: IntCounter,
    pub failures: IntCounter,
    results: IntGaugeVec,
    counts: IntCounterVec,
}

impl Health {
    pub(super) fn new(r: &Registry) -> Self {
        let results = Opts::new(
            "etcd_server_healthcheck",
            "1 for a check that passed when it was last made, 0 for one that failed.",
        );
        let counts = Opts::new("etcd_server_healthchecks_total", "Checks made, by their outcome.");
        Self {
            successes: counter(r, "etcd_server_health_success", "Requests of /health that found the member healthy."),
            failures: counter(r, "etcd_server_health_failures", "Requests of /health that did not."),
            results: register(r, IntGaugeVec::new(results, &["type", "name"])),
            counts: register(r, IntCounterVec::new(counts, &["type", "name", "status"])),
        }
    }

    /// One check of `kind` ("livez", "readyz") was made.
    pub fn checked(&self, kind: &str, name: &str, passed: bool) {
        self.results.with_label_values(&[kind, name]).set(i64::from(passed));
        let status = if passed { "success" } else { "error" };
        self.counts.with_label_values(&[kind, name, status]).inc();
    }
}
