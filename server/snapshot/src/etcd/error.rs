//! What can go wrong with an etcd file.

use std::io;

use super::tables::Revision;
use crate::bolt;

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Bolt(#[from] bolt::ReadError),
    #[error("reading the snapshot: {0}")]
    Io(#[from] io::Error),
    #[error("the snapshot does not match its SHA-256: it was changed or cut short")]
    Digest,
    #[error("not an etcd database: bucket {0:?} is missing")]
    MissingBucket(&'static str),
    #[error("page {page}, bucket {bucket}: {what}")]
    Row { bucket: &'static str, page: bolt::Pgid, what: String },
}

/// Why a snapshot could not be written. After any of these the output is not a database.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Bolt(#[from] bolt::WriteError),
    #[error("revisions must ascend: {next:?} after {last:?}")]
    RevisionOrder { last: Revision, next: Revision },
    #[error("a revision is negative: {0:?}")]
    NegativeRevision(Revision),
    #[error("two rows of bucket {0} have the same key")]
    Duplicate(&'static str),
    #[error("a table does not encode: {0}")]
    Json(#[from] serde_json::Error),
}
