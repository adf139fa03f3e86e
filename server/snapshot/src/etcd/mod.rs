//! etcd 3.6's storage schema over a bbolt file: what `etcdctl snapshot save` writes and what
//! `etcdutl snapshot status` and `restore` read.
//!
//! Keys and values of the buckets are facts of etcd (`server/storage/schema`, `server/storage/mvcc`).
//! This module interprets small tables; records and auth rows it hands on as the bytes they are.
//! It never decides what belongs into a snapshot.

mod codec;
mod error;
mod reader;
mod tables;
mod trailer;
mod writer;

pub use error::{Error, WriteError};
pub use reader::{Leases, Records, Snapshot};
pub use tables::{Alarm, AuthTable, ConfState, Downgrade, Lease, Member, MetaTable, Record, Revision, Tables};
pub use trailer::{TRAILER_BYTES, Trailer, append_trailer};
pub use writer::EtcdFile;

/// Bucket names, in the order they stand in the file.
mod names {
    pub const ALARM: &str = "alarm";
    pub const AUTH: &str = "auth";
    pub const AUTH_ROLES: &str = "authRoles";
    pub const AUTH_USERS: &str = "authUsers";
    pub const CLUSTER: &str = "cluster";
    pub const KEY: &str = "key";
    pub const LEASE: &str = "lease";
    pub const MEMBERS: &str = "members";
    pub const MEMBERS_REMOVED: &str = "members_removed";
    pub const META: &str = "meta";

    // Keys of `auth`, `cluster` and `meta`, ascending within each.
    pub const AUTH_ENABLED: &str = "authEnabled";
    pub const AUTH_REVISION: &str = "authRevision";
    pub const CLUSTER_VERSION: &str = "clusterVersion";
    pub const DOWNGRADE: &str = "downgrade";
    pub const CONF_STATE: &str = "confState";
    pub const CONSISTENT_INDEX: &str = "consistent_index";
    pub const FINISHED_COMPACT: &str = "finishedCompactRev";
    pub const SCHEDULED_COMPACT: &str = "scheduledCompactRev";
    pub const STORAGE_VERSION: &str = "storageVersion";
    pub const TERM: &str = "term";
}
