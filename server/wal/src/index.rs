//! What is in the log, in memory: where each entry lies, its term, and the newest entries themselves.
//!
//! It does no IO. Twelve bytes an entry; terms are kept as runs, since they change rarely.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::WalError;
use crate::record::{Entry, LogPos};

/// What an entry in the cache costs besides its payload.
const CACHED_OVERHEAD: usize = 64;
/// `Slot::segment` of an entry that is not written yet; `offset` is its ticket then.
const UNWRITTEN: u32 = u32::MAX;

/// Where an entry's record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The segment's number.
    pub(crate) segment: u32,
    /// The record's first byte among the segment's data bytes.
    pub(crate) offset: u32,
    /// Bytes of the entry's payload.
    pub(crate) len: u32,
}

/// The directory and the cache.
#[derive(Debug)]
pub(crate) struct Index {
    purged: Option<LogPos>,
    /// Index of the first slot; meaningful when there are slots.
    first: u64,
    slots: VecDeque<Slot>,
    /// (first index, term), ascending; covers exactly the slots.
    terms: VecDeque<(u64, u64)>,
    /// The newest entries' payloads: the last `cache.len()` slots.
    cache: VecDeque<Bytes>,
    cached: usize,
    budget: usize,
    ticket: u32,
}

impl Index {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            purged: None,
            first: 0,
            slots: VecDeque::new(),
            terms: VecDeque::new(),
            cache: VecDeque::new(),
            cached: 0,
            budget,
            ticket: 0,
        }
    }

    pub(crate) fn purged(&self) -> Option<LogPos> {
        self.purged
    }

    /// The index of the first entry here.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    /// The last entry, or what was purged last.
    pub(crate) fn last(&self) -> Option<LogPos> {
        let index = match self.slots.len() {
            0 => return self.purged,
            n => self.first + n as u64 - 1,
        };
        let (_, term) = *self.terms.back().expect("terms cover the slots");
        Some(LogPos { term, index })
    }

    /// The index after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached
    }

    /// The term of an entry here, or of the last purged one.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if let Some(purged) = self.purged
            && purged.index == index
        {
            return Some(purged.term);
        }
        self.slot(index)?;
        let run = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms[run - 1].1)
    }

    pub(crate) fn slot(&self, index: u64) -> Option<Slot> {
        let at = index.checked_sub(self.first)?;
        self.slots.get(usize::try_from(at).ok()?).copied()
    }

    /// The entry, if its payload is in memory.
    pub(crate) fn cached(&self, index: u64) -> Option<Entry> {
        let in_front = self.slots.len() - self.cache.len();
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let data = self.cache.get(at.checked_sub(in_front)?)?.clone();
        Some(Entry { index, term: self.term(index)?, data })
    }

    /// Whether an entry with `index` may come next. A log that never had one begins at 0 or at 1.
    pub(crate) fn follows(&self, index: u64) -> Result<(), WalError> {
        let expected = self.end();
        let begins = self.last().is_none() && index <= 1;
        if begins || index == expected { Ok(()) } else { Err(WalError::Gap { expected, found: index }) }
    }

    /// Adds an entry that is not on disk yet; answers the ticket that `settle` wants.
    pub(crate) fn push(&mut self, entry: &Entry) -> u32 {
        self.ticket = self.ticket.wrapping_add(1);
        let len = entry.data.len() as u32;
        self.push_slot(entry, Slot { segment: UNWRITTEN, offset: self.ticket, len });
        self.ticket
    }

    /// Adds an entry that is on disk. The caller has checked that it follows.
    pub(crate) fn push_slot(&mut self, entry: &Entry, slot: Slot) {
        if self.slots.is_empty() {
            self.first = entry.index;
        }
        debug_assert_eq!(entry.index, self.first + self.slots.len() as u64);
        if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
            self.terms.push_back((entry.index, entry.term));
        }
        self.slots.push_back(slot);
        self.cached += entry.data.len() + CACHED_OVERHEAD;
        self.cache.push_back(entry.data.clone());
    }

    /// The entry pushed under `ticket` lies at `slot` now. Nothing happens if it was truncated or purged since.
    pub(crate) fn settle(&mut self, index: u64, ticket: u32, slot: Slot) {
        let Some(at) = index.checked_sub(self.first) else {
            return;
        };
        if let Some(here) = self.slots.get_mut(at as usize)
            && here.segment == UNWRITTEN
            && here.offset == ticket
        {
            *here = slot;
        }
    }

    /// Drops the oldest written entries from memory until the budget holds.
    pub(crate) fn evict(&mut self) {
        while self.cached > self.budget {
            let at = self.slots.len() - self.cache.len();
            if self.slots.get(at).is_none_or(|slot| slot.segment == UNWRITTEN) {
                break;
            }
            self.drop_cached_front();
        }
    }

    /// Removes the entries above `keep`, all with `None`.
    pub(crate) fn truncate(&mut self, keep: Option<u64>) {
        let first_out = keep.map_or(0, |keep| keep + 1);
        while !self.slots.is_empty() && self.first + self.slots.len() as u64 > first_out {
            self.slots.pop_back();
            if let Some(data) = self.cache.pop_back() {
                self.cached -= data.len() + CACHED_OVERHEAD;
            }
        }
        while self.terms.back().is_some_and(|(first, _)| self.slots.is_empty() || *first >= first_out) {
            self.terms.pop_back();
        }
    }

    /// Removes the entries up to and with `up_to`, which may lie above the last. Nothing moves backwards.
    pub(crate) fn purge(&mut self, up_to: LogPos) {
        if self.purged.is_some_and(|purged| purged.index >= up_to.index) {
            return;
        }
        while !self.slots.is_empty() && self.first <= up_to.index {
            if self.cache.len() == self.slots.len() {
                self.drop_cached_front();
            }
            self.slots.pop_front();
            self.first += 1;
        }
        while self.terms.len() > 1 && self.terms[1].0 <= self.first {
            self.terms.pop_front();
        }
        match self.terms.front_mut() {
            Some(_) if self.slots.is_empty() => self.terms.clear(),
            Some(run) => run.0 = run.0.max(self.first),
            None => {}
        }
        self.purged = Some(up_to);
    }

    fn drop_cached_front(&mut self) {
        if let Some(data) = self.cache.pop_front() {
            self.cached -= data.len() + CACHED_OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: Bytes::from(vec![1; 36]) }
    }

    fn filled(budget: usize) -> Index {
        let mut index = Index::new(budget);
        for i in 0..10 {
            index.push_slot(&entry(i, i / 4), Slot { segment: 1, offset: i as u32, len: 36 });
        }
        index
    }

    #[test]
    fn terms_follow_truncation_and_purge() {
        let mut index = filled(10_000);
        index.purge(LogPos { term: 0, index: 2 });
        assert_eq!((index.term(1), index.term(2), index.term(3), index.term(4)), (None, Some(0), Some(0), Some(1)));
        index.truncate(Some(7));
        assert_eq!(index.last(), Some(LogPos { term: 1, index: 7 }));
        assert_eq!(index.term(8), None);
        index.purge(LogPos { term: 5, index: 20 });
        assert_eq!((index.first(), index.end(), index.cached_bytes()), (None, 21, 0));
        assert!(index.follows(20).is_err());
        assert!(index.follows(21).is_ok());
    }

    #[test]
    fn the_cache_keeps_the_newest() {
        let mut index = filled(500);
        index.evict();
        assert_eq!(index.cached_bytes(), 500);
        assert!(index.cached(4).is_none());
        assert!(index.cached(5).is_some());
    }

    #[test]
    fn unwritten_entries_stay_in_memory() {
        let mut index = Index::new(0);
        let ticket = index.push(&entry(1, 1));
        index.evict();
        assert!(index.cached(1).is_some());
        index.settle(1, ticket + 1, Slot { segment: 1, offset: 0, len: 36 });
        index.evict();
        assert!(index.cached(1).is_some(), "another entry's ticket");
        index.settle(1, ticket, Slot { segment: 1, offset: 0, len: 36 });
        index.evict();
        assert!(index.cached(1).is_none());
    }
}
