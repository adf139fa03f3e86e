//! A group: what one write and one sync make durable, laid out over whole sectors.
//!
//! A group starts at a sector of its own and is padded to the end of its last one, so that synced sectors are never
//! written again. Its first sector begins with how many sectors it has, how many bytes of records, and the chain: a
//! checksum over every sector checksum before it. The first group of a segment carries the segment's header in front.
//!
//! Group n is written only after group n-1 was synced. So one intact sector of group n+1 proves that all of n was once
//! on the disk, whatever is found of it now.

use crate::record::Record;
use crate::sector::{self, DATA, SECTOR, STAMP};

/// Magic, version, sectors of the file, number.
pub(crate) const SEGMENT_HEADER: usize = 24;
/// Sectors, bytes, chain.
pub(crate) const GROUP_HEADER: usize = 12;
/// What a segment begins with.
pub(crate) const MAGIC: &[u8; 8] = b"KEEPWAL\n";
/// The version this program writes and reads.
pub(crate) const VERSION: u32 = 1;

/// Bytes of records that fit a group of `sectors` sectors, the first of a segment or not.
pub(crate) fn capacity(sectors: u64, first: bool) -> usize {
    let head = GROUP_HEADER + if first { SEGMENT_HEADER } else { 0 };
    (sectors as usize * DATA).saturating_sub(head)
}

/// Lays records over sectors.
pub(crate) struct Builder {
    buf: Vec<u8>,
    position: u32,
    capacity: usize,
    used: usize,
    head: usize,
}

impl Builder {
    /// A group for `position` of a segment of `sectors`; `buf` is reused. Segment `number`'s header goes in front when
    /// the group is its first.
    pub(crate) fn new(mut buf: Vec<u8>, position: u32, sectors: u32, number: u64) -> Self {
        buf.clear();
        let first = position == 0;
        let capacity = capacity(u64::from(sectors - position), first);
        let mut group = Self { buf, position, capacity, used: 0, head: 0 };
        if first {
            group.put(MAGIC);
            group.put(&VERSION.to_le_bytes());
            group.put(&sectors.to_le_bytes());
            group.put(&number.to_le_bytes());
        }
        group.put(&[0; GROUP_HEADER]);
        group.head = group.written();
        group
    }

    pub(crate) fn fits(&self, record: &Record) -> bool {
        self.used + record.len() <= self.capacity
    }

    /// Adds a record that fits; answers its place among the segment's data bytes.
    pub(crate) fn push(&mut self, record: &Record) -> u32 {
        debug_assert!(self.fits(record));
        let at = self.position as usize * DATA + self.written();
        self.used += record.len();
        record.encode(|bytes| self.put(bytes));
        u32::try_from(at).expect("a segment is at most 1 GiB")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Nothing to write: gives the buffer back.
    pub(crate) fn abandon(self) -> Vec<u8> {
        self.buf
    }

    /// Seals every sector; answers the bytes to write and the chain that the next group carries.
    pub(crate) fn finish(mut self, seq: u64, chain: u32) -> (Vec<u8>, u32) {
        self.buf.resize(self.buf.len().next_multiple_of(SECTOR), 0);
        let sectors = self.buf.len() / SECTOR;
        let at = STAMP + self.head - GROUP_HEADER;
        self.buf[at..at + 4].copy_from_slice(&(sectors as u32).to_le_bytes());
        self.buf[at + 4..at + 8].copy_from_slice(&(self.used as u32).to_le_bytes());
        self.buf[at + 8..at + 12].copy_from_slice(&chain.to_le_bytes());
        let mut next = chain;
        for (i, bytes) in self.buf.chunks_exact_mut(SECTOR).enumerate() {
            let crc = sector::seal(bytes, self.position + i as u32, seq);
            next = link(next, crc);
        }
        (self.buf, next)
    }

    /// Data bytes so far, headers included.
    fn written(&self) -> usize {
        let (whole, part) = (self.buf.len() / SECTOR, self.buf.len() % SECTOR);
        whole * DATA + part.saturating_sub(STAMP)
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.buf.len().is_multiple_of(SECTOR) {
                self.buf.extend_from_slice(&[0; STAMP]);
            }
            let room = SECTOR - self.buf.len() % SECTOR;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buf.extend_from_slice(now);
            bytes = later;
        }
    }
}

/// The chain after one more sector.
pub(crate) fn link(chain: u32, sector_crc: u32) -> u32 {
    crc32c::crc32c_append(chain, &sector_crc.to_le_bytes())
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) version: u32,
    /// Sectors of the file: one that was cut short is noticed.
    pub(crate) sectors: u32,
    /// What the file is named after; a recycled file that was not begun again has another.
    pub(crate) number: u64,
}

/// What a group's first sector says. Read only from a sector whose stamp verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The segment's header, where one is in front.
    pub(crate) segment: Option<SegmentHead>,
    /// Sectors of the group.
    pub(crate) sectors: u32,
    /// Bytes of records.
    pub(crate) bytes: u32,
    /// The chain before this group.
    pub(crate) chain: u32,
}

impl Head {
    /// Reads the head from the first sector's data; `None` if it cannot be one. A version that is not ours ends the
    /// reading there: only `segment` means something then.
    pub(crate) fn read(data: &[u8], first: bool) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
        let mut segment = None;
        let mut at = 0;
        if first {
            if &data[..8] != MAGIC {
                return None;
            }
            let number = u64::from_le_bytes(data[16..24].try_into().expect("eight bytes"));
            segment = Some(SegmentHead { version: u32_at(8), sectors: u32_at(12), number });
            at = SEGMENT_HEADER;
        }
        Some(Self { segment, sectors: u32_at(at), bytes: u32_at(at + 4), chain: u32_at(at + 8) })
    }

    /// Data bytes in front of the records.
    pub(crate) fn len(&self) -> usize {
        GROUP_HEADER + if self.segment.is_some() { SEGMENT_HEADER } else { 0 }
    }

    /// Whether the sizes can be true where `left` sectors are left.
    pub(crate) fn fits(&self, left: u32) -> bool {
        let data = self.sectors as usize * DATA;
        let need = self.len() + self.bytes as usize;
        self.sectors > 0 && self.sectors <= left && need <= data && need + DATA > data
    }
}
