//! Which chunks there are: a row a chunk, in memory while the store is open and in the store beside the chunks, so that
//! opening reads a few bytes a chunk and not the records.
//!
//! A row's value is 24 bytes, little-endian: the last revision's `main` (8) and `sub` (4), records (4), bytes of the
//! chunk (4), CRC-32C of the first revision's 16 bytes and the 20 before (4).

use std::collections::BTreeMap;

use keepstone_state::Revision;

use crate::{chunk::Packed, keys::revision_bytes};

const ROW: usize = 24;

/// What is known about a chunk without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkInfo {
    pub last: Revision,
    pub records: u32,
    /// Records that were reported dead. A count that steers rewriting, never a fact that records are dropped by.
    pub dead: u32,
    pub bytes: u32,
}

impl ChunkInfo {
    pub fn of(packed: &Packed) -> Self {
        Self {
            last: packed.last,
            records: packed.records,
            dead: 0,
            bytes: u32::try_from(packed.bytes.len()).expect("a chunk is far smaller than 4 GiB"),
        }
    }

    /// The bytes that its dead records are taken to hold.
    pub fn dead_bytes(&self) -> u64 {
        u64::from(self.bytes) * u64::from(self.dead) / u64::from(self.records.max(1))
    }

    pub fn encode(&self, first: Revision) -> Vec<u8> {
        let sub = u32::try_from(self.last.sub).expect("a transaction has under 2^32 changes");
        let mut row = Vec::with_capacity(ROW);
        row.extend_from_slice(&self.last.main.to_le_bytes());
        for part in [sub, self.records, self.bytes] {
            row.extend_from_slice(&part.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&revision_bytes(first)), &row);
        row.extend_from_slice(&crc.to_le_bytes());
        row
    }

    pub fn decode(first: Revision, row: &[u8]) -> Option<Self> {
        if row.len() != ROW {
            return None;
        }
        let u32_at = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(row.get(at..at + 4)?.try_into().ok()?)) };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&revision_bytes(first)), &row[..20]);
        if crc != u32_at(20)? {
            return None;
        }
        let main = i64::from_le_bytes(row[..8].try_into().ok()?);
        let info = Self {
            last: Revision::new(main, i64::from(u32_at(8)?)),
            records: u32_at(12)?,
            dead: 0,
            bytes: u32_at(16)?,
        };
        (info.last >= first && info.records > 0).then_some(info)
    }
}

/// All chunks by their first revision, with running sums. About 100 bytes a chunk.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    chunks: BTreeMap<Revision, ChunkInfo>,
    bytes: u64,
    dead_bytes: u64,
}

impl Directory {
    /// Adds a chunk, or replaces the one that starts at the same revision.
    pub fn put(&mut self, first: Revision, info: ChunkInfo) {
        self.remove(first);
        self.bytes += u64::from(info.bytes);
        self.dead_bytes += info.dead_bytes();
        self.chunks.insert(first, info);
    }

    pub fn remove(&mut self, first: Revision) -> Option<ChunkInfo> {
        let info = self.chunks.remove(&first)?;
        self.bytes -= u64::from(info.bytes);
        self.dead_bytes -= info.dead_bytes();
        Some(info)
    }

    /// Sets how many of a chunk's records are dead; more than it has counts as all.
    pub fn set_dead(&mut self, first: Revision, dead: u32) {
        if let Some(info) = self.chunks.get_mut(&first) {
            self.dead_bytes -= info.dead_bytes();
            info.dead = dead.min(info.records);
            self.dead_bytes += info.dead_bytes();
        }
    }

    /// Counts the record at `at` as dead in the chunk that spans it, if one does.
    pub fn mark_dead(&mut self, at: Revision) -> bool {
        let Some((first, info)) = self.spanning(at) else {
            return false;
        };
        self.set_dead(first, info.dead + 1);
        true
    }

    pub fn get(&self, first: Revision) -> Option<ChunkInfo> {
        self.chunks.get(&first).copied()
    }

    /// The chunk whose revisions span `at`; whether it has a record at `at` only the chunk knows.
    pub fn spanning(&self, at: Revision) -> Option<(Revision, ChunkInfo)> {
        let (first, info) = self.chunks.range(..=at).next_back()?;
        (info.last >= at).then_some((*first, *info))
    }

    /// The first chunk that holds anything at or after `at`.
    pub fn at_or_after(&self, at: Revision) -> Option<(Revision, ChunkInfo)> {
        self.spanning(at).or_else(|| {
            let (first, info) = self.chunks.range(at..).next()?;
            Some((*first, *info))
        })
    }

    /// The chunks that start at or after `from`, in order.
    pub fn from(&self, from: Revision) -> impl Iterator<Item = (Revision, ChunkInfo)> + '_ {
        self.chunks.range(from..).map(|(first, info)| (*first, *info))
    }

    pub fn last(&self) -> Option<(Revision, ChunkInfo)> {
        self.chunks.last_key_value().map(|(first, info)| (*first, *info))
    }

    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(last: i64) -> ChunkInfo {
        ChunkInfo { last: Revision::new(last, 2), records: 10, dead: 0, bytes: 1000 }
    }

    #[test]
    fn a_row_survives_its_encoding_and_no_other() {
        let first = Revision::new(3, 1);
        let row = info(9).encode(first);
        assert_eq!(ChunkInfo::decode(first, &row), Some(info(9)));
        assert_eq!(ChunkInfo::decode(Revision::new(3, 2), &row), None);
        for byte in 0..row.len() {
            let mut bad = row.clone();
            bad[byte] ^= 4;
            assert_eq!(ChunkInfo::decode(first, &bad), None);
        }
    }

    #[test]
    fn sums_follow_the_chunks() {
        let mut directory = Directory::default();
        directory.put(Revision::new(1, 0), info(5));
        directory.put(Revision::new(7, 0), info(9));
        assert!(directory.mark_dead(Revision::new(3, 0)));
        assert!(!directory.mark_dead(Revision::new(6, 0)));
        assert_eq!((directory.bytes(), directory.dead_bytes()), (2000, 100));
        directory.set_dead(Revision::new(7, 0), 99);
        assert_eq!(directory.dead_bytes(), 1100);
        directory.put(Revision::new(7, 0), info(11));
        assert_eq!((directory.bytes(), directory.dead_bytes()), (2000, 100));
        directory.remove(Revision::new(1, 0));
        assert_eq!((directory.bytes(), directory.dead_bytes()), (1000, 0));
    }

    #[test]
    fn finds_chunks_by_what_they_span() {
        let mut directory = Directory::default();
        directory.put(Revision::new(1, 0), info(5));
        directory.put(Revision::new(7, 0), info(9));
        let start = |at| directory.at_or_after(Revision::new(at, 0)).map(|(first, _)| first.main);
        assert_eq!((start(0), start(5), start(6), start(10)), (Some(1), Some(1), Some(7), None));
        assert!(directory.spanning(Revision::new(6, 0)).is_none());
    }
}
