//! Old names: etcd's `experimental-` flags, and what it dropped long ago but still accepts.

use super::{Effect, Flag, Kind};

const fn alias(name: &'static str, kind: Kind, default: &'static str, of: &'static str) -> Flag {
    Flag::new(name, kind, default, Effect::Alias(of), "")
}

const fn gate(name: &'static str, default: &'static str, feature: &'static str) -> Flag {
    Flag::new(name, Kind::Bool, default, Effect::GateAlias(feature), "")
}

const fn gone(name: &'static str) -> Flag {
    Flag::new(name, Kind::Nothing, "", Effect::NoEffect("flag is no longer supported - ignoring"), "")
}

pub(super) const ALIASES: &[Flag] = &[
    gate("experimental-initial-corrupt-check", "false", "InitialCorruptCheck"),
    gate("experimental-compact-hash-check-enabled", "false", "CompactHashCheck"),
    gate("experimental-enable-lease-checkpoint", "false", "LeaseCheckpoint"),
    gate("experimental-enable-lease-checkpoint-persist", "false", "LeaseCheckpointPersist"),
    gate("experimental-txn-mode-write-with-shared-buffer", "true", "TxnModeWriteWithSharedBuffer"),
    gate("experimental-stop-grpc-service-on-defrag", "false", "StopGRPCServiceOnDefrag"),
    alias("experimental-corrupt-check-time", Kind::Duration, "0s", "corrupt-check-time"),
    alias("experimental-compact-hash-check-time", Kind::Duration, "1m", "compact-hash-check-time"),
    alias("experimental-compaction-batch-limit", Kind::Int, "0", "compaction-batch-limit"),
    alias("experimental-compaction-sleep-interval", Kind::Duration, "0s", "compaction-sleep-interval"),
    alias("experimental-watch-progress-notify-interval", Kind::Duration, "0s", "watch-progress-notify-interval"),
    alias("experimental-warning-apply-duration", Kind::Duration, "0s", "warning-apply-duration"),
    alias("experimental-warning-unary-request-duration", Kind::Duration, "0s", "warning-unary-request-duration"),
    alias("experimental-snapshot-catchup-entries", Kind::Uint, "5000", "snapshot-catchup-entries"),
    alias("experimental-bootstrap-defrag-threshold-megabytes", Kind::Uint, "0", "bootstrap-defrag-threshold-megabytes"),
    alias("experimental-memory-mlock", Kind::Bool, "false", "memory-mlock"),
    alias("experimental-downgrade-check-time", Kind::Duration, "5s", "downgrade-check-time"),
    alias("experimental-peer-skip-client-san-verification", Kind::Bool, "false", "peer-skip-client-san-verification"),
    alias("experimental-enable-distributed-tracing", Kind::Bool, "false", "enable-distributed-tracing"),
    alias("experimental-distributed-tracing-address", Kind::Text, "localhost:4317", "distributed-tracing-address"),
    alias("experimental-distributed-tracing-service-name", Kind::Text, "etcd", "distributed-tracing-service-name"),
    alias("experimental-distributed-tracing-instance-id", Kind::Text, "", "distributed-tracing-instance-id"),
    alias("experimental-distributed-tracing-sampling-rate", Kind::Int, "0", "distributed-tracing-sampling-rate"),
];

pub(super) const IGNORED: &[Flag] = &[
    gone("cluster-active-size"),
    gone("cluster-remove-delay"),
    gone("cluster-sync-interval"),
    gone("config"),
    gone("force"),
    gone("max-result-buffer"),
    gone("max-retry-attempts"),
    gone("peer-heartbeat-interval"),
    gone("peer-election-timeout"),
    gone("retry-interval"),
    gone("snapshot"),
    gone("v"),
    gone("vv"),
    gone("test.coverprofile"),
    gone("test.outputdir"),
];
