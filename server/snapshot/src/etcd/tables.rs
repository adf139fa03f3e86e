//! The plain types a snapshot is made of.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point in the history: `main` counts writes, `sub` the changes within one. Both are >= 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub revision: Revision,
    /// The key was deleted; `value` then holds the key alone.
    pub tombstone: bool,
    /// Canonical `mvccpb.KeyValue` bytes. Empty only in the marker record that
    /// `etcdutl snapshot restore --bump-revision` leaves at the new current revision.
    pub value: Bytes,
}

/// A lease as stored; seconds. The keys attached to it follow from the records.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Lease {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    /// What was left at the last checkpoint, 0 if there was none.
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

/// A raised alarm: `kind` is `etcdserverpb.AlarmType` (1 NOSPACE, 2 CORRUPT).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Alarm {
    #[prost(uint64, tag = "1")]
    pub member_id: u64,
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

/// A member as etcd stores it, in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: u64,
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Empty until the member has started once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub client_urls: Vec<String>,
}

/// Raft's configuration (`raftpb.ConfState`), JSON in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfState {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voters_outgoing: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners_next: Vec<u64>,
    #[serde(default)]
    pub auto_leave: bool,
}

/// A running downgrade, JSON in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    #[serde(rename = "target-version", default)]
    pub target_version: String,
    #[serde(default)]
    pub enabled: bool,
}

/// The `meta` bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaTable {
    pub conf_state: Option<ConfState>,
    /// Raft index of the last applied entry; 0 is not stored.
    pub consistent_index: u64,
    /// Term of that entry; 0 is not stored.
    pub term: u64,
    /// Revision up to which history is gone; 0 (never compacted) is not stored.
    pub finished_compact: i64,
    /// Revision up to which history may be partly gone already: a compaction that was begun. 0 is not stored.
    pub scheduled_compact: i64,
    /// `3.6.0` for etcd 3.6; 3.5 and older have none.
    pub storage_version: Option<String>,
}

/// The three auth buckets. Rows are `authpb.User` and `authpb.Role` bytes by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthTable {
    /// `None`: auth was never switched on or off.
    pub enabled: Option<bool>,
    /// etcd starts at 1; 0 is not stored.
    pub revision: u64,
    /// Ascending by name.
    pub users: Vec<(Bytes, Bytes)>,
    /// Ascending by name.
    pub roles: Vec<(Bytes, Bytes)>,
}

/// Everything but records and leases, which are streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    pub alarms: Vec<Alarm>,
    pub auth: AuthTable,
    /// Such as `3.6.0`.
    pub cluster_version: Option<String>,
    pub downgrade: Option<Downgrade>,
    pub members: Vec<Member>,
    pub removed_members: Vec<u64>,
    pub meta: MetaTable,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's calling convention")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Go writes an absent list as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
