//! The keys of the one tree. `docs/format-store.md` is the reference.
//!
//! The order of the prefixes matters to the speed, not to the meaning: a backend rewrites whole leaves, and the big cold
//! chunks must not share a leaf with the small rows that every batch rewrites.

use std::ops::Range;

use keepstone_state::Revision;

/// The format that this program reads and writes.
pub(crate) const FORMAT: u32 = 1;

const CHUNK: u8 = 0x10;
const DIRECTORY: u8 = 0x20;
const META: u8 = 0x30;
const TABLE: u8 = 0x40;
const END: u8 = 0x50;

/// Holds [`FORMAT`] as 4 bytes, little-endian.
pub(crate) const FORMAT_KEY: &[u8] = &[META, b'f'];
/// Holds the caller's mark of the last run that is in the store.
pub(crate) const APPLIED_KEY: &[u8] = &[META, b'a'];

pub(crate) const DIRECTORY_RANGE: Range<&[u8]> = &[DIRECTORY]..&[META];
pub(crate) const TABLE_RANGE: Range<&[u8]> = &[TABLE]..&[END];

pub(crate) const REVISION_BYTES: usize = 16;

/// A revision as bytes that sort as it does. Revisions are never negative.
pub(crate) fn revision_bytes(at: Revision) -> [u8; REVISION_BYTES] {
    let mut bytes = [0; REVISION_BYTES];
    bytes[..8].copy_from_slice(&at.main.to_be_bytes());
    bytes[8..].copy_from_slice(&at.sub.to_be_bytes());
    bytes
}

pub(crate) fn parse_revision(bytes: &[u8]) -> Option<Revision> {
    let (main, rest) = bytes.split_first_chunk::<8>()?;
    let (sub, rest) = rest.split_first_chunk::<8>()?;
    rest.is_empty().then(|| Revision::new(i64::from_be_bytes(*main), i64::from_be_bytes(*sub)))
}

fn prefixed(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(prefix);
    key.extend_from_slice(rest);
    key
}

pub(crate) fn chunk_key(first: Revision) -> Vec<u8> {
    prefixed(CHUNK, &revision_bytes(first))
}

pub(crate) fn directory_key(first: Revision) -> Vec<u8> {
    prefixed(DIRECTORY, &revision_bytes(first))
}

pub(crate) fn table_key(key: &[u8]) -> Vec<u8> {
    prefixed(TABLE, key)
}
