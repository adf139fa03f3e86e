//! etcd's promises about a watch: ordered, unique, atomic, reliable, resumable, and progress never ahead of events.

use bytes::Bytes;
use keepstone_proto::Event;
use keepstone_proto::mvccpb::EventType;

use crate::history::{History, Revision};
use crate::model::Model;
use crate::{Checked, broken};

/// What a watching client saw, in its order. Over any number of streams: a client that resumes goes on in the same log.
#[derive(Clone, Debug, Default)]
pub struct WatchLog {
    /// For messages.
    pub name: String,
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
    pub no_put: bool,
    pub no_delete: bool,
    pub deliveries: Vec<Delivery>,
    /// The revision up to which the watch was given time to see everything; 0 for nothing asked.
    pub complete_to: i64,
}

/// One thing that happened to a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The client asked for everything from a revision on; 0 for "from now".
    Started(i64),
    /// The server said so; the revision of its header.
    Created(i64),
    /// A response with events. One that came in fragments counts as one.
    Events { revision: i64, events: Vec<Event> },
    /// The server vouches for everything up to a revision.
    Progress(i64),
    /// The server ended the watch: history below this is gone.
    Compacted(i64),
}

impl WatchLog {
    /// Whether nothing can change without this watch seeing it.
    pub(crate) fn covers_everything(&self) -> bool {
        self.key[..] == [0] && self.range_end[..] == [0] && !self.no_put && !self.no_delete
    }

    fn wants(&self, event: &Event) -> bool {
        let kv = event.kv();
        let (key, end) = (kv.key(), &self.range_end[..]);
        let inside = match end {
            [] => key == &self.key[..],
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        };
        inside && !(if event.type_() == EventType::Delete { self.no_delete } else { self.no_put })
    }
}

/// Holds a watch against the history. `model` is the history replayed; `compactions` are the revisions that anybody
/// asked to compact at.
///
/// # Errors
/// The first promise that was broken.
pub fn check_watch(log: &WatchLog, history: &History, model: &Model, compactions: &[i64]) -> Checked {
    let mut follower = Follower { log, history, model, compactions, next: None };
    for delivery in &log.deliveries {
        follower.take(delivery)?;
    }
    match follower.next {
        Some(next) if log.complete_to > 0 => follower.nothing_between(next, log.complete_to, "the watch ended"),
        _ => Ok(()),
    }
}

struct Follower<'a> {
    log: &'a WatchLog,
    history: &'a History,
    model: &'a Model,
    compactions: &'a [i64],
    /// The first revision that the watch has not been given; none before it is known where it begins.
    next: Option<i64>,
}

impl Follower<'_> {
    fn take(&mut self, delivery: &Delivery) -> Checked {
        let name = &self.log.name;
        match delivery {
            Delivery::Started(from) => self.next = (*from > 0).then_some(*from),
            Delivery::Created(revision) => {
                self.exists(*revision, "was created at")?;
                self.next.get_or_insert(revision + 1);
            }
            Delivery::Events { revision, events } => self.events(*revision, events)?,
            Delivery::Progress(revision) => {
                self.exists(*revision, "was told of progress to")?;
                let Some(next) = self.next else { broken!("watch {name} was told of progress before it was created") };
                self.nothing_between(next, *revision, "progress was announced")?;
                self.next = Some(next.max(revision + 1));
            }
            Delivery::Compacted(compacted) => {
                if !self.compactions.contains(compacted) {
                    broken!("watch {name} was ended by a compaction at {compacted}, which nobody asked for");
                }
                if self.next.is_none_or(|next| next >= *compacted) {
                    broken!("watch {name} at {:?} was ended by a compaction at {compacted}", self.next);
                }
                self.next = None;
            }
        }
        Ok(())
    }

    fn exists(&self, revision: i64, what: &str) -> Checked {
        if revision > self.history.last() {
            broken!("watch {} {what} {revision}, but the history ends at {}", self.log.name, self.history.last());
        }
        Ok(())
    }

    fn wanted<'b>(&'b self, one: &'b Revision) -> impl Iterator<Item = &'b Event> {
        one.events.iter().filter(|event| self.log.wants(event))
    }

    /// Reliable: what lies between was not the watch's to see.
    fn nothing_between(&self, from: i64, to: i64, when: &str) -> Checked {
        for one in self.history.between(from, to) {
            if let Some(event) = self.wanted(one).next() {
                let (name, revision) = (&self.log.name, one.revision);
                broken!("watch {name} at {from} never saw revision {revision} ({event:?}) before {when} ({to})");
            }
        }
        Ok(())
    }

    fn events(&mut self, header: i64, events: &[Event]) -> Checked {
        let name = &self.log.name;
        let Some(mut next) = self.next else { broken!("watch {name} got events before it was created: {events:?}") };
        let mut rest = events;
        while let Some(first) = rest.first() {
            let revision = first.kv().mod_revision();
            if revision < next {
                broken!("watch {name} got revision {revision}, again or out of order: it had everything below {next}");
            }
            self.nothing_between(next, revision - 1, "a later one came")?;
            let many = rest.iter().take_while(|event| event.kv().mod_revision() == revision).count();
            let (these, others) = rest.split_at(many);
            self.one(revision, these)?;
            next = revision + 1;
            rest = others;
        }
        if header < next - 1 {
            broken!("watch {name} got revision {} under a header of {header}", next - 1);
        }
        self.exists(header, "got a header of")?;
        self.next = Some(next);
        Ok(())
    }

    /// Atomic: all events of a revision, in their order, in one response.
    fn one(&self, revision: i64, events: &[Event]) -> Checked {
        let name = &self.log.name;
        let Some(known) = self.history.between(revision, revision).first() else {
            broken!("watch {name} got revision {revision}, which the history does not have: {events:?}");
        };
        let got = events.iter().map(Event::without_prev_kv);
        if !got.eq(self.wanted(known).cloned()) {
            broken!("watch {name} got {events:?} as revision {revision}, which is {:?}", known.events);
        }
        for event in events {
            let prev = event.prev_kv();
            let before = self.model.get(event.kv().key(), revision - 1);
            // What a compaction has taken can't be shown any more.
            let excused = prev.is_none() && self.compactions.iter().any(|compacted| *compacted > revision - 1);
            let expected = before.filter(|_| self.log.prev_kv);
            if prev.as_ref() != expected && !excused {
                broken!("watch {name}: {event:?} names {prev:?} as what was there before; it was {before:?}");
            }
        }
        Ok(())
    }
}
