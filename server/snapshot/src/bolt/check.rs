//! The whole-file check: what bbolt's own `Tx.Check` looks for, stopping at the first fault.
//!
//! It says whether the structure holds. It cannot see a changed value: only a digest can.

use super::cursor::MAX_DEPTH;
use super::error::ReadError;
use super::format::{FLAG_FREELIST, NO_FREELIST, PAGE_HEADER_BYTES, Pgid, u64_at};
use super::page::{BucketRoot, Kind, Node};
use super::reader::{ReadAt, Reader};

/// What a sound file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub pages: u64,
    /// Pages on the freelist, or not reachable where no freelist is kept.
    pub free_pages: u64,
    pub buckets: u64,
    /// Plain entries in all buckets.
    pub entries: u64,
}

struct Check<'r, R> {
    reader: &'r Reader<R>,
    seen: Vec<u64>,
    report: CheckReport,
}

impl<R: ReadAt> Reader<R> {
    /// Reads every page once and checks that each is used exactly once or free, that keys ascend
    /// and lie where their branch pages say. Memory: one bit a page, and one path of the tree.
    pub fn check(&self) -> Result<CheckReport, ReadError> {
        let words = usize::try_from(self.meta.high_water.div_ceil(64))
            .map_err(|_| ReadError::corrupt(0, "more pages than this machine can address"))?;
        let mut check = Check {
            reader: self,
            seen: vec![0; words],
            report: CheckReport { pages: self.meta.high_water, ..CheckReport::default() },
        };
        check.mark(0, 0)?;
        check.mark(1, 0)?;
        check.freelist()?;
        check.tree(self.meta.root, None, None, 0)?;
        check.leftovers()
    }
}

impl<R: ReadAt> Check<'_, R> {
    fn freelist(&mut self) -> Result<(), ReadError> {
        let id = self.reader.meta.freelist;
        if id == NO_FREELIST {
            return Ok(());
        }
        let header = self.reader.header(id)?;
        if header.flags != FLAG_FREELIST {
            let what = format!("not a freelist, flags {:#06x}", header.flags);
            return Err(ReadError::corrupt(id, what));
        }
        self.mark(id, header.overflow)?;
        let page_bytes = u64::from(self.reader.meta.page_bytes);
        let room = (u64::from(header.overflow) + 1) * page_bytes - PAGE_HEADER_BYTES as u64;
        let mut at = PAGE_HEADER_BYTES as u64;
        let mut left = u64::from(header.count);
        let mut slots = room / 8;
        // A count too big for its 16 bits is stored as the first element.
        if header.count == u16::MAX {
            let mut raw = [0; 8];
            self.reader.read(id, at, &mut raw)?;
            left = u64_at(&raw, 0);
            at += 8;
            slots -= 1;
        }
        if left > slots {
            return Err(ReadError::corrupt(id, format!("{left} free ids do not fit")));
        }
        let mut chunk = vec![0; 8 * 512];
        while left > 0 {
            let ids = left.min(512) as usize;
            let raw = &mut chunk[..ids * 8];
            self.reader.read(id, at, raw)?;
            for free in raw.chunks_exact(8).map(|raw| u64_at(raw, 0)) {
                if free < 2 || free >= self.reader.meta.high_water {
                    let what = format!("free page {free} is outside the file");
                    return Err(ReadError::corrupt(id, what));
                }
                self.mark(free, 0)?;
            }
            self.report.free_pages += ids as u64;
            at += raw.len() as u64;
            left -= ids as u64;
        }
        Ok(())
    }

    /// Checks the subtree at `id`, whose keys must be at least `low` and below `high`.
    fn tree(&mut self, id: Pgid, low: Option<&[u8]>, high: Option<&[u8]>, depth: usize) -> Result<(), ReadError> {
        if depth >= MAX_DEPTH {
            return Err(ReadError::corrupt(id, "the tree runs in a circle"));
        }
        let header = self.reader.header(id)?;
        self.mark(id, header.overflow)?;
        let node = self.reader.load(id)?;
        check_order(&node, low, high)?;
        match node.kind {
            Kind::Leaf => self.leaf(&node, depth),
            Kind::Branch => {
                for index in 0..node.count {
                    let (key, child) = node.branch(index)?;
                    let next = match index + 1 < node.count {
                        true => Some(node.key(index + 1)?),
                        false => None,
                    };
                    self.tree(child, Some(&key), next.as_deref().or(high), depth + 1)?;
                }
                Ok(())
            }
        }
    }

    fn leaf(&mut self, node: &Node, depth: usize) -> Result<(), ReadError> {
        for index in 0..node.count {
            let element = node.leaf(index)?;
            if !element.is_bucket {
                self.report.entries += 1;
                continue;
            }
            self.report.buckets += 1;
            match BucketRoot::parse(node.id, &element.value)? {
                BucketRoot::Page(root) => self.tree(root, None, None, depth + 1)?,
                BucketRoot::Inline(inner) => {
                    if depth >= MAX_DEPTH {
                        return Err(ReadError::corrupt(node.id, "buckets nest too deep"));
                    }
                    check_order(&inner, None, None)?;
                    self.leaf(&inner, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Counts a page and its overflow as used (or free), once.
    fn mark(&mut self, id: Pgid, overflow: u32) -> Result<(), ReadError> {
        // `id + overflow` was checked against the high-water mark, which sized `seen`.
        for page in id..=id + u64::from(overflow) {
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            if self.seen[word] & bit != 0 {
                return Err(ReadError::corrupt(page, "used more than once"));
            }
            self.seen[word] |= bit;
        }
        Ok(())
    }

    fn leftovers(mut self) -> Result<CheckReport, ReadError> {
        for page in 0..self.report.pages {
            if self.seen[(page / 64) as usize] & (1 << (page % 64)) != 0 {
                continue;
            }
            if self.reader.meta.freelist != NO_FREELIST {
                return Err(ReadError::corrupt(page, "neither reachable nor free"));
            }
            self.report.free_pages += 1;
        }
        Ok(self.report)
    }
}

fn check_order(node: &Node, low: Option<&[u8]>, high: Option<&[u8]>) -> Result<(), ReadError> {
    let mut last = None;
    for index in 0..node.count {
        let key = node.key(index)?;
        let ordered = last.as_ref().is_none_or(|last| *last < key);
        let in_range = low.is_none_or(|low| &key[..] >= low) && high.is_none_or(|high| &key[..] < high);
        if !ordered || !in_range {
            let what = format!("element {index}: key out of order");
            return Err(ReadError::corrupt(node.id, what));
        }
        last = Some(key);
    }
    Ok(())
}
