//! The replicated state: what it holds, and what may be read of it.

use crate::{
    alarm::Alarms,
    error::Error,
    hash::HashPlan,
    index::{Scan, Tally},
    keys::Keys,
    kv::Kv,
    lease::Leases,
    members::Members,
    range::Plan,
    tables::Row,
    types::{Effects, Revision},
};

/// The state machine of one member. Values are not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub(crate) kv: Kv,
    pub(crate) leases: Leases,
    pub(crate) alarms: Alarms,
    pub(crate) members: Members,
}

impl State {
    /// An empty store, at revision 1, of a cluster that is not founded.
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest revision; 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.kv.revision
    }

    /// The revision of the last Compact, the oldest that may be read; -1 before the first.
    pub fn compact_revision(&self) -> i64 {
        self.kv.floor
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    pub fn members(&self) -> &Members {
        &self.members
    }

    /// How many keys are alive now.
    pub fn keys(&self) -> usize {
        self.kv.index.count_live(Keys::ALL)
    }

    /// Pins a Range to a revision. See `range`.
    ///
    /// # Errors
    /// [`Error::FutureRevision`], [`Error::Compacted`].
    pub fn plan<'a>(&self, request: &'a keepstone_proto::etcdserverpb::RangeRequest) -> Result<Plan<'a>, Error> {
        Plan::new(request, self.kv.revision, self.kv.floor)
    }

    /// The revision of `key` that was current at `at`.
    ///
    /// This and the reads below do not check `at` against the compact revision: a Range that was let in may go on
    /// under a floor that has risen, as long as the caller holds back [`State::compact_some`].
    pub fn find(&self, key: &[u8], at: i64) -> Option<Revision> {
        self.kv.index.find(key, at)
    }

    /// Revisions of the keys of a range that were alive at `at`, in key order: no more than `max`. Goes on after
    /// `after`, which is the last answer's `next`. Only a `next` of `None` says that the range is done: where many
    /// keys are dead at `at`, there may be none found and more to come.
    pub fn scan(&self, keys: Keys<'_>, at: i64, after: Option<&[u8]>, max: usize) -> Scan {
        self.kv.index.scan(keys, at, after, max)
    }

    /// How many keys of a range were alive at `at`: O(log n) if that is the current revision, a walk over the range
    /// otherwise.
    pub fn count(&self, keys: Keys<'_>, at: i64) -> usize {
        self.kv.index.count(keys, at)
    }

    /// As [`State::count`], but looks at about `max` keys, and goes on after `after`.
    pub fn count_some(&self, keys: Keys<'_>, at: i64, after: Option<&[u8]>, max: usize) -> Tally {
        self.kv.index.count_some(keys, at, after, max)
    }

    /// The compaction that is not finished on this member: its revision.
    pub fn unfinished_compaction(&self) -> Option<i64> {
        (self.kv.done < self.kv.floor).then_some(self.kv.floor)
    }

    /// Goes on with the compaction of the index by up to `max` keys and revisions, and adds to `dead` what the store
    /// may drop. Returns whether the index is done: once the store has dropped everything, call
    /// [`State::finish_compaction`]. Not replicated: each member goes at its own pace, and answers alike meanwhile.
    pub fn compact_some(&mut self, max: usize, dead: &mut Vec<Revision>) -> bool {
        self.kv.index.compact_some(max, dead)
    }

    /// Notes that everything up to `revision` that was dead has left the store. The effects are this member's own.
    pub fn finish_compaction(&mut self, revision: i64, effects: &mut Effects) {
        if revision > self.kv.done && revision <= self.kv.floor {
            self.kv.done = revision;
            effects.write(&Row::Done(revision));
        }
    }

    /// What a HashKV at `revision` covers; 0 is the current one.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn hash_plan(&self, revision: i64) -> Result<HashPlan, Error> {
        let any = |at| self.kv.index.any_at(at);
        HashPlan::new(revision, self.kv.revision, self.kv.floor, any)
    }

    /// Whether `at`, a put of `key`, is the key's newest revision up to `floor`: what a compaction at `floor` keeps.
    pub fn keeps(&self, key: &[u8], at: Revision, floor: i64) -> bool {
        self.kv.index.find(key, floor) == Some(at)
    }
}
