//! Reads entries: from memory where they are, else from their segment, checking every sector on the way.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::disk::File;
use crate::error::WalError;
use crate::index::Slot;
use crate::record::{self, Entry, Record};
use crate::sector::{self, DATA, SECTOR, STAMP, Stamp};
use crate::segment;
use crate::shared::Shared;

/// Bytes of one read from a segment: neighbouring entries share it.
const READ_AT_ONCE: usize = 1 << 20;

/// Reads from an open log.
pub(crate) struct Reader<'a> {
    shared: &'a Shared,
    dir: &'a Path,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(shared: &'a Shared, dir: &'a Path) -> Self {
        Self { shared, dir }
    }

    pub(crate) fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        let (mut found, mut bytes, mut next) = (Vec::<Entry>::new(), 0, range.start);
        while next < range.end && (found.is_empty() || bytes < max_bytes) {
            let more = match self.locate(next..range.end, max_bytes.saturating_sub(bytes))? {
                Located::End => break,
                Located::Memory(entries) => entries,
                Located::Disk(run) => match self.read_run(&run)? {
                    Some(entries) => entries,
                    // Truncated or purged while it was read: look again.
                    None => continue,
                },
            };
            for entry in more {
                if !found.is_empty() && bytes + entry.data.len() > max_bytes {
                    return Ok(found);
                }
                bytes += entry.data.len();
                next = entry.index + 1;
                found.push(entry);
            }
        }
        Ok(found)
    }

    fn locate(&self, range: Range<u64>, max_bytes: usize) -> Result<Located, WalError> {
        let state = self.shared.open_state()?;
        let index = &state.index;
        if range.start >= index.end() {
            return Ok(Located::End);
        }
        let Some(slot) = index.slot(range.start) else {
            return Err(WalError::Purged { index: range.start, first: index.first().unwrap_or(index.end()) });
        };
        let mut bytes = 0;
        let mut entries = Vec::new();
        for at in range.clone() {
            let Some(entry) = index.cached(at) else { break };
            bytes += entry.data.len();
            if !entries.is_empty() && bytes > max_bytes {
                break;
            }
            entries.push(entry);
        }
        if !entries.is_empty() {
            return Ok(Located::Memory(entries));
        }
        let file = state.files.get(&slot.segment).expect("an entry's segment is in use while the entry is");
        let mut run = Run { first: range.start, slots: vec![slot], file: Arc::clone(file) };
        for at in range.start + 1..range.end {
            let Some(next) = index.slot(at).filter(|next| next.segment == slot.segment) else {
                break;
            };
            let end = next.offset as usize + record::ENTRY_OVERHEAD + next.len as usize;
            if index.cached(at).is_some() || end - slot.offset as usize > READ_AT_ONCE.min(max_bytes) {
                break;
            }
            run.slots.push(next);
        }
        Ok(Located::Disk(run))
    }

    /// Reads a run of entries; `None` if it is not theirs any more.
    fn read_run(&self, run: &Run) -> Result<Option<Vec<Entry>>, WalError> {
        let (first, last) = (run.slots[0], run.slots[run.slots.len() - 1]);
        let path = segment::path(self.dir, u64::from(first.segment));
        let len = last.offset - first.offset + record::ENTRY_OVERHEAD as u32 + last.len;
        let read = data(&*run.file, &path, first.offset, len as usize).and_then(|data| {
            let entries = run.slots.iter().zip(run.first..).map(|(slot, index)| {
                let data = &data[(slot.offset - first.offset) as usize..];
                entry(data, &path, slot.offset, index)
            });
            entries.collect::<Result<Vec<_>, _>>()
        });
        // The file may have been recycled meanwhile: what was read counts only if every entry is still there.
        let state = self.shared.open_state()?;
        let there = run.slots.iter().zip(run.first..).all(|(slot, index)| state.index.slot(index) == Some(*slot));
        if there { read.map(Some) } else { Ok(None) }
    }
}

enum Located {
    End,
    Memory(Vec<Entry>),
    Disk(Run),
}

/// Entries that lie in one segment, one after the other.
struct Run {
    first: u64,
    slots: Vec<Slot>,
    file: Arc<dyn File>,
}

/// The data bytes `offset..offset + len` of a segment.
fn data(file: &dyn File, path: &Path, offset: u32, len: usize) -> Result<Vec<u8>, WalError> {
    let (first, skip) = (offset as usize / DATA, offset as usize % DATA);
    let count = (skip + len).div_ceil(DATA);
    let mut sectors = vec![0; count * SECTOR];
    let at = (first * SECTOR) as u64;
    let n = file.pread(&mut sectors, at).map_err(|e| WalError::io("read", path, e))?;
    if n < sectors.len() {
        return Err(WalError::corrupt(path, at + n as u64, "the file ends inside an entry"));
    }
    let mut data = Vec::with_capacity(count * DATA);
    for (i, bytes) in sectors.chunks_exact(SECTOR).enumerate() {
        let position = first + i;
        match sector::stamp(bytes, position as u32) {
            Stamp::Seq(_) => data.extend_from_slice(&bytes[STAMP..]),
            Stamp::Zero | Stamp::Damaged => {
                let at = (position * SECTOR) as u64;
                return Err(WalError::corrupt(path, at, "a sector of an entry is not what was written"));
            }
        }
    }
    data.drain(..skip);
    data.truncate(len);
    Ok(data)
}

/// The entry at the front of `data`, which must be the one with `index`.
fn entry(data: &[u8], path: &Path, offset: u32, index: u64) -> Result<Entry, WalError> {
    let at = u64::from(offset) / DATA as u64 * SECTOR as u64;
    match record::decode(data) {
        Ok((Record::Entry(entry), _)) if entry.index == index => Ok(entry),
        Ok(_) => Err(WalError::corrupt(path, at, format!("entry {index} is not where it was written"))),
        Err(detail) => Err(WalError::corrupt(path, at, detail)),
    }
}
