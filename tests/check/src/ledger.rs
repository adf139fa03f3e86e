//! Explains every revision by the call that made it, and every answer by the revision it names.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use keepstone_proto::Event;

use crate::call::{Call, Outcome, Time};
use crate::history::{History, Revision};
use crate::leases::Leases;
use crate::model::Model;
use crate::{Checked, broken, order, reads};

/// What a check has looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub revisions: usize,
    /// Answered writes, reads.
    pub writes: usize,
    pub reads: usize,
    /// Calls without an answer that turned out to have been carried out, and that did not.
    pub carried_out: usize,
    pub not_carried_out: usize,
    /// Revisions made by the end of a lease.
    pub lease_ends: usize,
}

/// Holds every call against the history. The members' clocks gain at most `drift` microseconds a second.
///
/// # Errors
/// The first that can't be explained.
pub fn check_calls(history: &History, calls: &[Call], drift: u32) -> Checked<(Summary, Model)> {
    let mut ledger = Ledger::new(calls, drift)?;
    for one in history.all() {
        ledger.explain(one)?;
    }
    ledger.nothing_lost(history.last())?;
    reads::check(calls, &ledger.model)?;
    order::check(calls, &ledger.seen)?;
    Ok((ledger.summary(history), ledger.model))
}

struct Ledger<'a> {
    calls: &'a [Call],
    /// The revision that a call made.
    seen: Vec<Option<i64>>,
    by_value: HashMap<Bytes, usize>,
    /// Answered writes by their revision.
    answered: BTreeMap<i64, usize>,
    /// Deletions without an answer, by the moment they began.
    maybe: Vec<usize>,
    /// For each revision that an answer names, when the first answer came that names it or a later one.
    known_by: BTreeMap<i64, Time>,
    leases: Leases,
    lease_ends: usize,
    model: Model,
}

impl<'a> Ledger<'a> {
    fn new(calls: &'a [Call], drift: u32) -> Checked<Self> {
        let (mut by_value, mut answered, mut maybe) = (HashMap::new(), BTreeMap::new(), Vec::new());
        for (at, call) in calls.iter().enumerate() {
            for value in call.values() {
                if let Some(other) = by_value.insert(value, at) {
                    debug_assert!(other == at, "two calls write the same value: {}", call.brief());
                }
            }
            if call.wrote() {
                let revision = call.revision().unwrap_or(0);
                if let Some(other) = answered.insert(revision, at) {
                    let other: &Call = &calls[other];
                    broken!("both were answered with revision {revision}: {}; {}", other.brief(), call.brief());
                }
            } else if call.outcome == Outcome::Unknown && call.may_write() {
                maybe.push(at);
            }
        }
        maybe.sort_by_key(|at| calls[*at].begun);
        let mut known_by: BTreeMap<i64, Time> = BTreeMap::new();
        for call in calls {
            if let Some(revision) = call.revision() {
                let known = known_by.entry(revision).or_insert(call.ended);
                *known = call.ended.min(*known);
            }
        }
        let mut earliest = Time::MAX;
        for known in known_by.values_mut().rev() {
            earliest = earliest.min(*known);
            *known = earliest;
        }
        let (seen, leases) = (vec![None; calls.len()], Leases::of(calls, drift));
        Ok(Self { calls, seen, by_value, answered, maybe, known_by, leases, lease_ends: 0, model: Model::default() })
    }

    fn explain(&mut self, one: &Revision) -> Checked {
        if let Some(at) = self.answered.get(&one.revision).copied() {
            let expected = self.calls[at].outcome.clone();
            return self.carry_out(at, one, Some(&expected));
        }
        let values = one.events.iter().map(|event| event.kv().value_bytes()).filter(|value| !value.is_empty());
        let by_value = values.map(|value| self.by_value.get(&value).copied()).next();
        match by_value {
            Some(Some(at)) => match &self.calls[at].outcome {
                Outcome::Unknown => self.carry_out(at, one, None),
                answer => {
                    let call = self.calls[at].brief();
                    broken!("revision {} is {call}, which was answered {answer:?}: {:?}", one.revision, one.events)
                }
            },
            Some(None) => broken!("nobody wrote revision {}: {:?}", one.revision, one.events),
            None => self.explain_deletes(one),
        }
    }

    /// A revision without a put and without an answer: the end of a lease, or an unanswered call.
    fn explain_deletes(&mut self, one: &Revision) -> Checked {
        let known_by = self.known_by.range(one.revision..).next().map_or(Time::MAX, |(_, known)| *known);
        let keys: Vec<Bytes> = one.events.iter().map(|event| event.kv().key_bytes()).collect();
        let ended = self.leases.explain(&self.model, &keys);
        // The lease first: nobody has to explain its end later, where an unanswered call may be all that a delete has.
        if ended.is_some_and(|(_, since)| since <= known_by) {
            let events = self.model.delete_keys(&keys);
            debug_assert!(same(&events, &one.events));
            self.lease_ends += 1;
            return Ok(());
        }
        // Of calls that would have done the same the one that began first: it constrains the others least.
        let in_time = |at: &usize| self.seen[*at].is_none() && self.calls[*at].begun <= known_by;
        let mut unseen = self.maybe.iter().copied().filter(in_time);
        let fits = unseen.find(|at| same(&self.model.preview(&self.calls[*at].op), &one.events));
        match (fits, ended) {
            (Some(at), _) => self.carry_out(at, one, None),
            (None, None) => {
                broken!("nobody deleted this, and no lease ended: revision {}: {:?}", one.revision, one.events)
            }
            (None, Some((_, since))) => broken!(
                "revision {} is the end of a lease that could not end before {since:?}, but was seen at {known_by:?}",
                one.revision
            ),
        }
    }

    fn carry_out(&mut self, at: usize, one: &Revision, expected: Option<&Outcome>) -> Checked {
        let call = &self.calls[at];
        if let Some(before) = self.seen[at].replace(one.revision) {
            broken!("{} happened twice: as revision {before} and as {}", call.brief(), one.revision);
        }
        let (answer, events) = self.model.write(&call.op);
        if !same(&events, &one.events) {
            broken!("revision {} is {:?}; {} makes {events:?}", one.revision, one.events, call.brief());
        }
        match expected {
            Some(expected) if !reads::agree(expected, &answer) => {
                broken!("{} was answered {expected:?}; right was {answer:?}", call.brief())
            }
            _ => Ok(()),
        }
    }

    fn nothing_lost(&self, last: i64) -> Checked {
        for (revision, at) in &self.answered {
            if self.seen[*at].is_none() {
                let call = self.calls[*at].brief();
                broken!("LOST: {call} was answered with revision {revision}; the history ends at {last}");
            }
        }
        Ok(())
    }

    fn summary(&self, history: &History) -> Summary {
        let unknown = self.calls.iter().zip(&self.seen).filter(|(call, _)| call.outcome == Outcome::Unknown);
        let (carried_out, not): (Vec<_>, Vec<_>) = unknown.partition(|(_, seen)| seen.is_some());
        let answered = self.calls.iter().filter(|call| call.revision().is_some()).count();
        Summary {
            revisions: history.all().len(),
            writes: self.answered.len(),
            reads: answered - self.answered.len(),
            carried_out: carried_out.len(),
            not_carried_out: not.len(),
            lease_ends: self.lease_ends,
        }
    }
}

/// Whether the model's events are the observed ones, which carry nothing of what was there before.
fn same(model: &[Event], observed: &[Event]) -> bool {
    model.iter().map(Event::without_prev_kv).eq(observed.iter().cloned())
}
