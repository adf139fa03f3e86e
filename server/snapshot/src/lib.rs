//! Point-in-time copies of a Keepstone cluster in the file format etcd uses, in both directions.
//!
//! [`bolt`] reads and writes bbolt database files and knows nothing of etcd. [`etcd`] lays etcd's
//! buckets over it: records by revision, leases, alarms, members, auth rows and the `meta` bucket.
//! The crate depends on no other Keepstone crate, keeps no state of its own, starts no thread and
//! never holds more than a few pages (plus the small tables) of a file in memory.

#![forbid(unsafe_code)]

pub mod bolt;
pub mod etcd;
