//! bbolt database files (go.etcd.io/bbolt, file format version 2): a sequential writer and a
//! read-only reader.
//!
//! A file is an array of pages. Pages 0 and 1 are meta pages, of which the valid one with the
//! higher transaction id counts. It names the root page of a B+tree whose leaves hold the buckets;
//! a bucket is again a tree, or, when small, a leaf inlined in its entry's value.
//!
//! The writer never updates a page it has written (the two meta pages apart), and the reader never
//! trusts a byte: every id, count, offset and length is checked against the file before use.

mod check;
mod cursor;
mod error;
mod format;
mod page;
mod reader;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

pub use check::CheckReport;
pub use cursor::{Cursor, Entry};
pub use error::{ReadError, WriteError};
pub use format::{MAX_KEY_BYTES, MAX_VALUE_BYTES, PAGE_BYTES, Pgid};
pub use reader::{BucketInfo, MAX_NODE_BYTES, ReadAt, Reader};
pub use writer::{Layout, Writer};
