//! Walks one tree in key order.
//!
//! A damaged file cannot make the walk endless: depth is bounded, no walk loads more pages than the
//! file has, and every key must be greater than the one before.

use bytes::Bytes;

use super::error::ReadError;
use super::format::Pgid;
use super::page::{Kind, Node};
use super::reader::{ReadAt, Reader};

/// Deepest tree that is followed. With two children a page, 64 levels are more pages than any disk has.
pub(super) const MAX_DEPTH: usize = 64;

/// An entry of a bucket. Key and value share the memory of their whole page: copy what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// The value is a nested bucket's header, not data.
    pub is_bucket: bool,
    /// The page it was found on, for messages.
    pub page: Pgid,
}

/// A position in a bucket. An iterator over its entries; after an error it ends.
pub struct Cursor<'r, R> {
    reader: &'r Reader<R>,
    stack: Vec<Frame>,
    /// Pages this walk may still load.
    budget: u64,
    last_key: Bytes,
}

struct Frame {
    node: Node,
    next: usize,
}

impl<'r, R: ReadAt> Cursor<'r, R> {
    pub(super) fn new(reader: &'r Reader<R>, root: Node) -> Self {
        Self {
            reader,
            budget: reader.meta.high_water,
            stack: vec![Frame { node: root, next: 0 }],
            last_key: Bytes::new(),
        }
    }

    /// The next entry, `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        let result = self.advance();
        if result.is_err() {
            self.stack.clear();
        }
        result
    }

    /// Moves before the first entry whose key is `key` or greater. Only on a fresh cursor.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), ReadError> {
        loop {
            let Some(top) = self.stack.last_mut() else {
                return Ok(());
            };
            match top.node.kind {
                Kind::Leaf => {
                    top.next = top.node.count_below(key, false)?;
                    return Ok(());
                }
                Kind::Branch => {
                    let child = top.node.count_below(key, true)?.saturating_sub(1);
                    top.next = child + 1;
                    let (_, page) = top.node.branch(child)?;
                    self.descend(page)?;
                }
            }
        }
    }

    /// The last entry of the bucket, read along the right edge. Only on a fresh cursor.
    pub fn last_entry(mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some(top) = self.stack.last_mut() else {
                return Ok(None);
            };
            match (top.node.kind, top.node.count) {
                // bbolt leaves no empty page beside others; should one exist, the left neighbour has it.
                (Kind::Leaf, 0) => {
                    self.stack.pop();
                    self.step_left()?;
                }
                (Kind::Leaf, count) => return entry(&top.node, count - 1).map(Some),
                (Kind::Branch, count) => {
                    top.next = count - 1;
                    let (_, page) = top.node.branch(count - 1)?;
                    self.descend(page)?;
                }
            }
        }
    }

    fn step_left(&mut self) -> Result<(), ReadError> {
        while let Some(top) = self.stack.last_mut() {
            if top.next > 0 {
                top.next -= 1;
                let (_, page) = top.node.branch(top.next)?;
                return self.descend(page);
            }
            self.stack.pop();
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            let Some(top) = self.stack.last_mut() else {
                return Ok(None);
            };
            if top.next == top.node.count {
                self.stack.pop();
                continue;
            }
            let index = top.next;
            top.next += 1;
            match top.node.kind {
                Kind::Branch => {
                    let (_, page) = top.node.branch(index)?;
                    self.descend(page)?;
                }
                Kind::Leaf => {
                    let entry = entry(&top.node, index)?;
                    // Keys are never empty, so the first always passes.
                    if entry.key <= self.last_key {
                        let what = format!("element {index}: key out of order");
                        return Err(ReadError::corrupt(entry.page, what));
                    }
                    self.last_key = entry.key.clone();
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn descend(&mut self, page: Pgid) -> Result<(), ReadError> {
        if self.stack.len() >= MAX_DEPTH || self.budget == 0 {
            return Err(ReadError::corrupt(page, "the tree runs in a circle"));
        }
        self.budget -= 1;
        let node = self.reader.load(page)?;
        self.stack.push(Frame { node, next: 0 });
        Ok(())
    }
}

impl<R: ReadAt> Iterator for Cursor<'_, R> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

fn entry(node: &Node, index: usize) -> Result<Entry, ReadError> {
    let element = node.leaf(index)?;
    Ok(Entry { key: element.key, value: element.value, is_bucket: element.is_bucket, page: node.id })
}
