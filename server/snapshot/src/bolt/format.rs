//! The fixed numbers and records of the file format: page header, meta page, checksum.
//!
//! bbolt writes host byte order; etcd runs on little-endian machines, so that is what is meant here.

/// Number of a page in the file; its byte offset is the number times the page size.
pub type Pgid = u64;

/// Page size of files we write, in bytes. Files with other sizes (powers of two) are read.
pub const PAGE_BYTES: usize = 4096;
/// Longest key bbolt accepts, in bytes.
pub const MAX_KEY_BYTES: usize = 32_768;
/// Longest value bbolt accepts, in bytes.
pub const MAX_VALUE_BYTES: usize = (1 << 31) - 2;

pub(super) const PAGE_HEADER_BYTES: usize = 16;
/// Size of an element header on a leaf page and on a branch page alike.
pub(super) const ELEMENT_BYTES: usize = 16;
/// `root` and `sequence` at the start of a bucket entry's value.
pub(super) const BUCKET_HEADER_BYTES: usize = 16;

pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_META: u16 = 0x04;
pub(super) const FLAG_FREELIST: u16 = 0x10;
/// Flag of a leaf element whose value is a bucket header.
pub(super) const ELEMENT_BUCKET: u32 = 0x01;

/// Freelist page id of a database that rebuilds its freelist on opening.
pub(super) const NO_FREELIST: Pgid = u64::MAX;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_BYTES: usize = 64;
const META_SUMMED_BYTES: usize = 56;
/// Bytes at the start of a meta page that must be read to decode it.
pub(super) const META_PAGE_BYTES: usize = PAGE_HEADER_BYTES + META_BYTES;

pub(super) const MIN_PAGE_BYTES: u64 = 1024;
pub(super) const MAX_PAGE_BYTES: u64 = 1024 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub id: Pgid,
    pub flags: u16,
    pub count: u16,
    pub overflow: u32,
}

impl PageHeader {
    pub fn encode(&self) -> [u8; PAGE_HEADER_BYTES] {
        let mut out = [0; PAGE_HEADER_BYTES];
        out[..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }

    pub fn decode(raw: &[u8; PAGE_HEADER_BYTES]) -> Self {
        Self { id: u64_at(raw, 0), flags: u16_at(raw, 8), count: u16_at(raw, 10), overflow: u32_at(raw, 12) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub page_bytes: u32,
    pub root: Pgid,
    pub freelist: Pgid,
    /// One past the last page in use.
    pub high_water: Pgid,
    pub txid: u64,
}

impl Meta {
    /// The used start of meta page `id`; the rest of the page is zero.
    pub fn encode_page(&self, id: Pgid) -> [u8; META_PAGE_BYTES] {
        let mut out = [0; META_PAGE_BYTES];
        let header = PageHeader { id, flags: FLAG_META, count: 0, overflow: 0 };
        out[..PAGE_HEADER_BYTES].copy_from_slice(&header.encode());
        let meta = &mut out[PAGE_HEADER_BYTES..];
        meta[..4].copy_from_slice(&MAGIC.to_le_bytes());
        meta[4..8].copy_from_slice(&VERSION.to_le_bytes());
        meta[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        // 12..16 flags and 24..32 the root bucket's sequence stay zero.
        meta[16..24].copy_from_slice(&self.root.to_le_bytes());
        meta[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        meta[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        meta[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let sum = fnv64a(&meta[..META_SUMMED_BYTES]);
        meta[56..64].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// `None` unless magic, version, checksum and page size are right. What the ids point at is
    /// for the caller to check.
    pub fn decode_page(page: &[u8; META_PAGE_BYTES]) -> Option<Self> {
        let meta = &page[PAGE_HEADER_BYTES..];
        let sum_ok = u64_at(meta, 56) == fnv64a(&meta[..META_SUMMED_BYTES]);
        if u32_at(meta, 0) != MAGIC || u32_at(meta, 4) != VERSION || !sum_ok {
            return None;
        }
        let page_bytes = u32_at(meta, 8);
        let size_ok =
            page_bytes.is_power_of_two() && (MIN_PAGE_BYTES..=MAX_PAGE_BYTES).contains(&u64::from(page_bytes));
        size_ok.then(|| Self {
            page_bytes,
            root: u64_at(meta, 16),
            freelist: u64_at(meta, 32),
            high_water: u64_at(meta, 40),
            txid: u64_at(meta, 48),
        })
    }
}

/// FNV-1a, 64 bits.
fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

// The three below are called with offsets already checked against the slice's length.

pub(super) fn u16_at(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(raw[at..at + 2].try_into().expect("two bytes"))
}

pub(super) fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(raw[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_published_vectors() {
        assert_eq!(fnv64a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv64a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn meta_round_trips_and_any_flipped_bit_is_seen() {
        let meta = Meta { page_bytes: 4096, root: 7, freelist: 8, high_water: 9, txid: 2 };
        let page = meta.encode_page(0);
        assert_eq!(Meta::decode_page(&page), Some(meta));
        for bit in PAGE_HEADER_BYTES * 8..META_PAGE_BYTES * 8 {
            let mut bad = page;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode_page(&bad), None, "bit {bit}");
        }
    }
}
