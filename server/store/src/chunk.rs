//! A chunk: the records of consecutive revisions as one value of the store.
//!
//! Integers are little-endian.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of the 16 bytes of the first revision, as in the key, and of everything from byte 4 on |
//! | 4 | 4 | 1, the version of this layout |
//! | 8 | 4 | `n`, records in the chunk |
//! | 12 | 12 `n` | slots: `main` less the first record's `main`, `sub`, end of the record's bytes with bit 31 for a tombstone |
//! | 12 + 12 `n` | | the records' bytes, back to back; ends count from here |
//!
//! This module does no IO and knows no store.

use bytes::Bytes;
use keepstone_proto::KeyValue;
use keepstone_state::{Record, Revision};

use crate::keys::revision_bytes;

const VERSION: u32 = 1;
const HEAD: usize = 12;
/// What a record takes in a chunk beside its bytes.
pub(crate) const SLOT: usize = 12;
const TOMBSTONE: u32 = 1 << 31;

/// Builds one chunk, record by record.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    first: Revision,
    last: Revision,
    slots: Vec<u8>,
    data: Vec<u8>,
}

/// A finished chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub first: Revision,
    pub last: Revision,
    pub records: u32,
    pub bytes: Vec<u8>,
}

impl Builder {
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether `record` may join without making the chunk larger than `limit`. An empty chunk takes any record.
    pub fn has_room(&self, record: &Record, limit: usize) -> bool {
        self.is_empty()
            || (self.len() + SLOT + record.kv.raw().len() <= limit
                && u32::try_from(record.at.main - self.first.main).is_ok())
    }

    fn len(&self) -> usize {
        HEAD + self.slots.len() + self.data.len()
    }

    /// Adds a record, which must come after the last one and fit.
    pub fn push(&mut self, record: &Record) {
        if self.is_empty() {
            self.first = record.at;
        } else {
            assert!(record.at > self.last, "records are packed in their order");
        }
        self.last = record.at;
        self.data.extend_from_slice(record.kv.raw());
        let main =
            u32::try_from(record.at.main - self.first.main).expect("has_room keeps a chunk's revisions within 32 bits");
        let sub = u32::try_from(record.at.sub).expect("a transaction has under 2^32 changes");
        let end = u32::try_from(self.data.len())
            .ok()
            .filter(|end| end & TOMBSTONE == 0)
            .expect("a record is far smaller than 2 GiB");
        let flag = if record.tombstone { TOMBSTONE } else { 0 };
        for part in [main, sub, end | flag] {
            self.slots.extend_from_slice(&part.to_le_bytes());
        }
    }

    /// The chunk, leaving the builder empty.
    pub fn finish(&mut self) -> Packed {
        assert!(!self.is_empty(), "an empty chunk is never written");
        let records = u32::try_from(self.slots.len() / SLOT).expect("bounded by the chunk's size");
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&records.to_le_bytes());
        bytes.extend_from_slice(&self.slots);
        bytes.extend_from_slice(&self.data);
        let crc = checksum(self.first, &bytes);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        self.slots.clear();
        self.data.clear();
        Packed { first: self.first, last: self.last, records, bytes }
    }
}

fn checksum(first: Revision, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&revision_bytes(first)), &bytes[4..])
}

/// A chunk that has passed its check. Clones share the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    first: Revision,
    records: usize,
    bytes: Bytes,
}

/// One record of a chunk; its bytes are a part of the chunk's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub at: Revision,
    pub tombstone: bool,
    pub kv: &'a [u8],
}

impl Chunk {
    /// Checks the bytes that are stored under `first`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(first: Revision, bytes: Bytes) -> Result<Self, String> {
        if bytes.len() < HEAD {
            return Err(format!("{} bytes are too few for a chunk", bytes.len()));
        }
        let (stored, computed) = (read_u32(&bytes, 0), checksum(first, &bytes));
        if stored != computed {
            return Err(format!("CRC {computed:08x}, stored is {stored:08x}"));
        }
        let version = read_u32(&bytes, 4);
        if version != VERSION {
            return Err(format!("layout {version} is not known"));
        }
        let records = read_u32(&bytes, 8) as usize;
        let chunk = Self { first, records, bytes };
        chunk.check_slots()?;
        Ok(chunk)
    }

    /// The CRC has spoken for the bytes; this finds what a faulty writer may have left.
    fn check_slots(&self) -> Result<(), String> {
        let data = self
            .records
            .checked_mul(SLOT)
            .and_then(|slots| self.bytes.len().checked_sub(HEAD + slots))
            .ok_or("more slots than bytes")?;
        if self.records == 0 || self.at(0) != self.first {
            return Err("the first slot is not the key's".to_owned());
        }
        let mut from = 0;
        for index in 0..self.records {
            let end = self.end(index);
            if end < from || end > data {
                return Err(format!("slot {index} ends outside the chunk"));
            }
            from = end;
        }
        if from == data { Ok(()) } else { Err("bytes after the last record".to_owned()) }
    }

    pub fn first(&self) -> Revision {
        self.first
    }

    pub fn records(&self) -> usize {
        self.records
    }

    pub fn last(&self) -> Revision {
        self.at(self.records - 1)
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn slot(&self, index: usize, part: usize) -> u32 {
        read_u32(&self.bytes, HEAD + index * SLOT + part)
    }

    fn at(&self, index: usize) -> Revision {
        Revision::new(self.first.main + i64::from(self.slot(index, 0)), i64::from(self.slot(index, 4)))
    }

    fn end(&self, index: usize) -> usize {
        (self.slot(index, 8) & !TOMBSTONE) as usize
    }

    /// The record in slot `index`.
    pub fn entry(&self, index: usize) -> Entry<'_> {
        let data = HEAD + self.records * SLOT;
        let from = if index == 0 { 0 } else { self.end(index - 1) };
        Entry {
            at: self.at(index),
            tombstone: self.slot(index, 8) & TOMBSTONE != 0,
            kv: &self.bytes[data + from..data + self.end(index)],
        }
    }

    /// The first slot at or after `at`; `records()` if there is none.
    pub fn seek(&self, at: Revision) -> usize {
        let (mut low, mut high) = (0, self.records);
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) < at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The record at exactly `at`.
    pub fn find(&self, at: Revision) -> Option<Entry<'_>> {
        let index = self.seek(at);
        (index < self.records && self.at(index) == at).then(|| self.entry(index))
    }

    /// The record in slot `index`, sharing the chunk's bytes.
    ///
    /// # Errors
    /// When its bytes are no canonical key-value.
    pub fn record(&self, index: usize) -> Result<Record, String> {
        let entry = self.entry(index);
        let kv = KeyValue::from_canonical(self.bytes.slice_ref(entry.kv)).map_err(|error| error.to_string())?;
        Ok(Record { at: entry.at, tombstone: entry.tombstone, prev: None, kv })
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let part = bytes[at..at + 4].try_into().expect("a slice of four is four bytes");
    u32::from_le_bytes(part)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use keepstone_proto::KeyValueParts;

    fn record(main: i64, sub: i64, value: &[u8]) -> Record {
        Record {
            at: Revision::new(main, sub),
            tombstone: value.is_empty(),
            prev: None,
            kv: KeyValue::new(&KeyValueParts { key: b"k", mod_revision: main, value, ..KeyValueParts::default() }),
        }
    }

    fn packed() -> (Vec<Record>, Packed) {
        let records = vec![
            record(7, 0, b"one"),
            record(7, 1, b""),
            record(9, 0, b"three"),
            record(7 + i64::from(u32::MAX), 3, b"four"),
        ];
        let mut builder = Builder::default();
        for record in &records {
            assert!(builder.has_room(record, 1 << 16));
            builder.push(record);
        }
        assert!(!builder.has_room(&record(8 + i64::from(u32::MAX), 0, b"x"), 1 << 16));
        (records, builder.finish())
    }

    #[test]
    fn gives_back_what_was_packed() {
        let (records, packed) = packed();
        let chunk = Chunk::check(packed.first, packed.bytes.into()).unwrap();
        assert_eq!(chunk.records(), records.len());
        assert_eq!(chunk.last(), packed.last);
        for (index, record) in records.iter().enumerate() {
            assert_eq!(&chunk.record(index).unwrap(), record);
            assert_eq!(chunk.find(record.at).unwrap().kv, &record.kv.raw()[..]);
        }
        assert!(chunk.find(Revision::new(8, 0)).is_none());
        assert_eq!(chunk.seek(Revision::new(8, 0)), 2);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, packed) = packed();
        for bit in 0..packed.bytes.len() * 8 {
            let mut bytes = packed.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Chunk::check(packed.first, bytes.into()).is_err(), "bit {bit}");
        }
        let other = Revision::new(8, 0);
        assert!(Chunk::check(other, packed.bytes.into()).is_err());
    }

    #[test]
    fn every_cut_is_noticed() {
        let (_, packed) = packed();
        for len in 0..packed.bytes.len() {
            let bytes = Bytes::copy_from_slice(&packed.bytes[..len]);
            assert!(Chunk::check(packed.first, bytes).is_err(), "{len} bytes");
        }
    }
}
