//! What a stream of records means: the state of the log after them. Pure.

use crate::group::Head;
use crate::index::{Index, Slot};
use crate::record::{self, Record};
use crate::sector::DATA;
use crate::writer::Restated;

/// The state so far.
pub(crate) struct Replay {
    pub(crate) index: Index,
    pub(crate) restated: Restated,
}

impl Replay {
    pub(crate) fn new(cache_bytes: usize) -> Self {
        Self { index: Index::new(cache_bytes), restated: Restated::default() }
    }

    /// Applies a group found at `position` of segment `number`; `data` are its data bytes. Answers the highest index of
    /// its entries. The error says what cannot be.
    pub(crate) fn group(
        &mut self,
        number: u64,
        position: u32,
        head: &Head,
        data: &[u8],
    ) -> Result<Option<u64>, String> {
        let records = &data[head.len()..head.len() + head.bytes as usize];
        let base = position as usize * DATA + head.len();
        let mut rest = records;
        let mut max_index = None;
        while !rest.is_empty() {
            let offset = (base + records.len() - rest.len()) as u32;
            let (record, after) = record::decode(rest)?;
            rest = after;
            self.restated.note(&record);
            match record {
                Record::Meta(_) | Record::Vote(_) | Record::Committed(_) => {}
                Record::Entry(entry) => {
                    // The entries before the first one found may have been purged: `end` checks that they were.
                    if self.index.first().is_some() {
                        self.index.follows(entry.index).map_err(|e| e.to_string())?;
                    }
                    max_index = max_index.max(Some(entry.index));
                    let len = entry.data.len() as u32;
                    self.index.push_slot(&entry, Slot { segment: number as u32, offset, len });
                }
                Record::Truncate(keep) => self.index.truncate(keep),
                Record::Purge(pos) => self.index.purge(pos),
            }
        }
        self.index.evict();
        Ok(max_index)
    }

    /// Checks, at the end of the stream, that no entry is missing in front.
    pub(crate) fn end(&self) -> Result<(), String> {
        let Some(first) = self.index.first() else {
            return Ok(());
        };
        let missing = match self.index.purged() {
            Some(purged) => first != purged.index + 1,
            None => first > 1,
        };
        if missing {
            let purged = self.index.purged().map_or("nothing".to_owned(), |pos| format!("index {}", pos.index));
            return Err(format!(
                "the first entry has index {first}, but {purged} was purged: older segments are missing"
            ));
        }
        Ok(())
    }
}
