//! Builds one B+tree bottom-up from ascending keys.
//!
//! Pages go to a [`PageSink`] as they fill and are never touched again. What stays in memory is one
//! open leaf and one open branch page per level, plus the largest value.

use super::error::WriteError;
use super::format::{ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader, Pgid};

/// Where finished pages go; numbers them in the order they arrive.
pub(super) trait PageSink {
    /// Writes a page. `body` is everything after the header; the sink pads it to whole pages.
    fn page(&mut self, flags: u16, count: u16, body: &[&[u8]]) -> Result<Pgid, WriteError>;
}

/// Header and zero padding for a page of `body_bytes`: (header, pages taken, padding bytes).
pub(super) fn frame(id: Pgid, flags: u16, count: u16, body_bytes: usize) -> (PageHeader, u64, usize) {
    let used = PAGE_HEADER_BYTES + body_bytes;
    let pages = used.div_ceil(PAGE_BYTES);
    let overflow = u32::try_from(pages - 1).expect("a page holds at most one 2 GiB value");
    let header = PageHeader { id, flags, count, overflow };
    (header, pages as u64, pages * PAGE_BYTES - used)
}

#[derive(Default)]
pub(super) struct Tree {
    leaf: Leaf,
    levels: Vec<Vec<Child>>,
}

#[derive(Default)]
struct Leaf {
    first_key: Vec<u8>,
    elements: Vec<LeafElement>,
    data: Vec<u8>,
}

struct LeafElement {
    flags: u32,
    key_bytes: u32,
    value_bytes: u32,
}

struct Child {
    key: Vec<u8>,
    page: Pgid,
}

impl Tree {
    /// Adds an entry; the caller has checked order and sizes.
    pub fn push(&mut self, sink: &mut impl PageSink, flags: u32, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let grown = PAGE_HEADER_BYTES
            + (self.leaf.elements.len() + 1) * ELEMENT_BYTES
            + self.leaf.data.len()
            + key.len()
            + value.len();
        if grown > PAGE_BYTES && !self.leaf.elements.is_empty() {
            self.flush_leaf(sink)?;
        }
        if self.leaf.elements.is_empty() {
            self.leaf.first_key.extend_from_slice(key);
        }
        self.leaf.elements.push(LeafElement {
            flags,
            key_bytes: u32::try_from(key.len()).expect("key size was checked"),
            value_bytes: u32::try_from(value.len()).expect("value size was checked"),
        });
        self.leaf.data.extend_from_slice(key);
        self.leaf.data.extend_from_slice(value);
        Ok(())
    }

    /// Writes what is still open and returns the root page. An empty tree is one empty leaf.
    pub fn finish(mut self, sink: &mut impl PageSink) -> Result<Pgid, WriteError> {
        if self.levels.is_empty() || !self.leaf.elements.is_empty() {
            self.flush_leaf(sink)?;
        }
        let mut level = 0;
        loop {
            let children = std::mem::take(&mut self.levels[level]);
            if let [only] = children.as_slice() {
                debug_assert_eq!(level + 1, self.levels.len(), "a lone child is the root");
                return Ok(only.page);
            }
            let key = children[0].key.clone();
            let page = write_branch(sink, &children)?;
            self.add_child(sink, level + 1, Child { key, page })?;
            level += 1;
        }
    }

    fn flush_leaf(&mut self, sink: &mut impl PageSink) -> Result<(), WriteError> {
        let count = self.leaf.elements.len();
        let mut heads = Vec::with_capacity(count * ELEMENT_BYTES);
        let mut data_at = count * ELEMENT_BYTES;
        for (index, element) in self.leaf.elements.iter().enumerate() {
            let pos = data_at - index * ELEMENT_BYTES;
            heads.extend_from_slice(&element.flags.to_le_bytes());
            heads.extend_from_slice(&offset(pos).to_le_bytes());
            heads.extend_from_slice(&element.key_bytes.to_le_bytes());
            heads.extend_from_slice(&element.value_bytes.to_le_bytes());
            data_at += element.key_bytes as usize + element.value_bytes as usize;
        }
        let page = sink.page(FLAG_LEAF, element_count(count), &[&heads, &self.leaf.data])?;
        self.leaf.elements.clear();
        self.leaf.data.clear();
        // One huge value must not keep its buffer for the rest of the file.
        self.leaf.data.shrink_to(PAGE_BYTES);
        let key = std::mem::take(&mut self.leaf.first_key);
        self.add_child(sink, 0, Child { key, page })
    }

    /// Hands a finished page to its parent level. A level that is full keeps its last child back,
    /// so that no branch page, the last of a level included, ever has a single child.
    fn add_child(&mut self, sink: &mut impl PageSink, level: usize, child: Child) -> Result<(), WriteError> {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        let children = &mut self.levels[level];
        let used: usize = children.iter().map(|c| ELEMENT_BYTES + c.key.len()).sum();
        let full = PAGE_HEADER_BYTES + used + ELEMENT_BYTES + child.key.len() > PAGE_BYTES;
        if !full || children.len() < 3 {
            children.push(child);
            return Ok(());
        }
        let last = children.pop().expect("a full level has children");
        let done = std::mem::replace(children, vec![last, child]);
        let page = write_branch(sink, &done)?;
        let key = done.into_iter().next().expect("two or more children").key;
        self.add_child(sink, level + 1, Child { key, page })
    }
}

fn write_branch(sink: &mut impl PageSink, children: &[Child]) -> Result<Pgid, WriteError> {
    let mut heads = Vec::with_capacity(children.len() * ELEMENT_BYTES);
    let mut keys = Vec::new();
    for (index, child) in children.iter().enumerate() {
        let pos = (children.len() - index) * ELEMENT_BYTES + keys.len();
        heads.extend_from_slice(&offset(pos).to_le_bytes());
        heads.extend_from_slice(&offset(child.key.len()).to_le_bytes());
        heads.extend_from_slice(&child.page.to_le_bytes());
        keys.extend_from_slice(&child.key);
    }
    sink.page(FLAG_BRANCH, element_count(children.len()), &[&heads, &keys])
}

fn offset(value: usize) -> u32 {
    u32::try_from(value).expect("offsets stay within one page and one value")
}

fn element_count(value: usize) -> u16 {
    u16::try_from(value).expect("a 4 KiB page holds at most 240 elements")
}
