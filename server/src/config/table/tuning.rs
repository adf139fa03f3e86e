//! Pace of the background work, and the switches that give up safety.

use super::{Flag, Kind, inert, on};

pub(super) const FLAGS: &[Flag] = &[
    on("compaction-batch-limit", Kind::Int, "0", "Revisions removed in one batch of a compaction; 0 means 1000."),
    on("compaction-sleep-interval", Kind::Duration, "0s", "Pause between two batches of a compaction; 0 means 10ms."),
    on(
        "watch-progress-notify-interval",
        Kind::Duration,
        "0s",
        "Time between progress notifications of an idle watch; 0 means 10m, the least is 100ms.",
    ),
    on(
        "compact-hash-check-time",
        Kind::Duration,
        "1m",
        "Pause before members that could not be compared after a compaction are asked again. They are compared after every compaction, whatever the gate CompactHashCheck says.",
    ),
    on(
        "corrupt-check-time",
        Kind::Duration,
        "0s",
        "Time between two comparisons of the members' data besides those after compactions; 0 turns them off.",
    ),
    inert("downgrade-check-time", Kind::Duration, "5s", "there is no older version to go back to"),
    inert("bootstrap-defrag-threshold-megabytes", Kind::Uint, "0", "space is given back while serving"),
    on(
        "unsafe-no-fsync",
        Kind::Bool,
        "false",
        "Never sync to disk. A crash loses acknowledged writes: for tests only.",
    ),
];
