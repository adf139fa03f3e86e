//! Holds every call against the history: what was acknowledged is there, once, at its revision; what is there was asked
//! for; revisions follow real time; reads saw what they had to.

mod lease;
mod moment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use keepstone_proto::Event;

use crate::history::{Keyspace, is_delete};
use crate::load::{Call, Outcome, What};
use crate::watcher::Revision;

pub use lease::Lease;
pub use moment::Leases;

/// All calls and the history they must explain.
#[derive(Default)]
pub struct Ledger {
    calls: Vec<Call>,
    /// The revision at which a call showed up in the history.
    seen: Vec<Option<i64>>,
    /// For each revision from 2 on, the stamp before which nobody had asked for it.
    asked: Vec<u64>,
    by_value: HashMap<String, usize>,
    pub leases: BTreeMap<i64, Lease>,
    /// Acknowledged deletions by their revision.
    deletes: HashMap<i64, usize>,
    /// Deletions that may have happened.
    maybe: Vec<usize>,
    pub keys: Keyspace,
    /// The greatest revision that any client was shown.
    pub shown: i64,
    pub compacted: i64,
    fresh: usize,
}

fn id_of(value: &[u8]) -> &str {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

impl Ledger {
    /// Takes in calls that have ended.
    pub fn enter(&mut self, calls: Vec<Call>) {
        for call in calls {
            let at = self.calls.len();
            for value in call.values() {
                self.by_value.insert(id_of(value.as_bytes()).to_owned(), at);
            }
            match (&call.what, &call.outcome) {
                (What::Delete { .. }, Outcome::Acked { revision, number: 1.. }) => {
                    self.deletes.insert(*revision, at);
                }
                (What::Delete { .. }, Outcome::Unknown) => self.maybe.push(at),
                (What::Grant { id, ttl }, outcome) => {
                    let lease = self.leases.entry(*id).or_default();
                    (lease.ttl, lease.grant_at) = (*ttl, at);
                    lease.granted = matches!(outcome, Outcome::Acked { .. });
                }
                (What::Revoke { id }, outcome) => {
                    let lease = self.leases.entry(*id).or_default();
                    (lease.revoke, lease.revoke_at) = (Some(outcome.clone()), Some(at));
                }
                (What::Compact { revision }, Outcome::Acked { .. }) => self.compacted = self.compacted.max(*revision),
                _ => {}
            }
            if let Outcome::Acked { revision, .. } | Outcome::Read { revision, .. } = call.outcome {
                self.shown = self.shown.max(revision);
            }
            self.calls.push(call);
            self.seen.push(None);
        }
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Goes on with the history, and settles every call entered since the last time.
    ///
    /// # Errors
    /// The first thing that can't be.
    pub fn settle(&mut self, history: &[Revision]) -> Result<()> {
        let mut reads: Vec<(i64, usize)> = Vec::new();
        for (at, call) in self.calls.iter().enumerate().skip(self.fresh) {
            if let Outcome::Read { revision, .. } = call.outcome {
                reads.push((revision, at));
            }
        }
        reads.sort_unstable();
        let mut reads = reads.into_iter().peekable();
        // A read at the revision that the last round ended with sees what is there before this one's first event.
        while let Some((_, at)) = reads.next_if(|(revision, _)| *revision <= self.keys.revision) {
            let Outcome::Read { revision, .. } = self.calls[at].outcome else { continue };
            ensure!(revision == self.keys.revision, "{:?} was answered from the past", self.calls[at]);
            self.read(at)?;
        }
        for next in history {
            let asked = self.explain(next).with_context(|| format!("explaining {}", short(next)))?;
            self.asked.push(asked);
            self.keys.apply(next)?;
            while let Some((_, at)) = reads.next_if(|(revision, _)| *revision == next.revision) {
                self.read(at)?;
            }
        }
        if let Some((_, at)) = reads.next() {
            bail!("{:?} saw a revision that is lost: the history ends at {}", self.calls[at], self.keys.revision);
        }
        self.nothing_lost()?;
        self.no_key_outlives_its_lease()?;
        self.real_time()?;
        self.fresh = self.calls.len();
        self.maybe.retain(|at| self.seen[*at].is_none());
        Ok(())
    }

    fn read(&self, at: usize) -> Result<()> {
        let call = &self.calls[at];
        let (What::Get { key }, Outcome::Read { revision, key_revision }) = (&call.what, &call.outcome) else {
            return Ok(());
        };
        let there = self.keys.keys.get(key.as_bytes()).map_or(0, |kv| kv.mod_revision());
        ensure!(
            there == *key_revision,
            "a read of {key} at {revision} saw revision {key_revision} of it, the history says {there}"
        );
        Ok(())
    }

    /// Finds the call that made this revision; answers the stamp since which it may have.
    fn explain(&mut self, next: &Revision) -> Result<u64> {
        let put = next.events.iter().find(|event| !is_delete(event));
        let Some(put) = put else { return self.explain_delete(next) };
        let value = put.kv();
        let at = *self.by_value.get(id_of(value.value())).context("nobody wrote this")?;
        let call = &self.calls[at];
        if let Some(before) = self.seen[at] {
            bail!("{call:?} happened twice: at {before} as well");
        }
        ensure!(call.outcome != Outcome::Refused, "{call:?} was refused");
        let expected = self.expected(&call.what)?;
        let mut found: Vec<(Bytes, Option<Bytes>)> = next.events.iter().map(plain).collect();
        found.sort_unstable();
        ensure!(found == expected, "{} is not what it wrote", brief(call));
        if let Outcome::Acked { revision, number } = call.outcome {
            ensure!(revision == next.revision, "{} was acknowledged at {revision}", brief(call));
            if matches!(call.what, What::Txn { .. }) {
                ensure!(
                    (number == 1) == (next.events.iter().all(|e| !is_delete(e))),
                    "{} took the other branch",
                    brief(call)
                );
            }
        }
        self.seen[at] = Some(next.revision);
        Ok(self.calls[at].begun)
    }

    /// The changes the call makes to what is there now, by key.
    fn expected(&self, what: &What) -> Result<Vec<(Bytes, Option<Bytes>)>> {
        let put = |key: &str, value: &str| (Bytes::from(key.to_owned()), Some(Bytes::from(value.to_owned())));
        let mut expected = match what {
            What::Put { key, value, .. } => vec![put(key, value)],
            What::Txn { guard, second, third } => {
                if self.keys.keys.contains_key(guard.0.as_bytes()) {
                    vec![(Bytes::from(guard.0.clone()), None), put(&third.0, &third.1)]
                } else {
                    vec![put(&guard.0, &guard.1), put(&second.0, &second.1)]
                }
            }
            _ => bail!("{what:?} writes nothing"),
        };
        expected.sort_unstable();
        Ok(expected)
    }

    fn explain_delete(&mut self, next: &Revision) -> Result<u64> {
        let mut keys: Vec<Bytes> = next.events.iter().map(|event| event.kv().key_bytes()).collect();
        keys.sort_unstable();
        let lease = self.keys.keys.get(&keys[0]).map_or(0, |kv| kv.lease());
        if lease != 0 {
            return self.explain_end(lease, &keys, next);
        }
        if let Some(at) = self.deletes.get(&next.revision).copied() {
            let call = &self.calls[at];
            let Outcome::Acked { number, .. } = call.outcome else { bail!("only acknowledged ones are here") };
            ensure!(self.covered(at) == keys, "{} deleted something else", brief(call));
            ensure!(number as usize == keys.len(), "{} counted {number}", brief(call));
            self.seen[at] = Some(next.revision);
            return Ok(call.begun);
        }
        let could: Vec<usize> = self.maybe.iter().copied().filter(|at| self.covered(*at) == keys).collect();
        let at = could.iter().copied().find(|at| self.seen[*at].is_none()).context("nobody deleted this")?;
        self.seen[at] = Some(next.revision);
        // Which of them it was can't be told.
        Ok(could.iter().map(|at| self.calls[*at].begun).min().unwrap_or_default())
    }

    /// The keys that a deletion covers now.
    fn covered(&self, at: usize) -> Vec<Bytes> {
        let What::Delete { key, range_end } = &self.calls[at].what else { return Vec::new() };
        let (from, to) = (key.as_bytes(), range_end.as_bytes());
        let inside = |key: &Bytes| if to.is_empty() { key == from } else { &key[..] >= from && &key[..] < to };
        self.keys.keys.keys().filter(|key| inside(key)).cloned().collect()
    }

    fn nothing_lost(&self) -> Result<()> {
        for (at, call) in self.calls.iter().enumerate().skip(self.fresh) {
            let Outcome::Acked { revision, number } = call.outcome else { continue };
            let writes = match call.what {
                What::Put { .. } | What::Txn { .. } => true,
                What::Delete { .. } => number > 0,
                _ => false,
            };
            ensure!(
                !writes || self.seen[at] == Some(revision),
                "LOST: {} was acknowledged at {revision}; the history ends at {}",
                brief(call),
                self.keys.revision
            );
        }
        Ok(())
    }

    /// A call that began after another had ended has a greater revision, or the same where it writes nothing.
    fn real_time(&self) -> Result<()> {
        let no_compaction = |at: &usize| !matches!(self.calls[*at].what, What::Compact { .. });
        let answered = |at: &usize| matches!(self.calls[*at].outcome, Outcome::Acked { .. } | Outcome::Read { .. });
        let mut by_end: Vec<usize> = (self.fresh..self.calls.len()).filter(answered).filter(no_compaction).collect();
        let mut by_begin = by_end.clone();
        by_end.sort_unstable_by_key(|at| self.calls[*at].ended);
        by_begin.sort_unstable_by_key(|at| self.calls[*at].begun);
        let (mut ended, mut greatest) = (by_end.into_iter().peekable(), 0);
        for at in by_begin {
            let call = &self.calls[at];
            while let Some(before) = ended.next_if(|before| self.calls[*before].ended < call.begun) {
                greatest = greatest.max(revision_of(&self.calls[before]));
            }
            let wrote = self.seen[at].is_some();
            let enough = if wrote { revision_of(call) > greatest } else { revision_of(call) >= greatest };
            ensure!(enough, "{} began after revision {greatest} was answered", brief(call));
        }
        Ok(())
    }
}

fn revision_of(call: &Call) -> i64 {
    match call.outcome {
        Outcome::Acked { revision, .. } | Outcome::Read { revision, .. } => revision,
        Outcome::Refused | Outcome::Unknown => 0,
    }
}

fn plain(event: &Event) -> (Bytes, Option<Bytes>) {
    let kv = event.kv();
    (kv.key_bytes(), (!is_delete(event)).then(|| kv.value_bytes()))
}

fn brief(call: &Call) -> String {
    let text = format!("{:?} -> {:?}", call.what, call.outcome);
    if text.len() > 400 { format!("{}...", text.chars().take(400).collect::<String>()) } else { text }
}

fn short(next: &Revision) -> String {
    let events: Vec<String> = next
        .events
        .iter()
        .map(|event| {
            let kv = event.kv();
            format!(
                "{} {:?} = {:?}",
                if is_delete(event) { "delete" } else { "put" },
                kv.key_bytes(),
                id_of(kv.value())
            )
        })
        .collect();
    format!("revision {}: {}", next.revision, events.join(", "))
}
