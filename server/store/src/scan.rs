//! Reading records in revision order, from the chunks on through to what is still dirty.
//!
//! A scan holds no lock while it reads the store or calls back: it looks up, step by step, where the next revision is.

use std::{ops::ControlFlow, sync::Arc};

use keepstone_state::{Record, Revision};

use crate::{RecordStore, StoreError, chunk::Chunk, directory::ChunkInfo, record_store::Backing};

/// Dirty records that are copied out under the lock at a time.
const STEP: usize = 256;

/// Where the next records are.
enum Place {
    Nowhere,
    Dirty(Vec<Record>),
    Chunk(Arc<Backing>, Revision, ChunkInfo),
}

impl RecordStore {
    /// Visits all records from `from` to `until`, both included, in revision order, until `visit` breaks. Records that
    /// are appended meanwhile are visited if they are in the range when the scan comes to them. A record's bytes may
    /// share a chunk of 64 KiB: copy what is kept for long.
    ///
    /// # Errors
    /// When a chunk can't be read, fails its check or is not what the directory says.
    pub fn scan(
        &self,
        from: Revision,
        until: Revision,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut next = from;
        while next <= until {
            let flow = match self.locate(next) {
                Place::Nowhere => break,
                Place::Dirty(records) => {
                    next = after(records.last().expect("the dirty place is never empty").at);
                    visit_all(&records, until, visit)
                }
                Place::Chunk(_, first, _) if first > until => break,
                Place::Chunk(backing, first, info) => {
                    let Some((chunk, last)) = self.settled_chunk(&backing, next, first, info)? else {
                        continue;
                    };
                    let flow = backing.visit_chunk(&chunk, next, until, visit)?;
                    next = after(last);
                    flow
                }
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn locate(&self, next: Revision) -> Place {
        let layout = self.layout.read();
        let in_chunk = || {
            let (first, info) = layout.directory.at_or_after(next)?;
            // The open tail is in memory too.
            (layout.dirty.open_tail() != Some(first)).then_some((first, info))
        };
        if !layout.dirty.covers(next)
            && let Some((first, info)) = in_chunk()
        {
            return Place::Chunk(layout.backing.clone(), first, info);
        }
        let records = layout.dirty.copy(next, STEP);
        if records.is_empty() { Place::Nowhere } else { Place::Dirty(records) }
    }

    /// The chunk with `next`, as the directory knows it, and its last revision; `None` when it has to be looked up anew.
    fn settled_chunk(
        &self,
        backing: &Arc<Backing>,
        next: Revision,
        first: Revision,
        info: ChunkInfo,
    ) -> Result<Option<(Chunk, Revision)>, StoreError> {
        match backing.load(first) {
            Ok(Some(chunk)) if is_as_known(&chunk, &info) => return Ok(Some((chunk, info.last))),
            // The whole state was replaced meanwhile: what the old place says counts no more.
            _ if !self.stands_on(backing) => return Ok(None),
            loaded => drop(loaded?),
        }
        // A checkpoint or a rewrite came between the look-up and the read. While none can, both must agree.
        let _settled = self.structure.lock();
        let (backing, found) = {
            let layout = self.layout.read();
            (layout.backing.clone(), layout.directory.at_or_after(next))
        };
        let Some((first, info)) = found else {
            return Ok(None);
        };
        let why = match backing.load(first)? {
            Some(chunk) if is_as_known(&chunk, &info) => return Ok(Some((chunk, info.last))),
            Some(_) => "it is not the chunk that its directory row describes",
            None => "it has a directory row but is not there",
        };
        Err(backing.damaged_chunk(first, why))
    }
}

impl Backing {
    fn visit_chunk(
        &self,
        chunk: &Chunk,
        from: Revision,
        until: Revision,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        for index in chunk.seek(from)..chunk.records() {
            let record = chunk.record(index).map_err(|why| self.damaged_chunk(chunk.first(), why))?;
            if record.at > until || visit(&record).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn visit_all(
    records: &[Record],
    until: Revision,
    visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for record in records {
        if record.at > until {
            return ControlFlow::Break(());
        }
        visit(record)?;
    }
    ControlFlow::Continue(())
}

fn is_as_known(chunk: &Chunk, info: &ChunkInfo) -> bool {
    chunk.records() == info.records as usize && chunk.last() == info.last
}

/// The next revision that a record can have.
fn after(at: Revision) -> Revision {
    Revision::new(at.main, at.sub + 1)
}
