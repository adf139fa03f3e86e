//! What can go wrong with a bbolt file, on either side.

use std::io;

use super::format::Pgid;

/// Why a file could not be read. `Corrupt` always names the page.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("page {page}: read failed: {source}")]
    Io { page: Pgid, source: io::Error },
    #[error("not a bbolt database: neither meta page is valid")]
    NotBolt,
    #[error("file is cut short: {have} bytes, its meta page speaks of {want}")]
    Truncated { have: u64, want: u64 },
    #[error("page {page}: {what}")]
    Corrupt { page: Pgid, what: String },
}

impl ReadError {
    pub(super) fn corrupt(page: Pgid, what: impl Into<String>) -> Self {
        Self::Corrupt { page, what: what.into() }
    }
}

/// Why a file could not be written. After any of these the output is not a database.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("write failed: {0}")]
    Io(#[from] io::Error),
    #[error("bucket names must ascend: {next:?} after {last:?}")]
    BucketOrder { last: String, next: String },
    #[error("keys must ascend within bucket {bucket:?}")]
    KeyOrder { bucket: String },
    #[error("a key must have 1 to 32768 bytes, not {0}")]
    KeySize(usize),
    #[error("a value may have at most 2147483646 bytes, not {0}")]
    ValueSize(usize),
    #[error("no bucket has been opened")]
    NoBucket,
    #[error("the second pass wrote other pages than the measured ones")]
    LayoutMismatch,
}
