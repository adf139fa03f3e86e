//! What one member is, where it listens and how much it takes.

use super::{Flag, Kind, inert, on};

pub(super) const FLAGS: &[Flag] = &[
    on("name", Kind::Text, "default", "Human-readable name of this member."),
    on("data-dir", Kind::Text, "", "The data directory; ${name}.etcd where it is empty."),
    on("wal-dir", Kind::Text, "", "A directory of its own for the write-ahead log."),
    on(
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.",
    ),
    on(
        "listen-client-http-urls",
        Kind::Urls,
        "",
        "URLs to listen on for HTTP clients only; takes HTTP away from --listen-client-urls.",
    ),
    on("listen-peer-urls", Kind::Urls, "http://localhost:2380", "URLs to listen on for the other members."),
    on("snapshot-count", Kind::Uint, "10000", "Committed entries between two raft snapshots; 0 means the default."),
    on(
        "snapshot-catchup-entries",
        Kind::Uint,
        "5000",
        "Log entries kept behind a snapshot for slow followers; 0 means the default.",
    ),
    on("heartbeat-interval", Kind::Uint, "100", "Milliseconds between two heartbeats."),
    on(
        "election-timeout",
        Kind::Uint,
        "1000",
        "Milliseconds without a heartbeat before an election: at least 5 heartbeats, at most 50000.",
    ),
    on(
        "quota-backend-bytes",
        Kind::Int,
        "0",
        "Bytes of data after which the member raises a NOSPACE alarm; 0 means 2 GiB, a negative number no quota.",
    ),
    on("max-txn-ops", Kind::Uint, "128", "Operations allowed in one transaction."),
    on("max-request-bytes", Kind::Uint, "1572864", "Bytes allowed in one client request."),
    on("max-concurrent-streams", Kind::Uint32, "4294967295", "Streams each client connection may have open."),
    on("grpc-keepalive-min-time", Kind::Duration, "5s", "Shortest time between two pings of a client."),
    on(
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h",
        "Time between the server's pings to an idle client; 0 turns them off.",
    ),
    on(
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "Time after an unanswered ping until the connection is closed; 0 turns it off.",
    ),
    on("socket-reuse-port", Kind::Bool, "false", "Set SO_REUSEPORT on listeners."),
    on("socket-reuse-address", Kind::Bool, "false", "Set SO_REUSEADDR on listeners."),
    on("enable-grpc-gateway", Kind::Bool, "true", "Serve the JSON gateway."),
    on(
        "feature-gates",
        Kind::Gates,
        "",
        "Name=true|false pairs: AllAlpha, AllBeta, CompactHashCheck, InitialCorruptCheck, LeaseCheckpoint, \
         LeaseCheckpointPersist, StopGRPCServiceOnDefrag; SetMemberLocalAddr and TxnModeWriteWithSharedBuffer are \
         known and have no effect.",
    ),
    inert("max-snapshots", Kind::Uint, "5", "raft snapshots are handles, not files"),
    inert("max-wals", Kind::Uint, "5", "log segments are recycled below the last checkpoint"),
    inert("memory-mlock", Kind::Bool, "false", "data is not mapped into memory"),
    inert("backend-bbolt-freelist-type", Kind::Text, "", "there is no bbolt file"),
    inert("backend-batch-interval", Kind::Duration, "0s", "the log is the durability, checkpoints follow it"),
    inert("backend-batch-limit", Kind::Int, "0", "the log is the durability, checkpoints follow it"),
    inert("initial-election-tick-advance", Kind::Bool, "true", "elections do not wait for ticks at start"),
    inert("raft-read-timeout", Kind::Duration, "5s", "peer connections have their own timeouts"),
    inert("raft-write-timeout", Kind::Duration, "5s", "peer connections have their own timeouts"),
];
