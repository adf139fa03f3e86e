//! The places of a simulated member's store: the one in use, and those that snapshots fill.
//!
//! A mark is on the disk or it is not; whether it got there before a failure is the dice's to say. What a crash
//! leaves is settled at the next start, as on a real disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use keepstone::raft::codec;
use keepstone::raft::snapshot::{Home, HomeError, Place};
use keepstone::raft::types::LogId;
use keepstone_store::testing::MemStore;
use keepstone_wal::{LogPos, Wal, WalError};
use parking_lot::Mutex;

use crate::dice::Dice;

/// What is on a member's disk of its stores. Clones share it.
#[derive(Clone)]
pub struct Places(Arc<Mutex<Inner>>);

#[derive(Clone)]
struct Inner {
    current: Arc<MemStore>,
    incoming: BTreeMap<u64, Arc<MemStore>>,
    last: u64,
    /// The place that was committed since the start.
    used: Option<u64>,
    /// By the places that they are in.
    marks: BTreeMap<u64, Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    last: LogId,
    followed: bool,
}

impl Places {
    pub fn empty() -> Self {
        let current = Arc::new(MemStore::new());
        Self(Arc::new(Mutex::new(Inner {
            current,
            incoming: BTreeMap::new(),
            last: 0,
            used: None,
            marks: BTreeMap::new(),
        })))
    }

    /// What is found after a crash: of each store what was flushed, and some of what was not.
    pub fn crash(&self, dice: &mut Dice) -> Self {
        let mut crash = |store: &Arc<MemStore>| {
            let kept = dice.within(0..store.unflushed() as u64 + 1) as usize;
            Arc::new(store.crash(kept))
        };
        let mut after = self.0.lock().clone();
        after.current = crash(&after.current);
        after.incoming.values_mut().for_each(|store| *store = crash(store));
        after.used = None;
        Self(Arc::new(Mutex::new(after)))
    }

    /// Finishes what a crash has interrupted; returns the member's store.
    ///
    /// # Errors
    /// The log's.
    pub fn settle(&self, wal: &Wal) -> Result<Arc<MemStore>, HomeError> {
        let mut inner = self.0.lock();
        if let Some((number, mark)) = inner.marks.pop_last() {
            inner.marks.clear();
            if let Some(store) = inner.incoming.remove(&number) {
                inner.current = store;
                inner.incoming.clear();
            }
            if !mark.followed {
                purge(wal, &mark.last)?;
            }
        }
        let newest = inner.incoming.keys().next_back().copied();
        inner.incoming.retain(|number, _| Some(*number) == newest);
        Ok(inner.current.clone())
    }
}

/// How many snapshots a running member has installed.
#[derive(Clone, Default)]
pub struct Installed(Arc<AtomicU64>);

impl Installed {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running member's hold on its places.
pub struct SimHome {
    places: Places,
    wal: Arc<Wal>,
    installed: Installed,
    dice: Mutex<Dice>,
}

impl SimHome {
    pub fn new(places: Places, wal: Arc<Wal>, installed: Installed, dice: Dice) -> Arc<Self> {
        Arc::new(Self { places, wal, installed, dice: Mutex::new(dice) })
    }

    /// Fails at times.
    fn step(&self) -> Result<(), HomeError> {
        if self.dice.lock().chance(3) {
            let source = io::Error::other("injected failure");
            return Err(HomeError::Place { doing: "writing", path: "a mark".to_owned(), source });
        }
        Ok(())
    }
}

impl Home for SimHome {
    fn begin(&self) -> Result<Place, HomeError> {
        self.clear()?;
        let mut inner = self.places.0.lock();
        inner.last += 1;
        let (number, store) = (inner.last, Arc::new(MemStore::new()));
        inner.incoming.insert(number, store.clone());
        crate::note!("place {number} for a snapshot");
        Ok(Place { number, store })
    }

    fn clear(&self) -> Result<(), HomeError> {
        let mut inner = self.places.0.lock();
        let used = inner.used;
        inner.incoming.retain(|number, _| Some(*number) == used);
        Ok(())
    }

    fn resume(&self) -> Result<Option<Place>, HomeError> {
        let inner = self.places.0.lock();
        let mut idle = inner.incoming.iter().filter(|(number, _)| Some(**number) != inner.used);
        Ok(idle.next_back().map(|(number, store)| Place { number: *number, store: store.clone() }))
    }

    fn commit(&self, number: u64, last: &LogId) -> Result<(), HomeError> {
        self.step()?;
        self.places.0.lock().marks.insert(number, Mark { last: *last, followed: false });
        self.step()?;
        self.places.0.lock().used = Some(number);
        self.installed.0.fetch_add(1, Ordering::Relaxed);
        crate::note!("the store is the one in place {number}, up to {}", last.index());
        Ok(())
    }

    fn follow(&self, number: u64, last: &LogId) -> Result<(), HomeError> {
        self.step()?;
        purge(&self.wal, last)?;
        self.step()?;
        self.places.0.lock().marks.insert(number, Mark { last: *last, followed: true });
        Ok(())
    }

    fn discard(&self, number: u64) {
        let mut inner = self.places.0.lock();
        inner.incoming.remove(&number);
        inner.marks.remove(&number);
    }

    fn retire(&self) {}
}

/// Has the log begin after `last`, at once.
fn purge(wal: &Wal, last: &LogId) -> Result<(), HomeError> {
    let (done, purged) = std::sync::mpsc::channel();
    let pos = LogPos { term: codec::term_of(last), index: last.index() };
    wal.purge(pos, Box::new(move |result| drop(done.send(result))))?;
    while wal.step()? {}
    let outcome = purged.try_recv().unwrap_or_else(|_| Err(io::Error::other(WalError::Closed)));
    outcome.map_err(|source| HomeError::Place { doing: "purging", path: "the log".to_owned(), source })
}
