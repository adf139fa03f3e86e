//! The log in other programs' formats, for audits and for moving out.

pub mod etcd_wal;
