//! When leases end, by a clock that is handed in. Pure: knows no time of its own, no task, no log.
//!
//! Time is a monotonic `Duration` since any fixed moment. A lease never ends before the time its holder was promised;
//! one that has ended never comes back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use keepstone_state::LeaseId;

/// Stale entries that a queue may hold beside as many as there are leases.
const STALE_ENTRIES: usize = 1024;

/// What a lease starts with when its member becomes leader, and how its time is noted.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Added to every lease's time: what an election may have cost its holder.
    pub extend: Duration,
    /// How long a lease must have gone without renewal before what is left of it is noted in the log; `None` for
    /// never.
    pub checkpoint: Option<Duration>,
}

/// A lease as the state has it. Times in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub id: LeaseId,
    pub ttl: i64,
    /// What was left at the last checkpoint; 0 if there was none since the last renewal.
    pub remaining_ttl: i64,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// For so many seconds.
    For(i64),
    /// There is no such lease.
    Unknown,
    /// It has ended, and is on its way out.
    Ended,
    /// What is left of it is being noted: ask again when that has been applied.
    BeingNoted,
    /// What was left of it stands in the log, and has to be cleared there before it may be renewed: a leader to come
    /// would let it end too early.
    ClearFirst,
}

#[derive(Debug)]
struct Entry {
    ttl: i64,
    remaining_ttl: i64,
    renewed: Duration,
    ends: Duration,
    /// The times of this lease's entries in the queues. An entry of any other time is stale.
    end_queued: Option<Duration>,
    note_queued: Option<Duration>,
    being_noted: bool,
}

type Queue = BinaryHeap<Reverse<(Duration, LeaseId)>>;

/// The ends of all leases. Holds one entry a lease, and twice as many entries of its queues at most.
#[derive(Debug, Default)]
pub struct Expiry {
    leases: HashMap<LeaseId, Entry>,
    ends: Queue,
    notes: Queue,
    /// Set while this member leads.
    rules: Option<Rules>,
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

fn rounded_up(time: Duration) -> i64 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

impl Expiry {
    /// This member leads from `now` on: every lease has its whole time before it, or what the last checkpoint left.
    pub fn promote(&mut self, now: Duration, leases: impl IntoIterator<Item = Known>, rules: Rules) {
        self.demote();
        self.rules = Some(rules);
        let (mut ends, mut notes) = (Vec::new(), Vec::new());
        for Known { id, ttl, remaining_ttl } in leases {
            let left = if remaining_ttl > 0 { remaining_ttl } else { ttl };
            let end = now + seconds(left) + rules.extend;
            let note_queued = rules.checkpoint.filter(|every| seconds(left) > *every).map(|every| now + every);
            notes.extend(note_queued.map(|at| Reverse((at, id))));
            ends.push(Reverse((end, id)));
            let entry = Entry {
                ttl,
                remaining_ttl,
                renewed: now,
                ends: end,
                end_queued: Some(end),
                note_queued,
                being_noted: false,
            };
            self.leases.insert(id, entry);
        }
        self.ends = ends.into();
        self.notes = notes.into();
    }

    /// This member does not lead any more: no lease ends here.
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    pub fn leads(&self) -> bool {
        self.rules.is_some()
    }

    /// How many leases there are; none while another member leads.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// A new lease of so many seconds.
    pub fn grant(&mut self, now: Duration, id: LeaseId, ttl: i64) {
        let Some(rules) = self.rules else { return };
        let end = now + seconds(ttl);
        let note_queued = rules.checkpoint.filter(|every| seconds(ttl) > *every).map(|every| now + every);
        self.notes.extend(note_queued.map(|at| Reverse((at, id))));
        self.ends.push(Reverse((end, id)));
        let entry = Entry {
            ttl,
            remaining_ttl: 0,
            renewed: now,
            ends: end,
            end_queued: Some(end),
            note_queued,
            being_noted: false,
        };
        self.leases.insert(id, entry);
        self.drop_stale();
    }

    /// The lease is gone.
    pub fn revoke(&mut self, id: LeaseId) {
        if self.leases.remove(&id).is_some() {
            self.drop_stale();
        }
    }

    /// The log says that so many seconds were left; 0 that the whole time is.
    pub fn checkpointed(&mut self, id: LeaseId, remaining_ttl: i64) {
        if let Some(entry) = self.leases.get_mut(&id) {
            entry.remaining_ttl = remaining_ttl;
            // A cleared one may come between a checkpoint's making and its own entry in the log.
            entry.being_noted &= remaining_ttl == 0;
        }
    }

    /// Starts a lease's time anew.
    pub fn renew(&mut self, now: Duration, id: LeaseId) -> Renewed {
        let Some(entry) = self.leases.get_mut(&id) else { return Renewed::Unknown };
        if entry.ends <= now {
            return Renewed::Ended;
        }
        if entry.being_noted {
            return Renewed::BeingNoted;
        }
        if entry.remaining_ttl > 0 {
            return Renewed::ClearFirst;
        }
        entry.renewed = now;
        // A renewal never takes away what a promotion has given.
        entry.ends = entry.ends.max(now + seconds(entry.ttl));
        Renewed::For(entry.ttl)
    }

    /// What is left of a lease, and what it was granted for in seconds.
    pub fn remaining(&self, now: Duration, id: LeaseId) -> Option<(Duration, i64)> {
        self.leases.get(&id).map(|entry| (entry.ends.saturating_sub(now), entry.ttl))
    }

    /// When a lease ends.
    pub fn ends(&self, id: LeaseId) -> Option<Duration> {
        self.leases.get(&id).map(|entry| entry.ends)
    }

    /// Leases that have ended, at most `max`, the longest ended ones first. None is named again before it is handed
    /// to [`Expiry::retry`].
    pub fn due(&mut self, now: Duration, max: usize) -> Vec<LeaseId> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some(Reverse((at, id))) = self.ends.peek().copied()
            && at <= now
        {
            self.ends.pop();
            let Some(entry) = self.leases.get_mut(&id).filter(|entry| entry.end_queued == Some(at)) else { continue };
            if entry.ends <= now {
                entry.end_queued = None;
                due.push(id);
            } else {
                entry.end_queued = Some(entry.ends);
                self.ends.push(Reverse((entry.ends, id)));
            }
        }
        due
    }

    /// Leases whose end did not get into the log: they are due again at `at`.
    pub fn retry(&mut self, ids: &[LeaseId], at: Duration) {
        for id in ids {
            if let Some(entry) = self.leases.get_mut(id).filter(|entry| entry.end_queued.is_none()) {
                entry.end_queued = Some(at);
                self.ends.push(Reverse((at, *id)));
            }
        }
    }

    /// Leases whose time is to be noted in the log, at most `max`, with the seconds left of each. None of them can be
    /// renewed before its note was applied, or handed to [`Expiry::not_noted`].
    pub fn due_notes(&mut self, now: Duration, max: usize) -> Vec<(LeaseId, i64)> {
        let Some(every) = self.rules.and_then(|rules| rules.checkpoint) else { return Vec::new() };
        let mut due = Vec::new();
        while due.len() < max
            && let Some(Reverse((at, id))) = self.notes.peek().copied()
            && at <= now
        {
            self.notes.pop();
            let Some(entry) = self.leases.get_mut(&id).filter(|entry| entry.note_queued == Some(at)) else { continue };
            entry.note_queued = None;
            if entry.ends <= now {
                continue;
            }
            let mut next = entry.renewed + every;
            if next <= now {
                let left = entry.ends - now;
                if rounded_up(left) < entry.ttl && !entry.being_noted {
                    entry.being_noted = true;
                    due.push((id, rounded_up(left)));
                }
                next = now + every;
            }
            if entry.ends > next {
                entry.note_queued = Some(next);
                self.notes.push(Reverse((next, id)));
            }
        }
        due
    }

    /// Notes that were refused, or whose fate is not known: they count as if they stood in the log.
    pub fn not_noted(&mut self, notes: &[(LeaseId, i64)]) {
        for (id, remaining_ttl) in notes {
            if let Some(entry) = self.leases.get_mut(id).filter(|entry| entry.being_noted) {
                entry.being_noted = false;
                entry.remaining_ttl = *remaining_ttl;
            }
        }
    }

    fn drop_stale(&mut self) {
        let bound = self.leases.len() * 2 + STALE_ENTRIES;
        let leases = &self.leases;
        if self.ends.len() > bound {
            self.ends.retain(|Reverse((at, id))| leases.get(id).is_some_and(|entry| entry.end_queued == Some(*at)));
        }
        if self.notes.len() > bound {
            self.notes.retain(|Reverse((at, id))| leases.get(id).is_some_and(|entry| entry.note_queued == Some(*at)));
        }
    }
}

#[cfg(test)]
mod tests;
