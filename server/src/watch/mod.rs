//! Watchers: cursors into one shared log of events. Events flow in from the state machine shell and out through
//! `api::watch`; nothing here changes state.

mod aside;
mod chunks;
mod encode;
mod history;
mod local;
mod matcher;
mod ring;
mod stream;
mod table;
mod watcher;

use std::sync::Arc;

use keepstone_state::Record;

pub use encode::first as first_message;
pub use local::{Local, Matching};
pub use ring::Ring;
pub use stream::{Feeder, Requests, Settings};
pub use watcher::Counts;

/// The shared log and every thread's watchers.
#[derive(Debug)]
pub struct Hub {
    pub ring: Arc<Ring>,
    locals: Vec<Arc<Local>>,
}

impl Hub {
    /// One [`Local`] per serving thread; each [`Matching`] has to run on its own.
    pub fn new(threads: usize) -> (Self, Vec<Matching>) {
        let (locals, matchings) = (0..threads).map(|_| Local::new()).unzip();
        (Self { ring: Arc::default(), locals }, matchings)
    }

    /// Gives an applied run's records to the watchers. Call it under the state's write lock, so that a watcher which
    /// reads the revision either sees this run as past or gets it.
    pub fn publish(&self, records: &[Record], revision: i64) {
        if records.is_empty() || !self.locals.iter().any(|local| local.is_interested()) {
            return;
        }
        let run = self.ring.push(records, revision);
        for local in self.locals.iter().filter(|local| local.is_interested()) {
            local.send(&run);
        }
    }

    /// The state was replaced by a later one, at `revision`: what lies between never was in the log. Everybody reads it
    /// from the store. Call it under the state's write lock.
    pub fn restart(&self, revision: i64) {
        let seq = self.ring.restart();
        for local in self.locals.iter().filter(|local| local.is_interested()) {
            local.lost(seq, revision);
        }
    }

    /// Has every stream look again, whatever it waits for. Call it under the state's write lock, or any.
    pub fn look(&self) {
        self.locals.iter().for_each(|local| local.look());
    }

    /// The watchers of serving thread `number`.
    pub fn local(&self, number: usize) -> &Arc<Local> {
        &self.locals[number % self.locals.len()]
    }

    pub fn counts(&self) -> Counts {
        self.locals.iter().map(|local| local.counts()).fold(Counts::default(), |a, b| Counts {
            watchers: a.watchers + b.watchers,
            streams: a.streams + b.streams,
            lagging: a.lagging + b.lagging,
            owed: a.owed + b.owed,
        })
    }
}
