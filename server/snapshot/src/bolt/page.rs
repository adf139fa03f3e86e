//! One branch or leaf page, read whole and taken apart with every offset checked.

use bytes::Bytes;

use super::error::ReadError;
use super::format::{
    BUCKET_HEADER_BYTES, ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, PAGE_HEADER_BYTES, PageHeader, Pgid,
    u32_at, u64_at,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

#[derive(Debug)]
pub(super) struct Node {
    /// The page in the file; for an inlined bucket the page its entry is on.
    pub id: Pgid,
    pub kind: Kind,
    pub count: usize,
    raw: Bytes,
}

pub(super) struct LeafElement {
    pub key: Bytes,
    pub value: Bytes,
    pub is_bucket: bool,
}

/// What a bucket entry's value says.
pub(super) enum BucketRoot {
    Page(Pgid),
    Inline(Node),
}

impl Node {
    /// `raw` is the page with its overflow pages, header included.
    pub fn parse(id: Pgid, header: PageHeader, raw: Bytes) -> Result<Self, ReadError> {
        let kind = match header.flags {
            FLAG_BRANCH => Kind::Branch,
            FLAG_LEAF => Kind::Leaf,
            other => {
                let what = format!("neither branch nor leaf, flags {other:#06x}");
                return Err(ReadError::corrupt(id, what));
            }
        };
        let count = usize::from(header.count);
        if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > raw.len() {
            let what = format!("{count} elements do not fit {} bytes", raw.len());
            return Err(ReadError::corrupt(id, what));
        }
        if kind == Kind::Branch && count == 0 {
            return Err(ReadError::corrupt(id, "branch without children"));
        }
        Ok(Self { id, kind, count, raw })
    }

    /// Element `index < count` of a leaf. The slices share the page's memory.
    pub fn leaf(&self, index: usize) -> Result<LeafElement, ReadError> {
        debug_assert_eq!(self.kind, Kind::Leaf);
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let flags = u32_at(&self.raw, at);
        let key_bytes = u32_at(&self.raw, at + 8);
        let value_bytes = u32_at(&self.raw, at + 12);
        let data = self.data(index, u32_at(&self.raw, at + 4), key_bytes, value_bytes)?;
        Ok(LeafElement {
            key: data.slice(..key_bytes as usize),
            value: data.slice(key_bytes as usize..),
            is_bucket: flags & ELEMENT_BUCKET != 0,
        })
    }

    /// Element `index < count` of a branch: the child's lowest key and its page.
    pub fn branch(&self, index: usize) -> Result<(Bytes, Pgid), ReadError> {
        debug_assert_eq!(self.kind, Kind::Branch);
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let key_bytes = u32_at(&self.raw, at + 4);
        let key = self.data(index, u32_at(&self.raw, at), key_bytes, 0)?;
        Ok((key, u64_at(&self.raw, at + 8)))
    }

    /// Key of element `index < count`, whatever the kind.
    pub fn key(&self, index: usize) -> Result<Bytes, ReadError> {
        match self.kind {
            Kind::Branch => Ok(self.branch(index)?.0),
            Kind::Leaf => Ok(self.leaf(index)?.key),
        }
    }

    /// How many elements have a key below `key` (or equal to it, with `or_equal`), given ascending keys.
    pub fn count_below(&self, key: &[u8], or_equal: bool) -> Result<usize, ReadError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let here = self.key(middle)?;
            if here < key || (or_equal && here == key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Key and value bytes of an element whose header says `pos` (from that header), both sizes.
    fn data(&self, index: usize, pos: u32, key: u32, value: u32) -> Result<Bytes, ReadError> {
        let bad = |what: &str| Err(ReadError::corrupt(self.id, format!("element {index}: {what}")));
        if key == 0 {
            return bad("empty key");
        }
        let element_at = (PAGE_HEADER_BYTES + index * ELEMENT_BYTES) as u64;
        let start = element_at + u64::from(pos);
        let end = start + u64::from(key) + u64::from(value);
        if start < (PAGE_HEADER_BYTES + self.count * ELEMENT_BYTES) as u64 {
            return bad("data overlaps the element headers");
        }
        if end > self.raw.len() as u64 {
            return bad("data runs past the page");
        }
        // Both are at most raw.len() here.
        Ok(self.raw.slice(start as usize..end as usize))
    }
}

impl BucketRoot {
    /// Takes apart the value of a bucket entry found on page `id`.
    pub fn parse(id: Pgid, value: &Bytes) -> Result<Self, ReadError> {
        if value.len() < BUCKET_HEADER_BYTES {
            return Err(ReadError::corrupt(id, "bucket header is cut short"));
        }
        let root = u64_at(value, 0);
        if root != 0 {
            return Ok(Self::Page(root));
        }
        let raw = value.slice(BUCKET_HEADER_BYTES..);
        let Some(header) = raw.first_chunk() else {
            return Err(ReadError::corrupt(id, "inline bucket is cut short"));
        };
        let node = Node::parse(id, PageHeader::decode(header), raw)?;
        if node.kind != Kind::Leaf {
            return Err(ReadError::corrupt(id, "inline bucket is not a leaf"));
        }
        Ok(Self::Inline(node))
    }
}
