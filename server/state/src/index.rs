//! The key index: which revision of a key was current when. No values.
//!
//! Live keys stand in a counted tree with a 24-byte head each. What is older, or deleted, stands in a side map that
//! only has the keys it concerns; so a key that is written once costs its head and nothing else. Compaction walks
//! only that side map, a bounded step at a time.
//!
//! It never decides whether a revision may be read: the caller has checked it against the floor.

use std::{cmp::Ordering, collections::BTreeMap, ops::Bound};

use crate::{head::Head, keys::Keys, tree::Tree, types::Revision};

/// A revision of a key that is not its live head. Tombstones carry a flag in the low bit of `sub`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    main: i64,
    sub_and_flag: i64,
}

impl Version {
    fn new(at: Revision, tombstone: bool) -> Self {
        Self { main: at.main, sub_and_flag: at.sub << 1 | i64::from(tombstone) }
    }

    fn at(self) -> Revision {
        Revision::new(self.main, self.sub_and_flag >> 1)
    }

    fn tombstone(self) -> bool {
        self.sub_and_flag & 1 != 0
    }
}

/// How many dead keys a scan passes over.
const PASSED: usize = 1024;

/// How many keys a walk may still find, and pass over.
#[derive(Clone, Copy)]
struct Budget {
    found: usize,
    passed: usize,
}

/// Oldest first, never empty while it is in the map.
type History = Vec<Version>;

/// Part of a walk over a range. See [`Index::scan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The revisions of the keys that exist, in key order.
    pub found: Vec<Revision>,
    /// The last key looked at, to go on after; `None` when the range is done.
    pub next: Option<Box<[u8]>>,
}

/// Part of a count over a range. See [`Index::count_some`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub found: usize,
    /// As in [`Scan`].
    pub next: Option<Box<[u8]>>,
}

/// A walk of compaction over the side map.
#[derive(Clone, Debug)]
struct Pass {
    floor: i64,
    /// The last key that is done; `None` at the start.
    cursor: Option<Box<[u8]>>,
    /// Where the walk was when the floor rose: it goes around once more, up to here.
    wrap: Option<Box<[u8]>>,
    /// Set once it has gone around: the last key to look at.
    stop: Option<Box<[u8]>>,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Index {
    live: Tree<Head>,
    past: BTreeMap<Box<[u8]>, History>,
    /// The largest revision that was put in.
    newest: i64,
    pass: Option<Pass>,
}

impl Index {
    /// The head of a live key.
    pub fn get(&self, key: &[u8]) -> Option<Head> {
        self.live.get(key).copied()
    }

    /// Live keys of a range, with their heads, in key order.
    pub fn live<'a>(&'a self, keys: Keys<'a>) -> impl Iterator<Item = (&'a [u8], Head)> {
        self.live
            .iter_from(keys.from(None))
            .take_while(move |(key, _)| !keys.ends_before(key))
            .map(|(key, head)| (key, *head))
    }

    /// How many live keys are in the range. O(log n).
    pub fn count_live(&self, keys: Keys<'_>) -> usize {
        match keys {
            Keys::One(key) => usize::from(self.live.get(key).is_some()),
            Keys::From(start) => self.live.count(start, None),
            Keys::Between(start, end) => self.live.count(start, Some(end)),
        }
    }

    /// Writes `key` at `at`, which is above every revision so far. Returns the new head and the one it replaced.
    pub fn put(&mut self, key: &[u8], at: Revision, leased: bool) -> (Head, Option<Head>) {
        let mut head = Head::new(at.main, at, 1, leased);
        let old = self.live.upsert(key, |old| {
            if let Some(old) = old {
                head = Head::new(old.create(), at, old.version() + 1, leased);
            }
            head
        });
        if let Some(old) = old {
            self.remember(key, Version::new(old.modified(), false));
        }
        self.newest = self.newest.max(at.main);
        (head, old)
    }

    /// Deletes `key` at `at`. Returns the head it had; `None` if it was not alive, and then nothing changed.
    pub fn delete(&mut self, key: &[u8], at: Revision) -> Option<Head> {
        let (key, old) = self.live.remove(key)?;
        self.newest = self.newest.max(at.main);
        let history = self.past.entry(key).or_insert_with(|| Vec::with_capacity(2));
        history.push(Version::new(old.modified(), false));
        history.push(Version::new(at, true));
        Some(old)
    }

    /// Puts in a record that was stored: its head says everything, whatever came before it.
    /// Returns the head it replaced.
    pub fn restore_put(&mut self, key: &[u8], head: Head) -> Option<Head> {
        let old = self.live.insert(key, head);
        if let Some(old) = old {
            self.remember(key, Version::new(old.modified(), false));
        }
        self.newest = self.newest.max(head.modified().main);
        old
    }

    /// Puts in a tombstone that was stored, perhaps without the put it ended. Returns the head it replaced.
    pub fn restore_tombstone(&mut self, key: &[u8], at: Revision) -> Option<Head> {
        let old = self.delete(key, at);
        if old.is_none() {
            self.newest = self.newest.max(at.main);
            self.remember(key, Version::new(at, true));
        }
        old
    }

    fn remember(&mut self, key: &[u8], version: Version) {
        match self.past.get_mut(key) {
            Some(history) => history.push(version),
            // One element, where a push into an empty Vec would make room for four.
            None => drop(self.past.insert(key.into(), vec![version])),
        }
    }

    /// The revision of `key` that was current at `at`; `None` if it was not alive then.
    pub fn find(&self, key: &[u8], at: i64) -> Option<Revision> {
        if let Some(head) = self.live.get(key)
            && head.modified().main <= at
        {
            return Some(head.modified());
        }
        alive(self.past.get(key)?, at)
    }

    /// The keys of a range that were alive at `at`, as revisions in key order: no more than `max`. Goes on after
    /// `after`. Dead keys are passed over, but no more than [`PASSED`] at a time, so that no caller holds the index
    /// for long: there may be none found, and more to come.
    pub fn scan(&self, keys: Keys<'_>, at: i64, after: Option<&[u8]>, max: usize) -> Scan {
        let mut found = Vec::new();
        let budget = Budget { found: max.max(1), passed: PASSED };
        let next = self.visit(keys, at, after, budget, |revision| found.push(revision));
        Scan { found, next }
    }

    /// How many keys of a range were alive at `at`: of no more than `max` that were, and as many that were not. If
    /// `at` is current, of all of them, in O(log n).
    pub fn count_some(&self, keys: Keys<'_>, at: i64, after: Option<&[u8]>, max: usize) -> Tally {
        if at >= self.newest && after.is_none() {
            return Tally { found: self.count_live(keys), next: None };
        }
        let mut found = 0;
        let max = max.max(1);
        let budget = Budget { found: max, passed: max };
        let next = self.visit(keys, at, after, budget, |_| found += 1);
        Tally { found, next }
    }

    /// How many keys of a range were alive at `at`: O(log n) if that is current, else a walk over the range.
    pub fn count(&self, keys: Keys<'_>, at: i64) -> usize {
        self.count_some(keys, at, None, usize::MAX).found
    }

    fn visit(
        &self,
        keys: Keys<'_>,
        at: i64,
        after: Option<&[u8]>,
        mut budget: Budget,
        mut found: impl FnMut(Revision),
    ) -> Option<Box<[u8]>> {
        if let Keys::One(key) = keys {
            if after.is_none() {
                self.find(key, at).into_iter().for_each(found);
            }
            return None;
        }
        let from = keys.from(after);
        // At the newest revision nothing that is past can show.
        if at >= self.newest {
            return self.visit_live(keys, from, budget.found, found);
        }
        let mut live = self.live.iter_from(from).peekable();
        let mut past = self.past.range::<[u8], _>((from, Bound::Unbounded)).peekable();
        let mut last: Option<&[u8]> = None;
        while budget.found > 0 && budget.passed > 0 {
            let order = match (live.peek(), past.peek()) {
                (Some((a, _)), Some((b, _))) => (*a).cmp(&***b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            let head = if order.is_le() { live.next() } else { None };
            let history = if order.is_ge() { past.next() } else { None };
            let key = match (head, history) {
                (Some((key, _)), _) => key,
                (None, Some((key, _))) => key,
                (None, None) => return None,
            };
            if keys.ends_before(key) {
                return None;
            }
            let current = match (head, history) {
                (Some((_, head)), _) if head.modified().main <= at => Some(head.modified()),
                (_, Some((_, history))) => alive(history, at),
                _ => None,
            };
            match current {
                Some(revision) => {
                    found(revision);
                    budget.found -= 1;
                }
                None => budget.passed -= 1,
            }
            last = Some(key);
        }
        // The budget is used up: whether there is more is seen on the next call.
        last.map(Into::into).or_else(|| after.map(Into::into))
    }

    /// The live keys of a range are counted beforehand: so none of them has to be compared with its end.
    fn visit_live(
        &self,
        keys: Keys<'_>,
        from: Bound<&[u8]>,
        max: usize,
        mut found: impl FnMut(Revision),
    ) -> Option<Box<[u8]>> {
        let end = match keys {
            Keys::One(_) | Keys::From(_) => self.live.len(),
            Keys::Between(_, end) => self.live.rank(end),
        };
        let start = match from {
            Bound::Included(key) => self.live.rank(key),
            Bound::Excluded(key) => self.live.rank(key) + usize::from(self.live.get(key).is_some()),
            Bound::Unbounded => 0,
        };
        let left = end.saturating_sub(start);
        let mut last = None;
        for (key, head) in self.live.iter_from(from).take(left.min(max)) {
            found(head.modified());
            last = Some(key);
        }
        if left > max { last.map(Into::into) } else { None }
    }

    /// Whether any key was alive at `at`.
    pub fn any_at(&self, at: i64) -> bool {
        if at >= self.newest {
            return !self.live.is_empty();
        }
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let tally = self.count_some(Keys::ALL, at, after.as_deref(), 1024);
            if tally.found > 0 {
                return true;
            }
            if tally.next.is_none() {
                return false;
            }
            after = tally.next;
        }
    }

    /// Starts to forget what nobody can read from `floor` on. The work is done by [`Index::compact_some`].
    pub fn start_compaction(&mut self, floor: i64) {
        // A walk that is under way goes on from where it is, under the new floor, and around: so that compactions
        // in quick succession can't starve the last keys.
        let cursor = self.pass.take().and_then(|pass| pass.cursor);
        self.pass = Some(Pass { floor, wrap: cursor.clone(), stop: None, cursor });
    }

    /// Goes on with the compaction, and adds the revisions that nobody can read any more to `dead`: of each key
    /// everything up to the floor, except the newest if that is alive, or is a tombstone exactly at the floor,
    /// which a watch from there still sees. Keys looked at and revisions found come to `max` at most.
    /// Returns whether it is done.
    pub fn compact_some(&mut self, max: usize, dead: &mut Vec<Revision>) -> bool {
        let Some(mut pass) = self.pass.take() else {
            return true;
        };
        let mut budget = max.max(1);
        while budget > 0 {
            match self.compact_stretch(&mut pass, &mut budget, dead) {
                Stretch::Budget => break,
                Stretch::End if pass.wrap.is_some() => {
                    pass.cursor = None;
                    pass.stop = pass.wrap.take();
                }
                Stretch::End => return true,
            }
        }
        self.pass = Some(pass);
        false
    }

    /// From the cursor on until the budget is used up, or the walk is at its end.
    fn compact_stretch(&mut self, pass: &mut Pass, budget: &mut usize, dead: &mut Vec<Revision>) -> Stretch {
        let from = pass.cursor.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut emptied = Vec::new();
        let mut reached = None;
        let mut outcome = Stretch::End;
        for (key, history) in self.past.range_mut::<[u8], _>((from, Bound::Unbounded)) {
            if pass.stop.as_ref().is_some_and(|stop| key > stop) {
                break;
            }
            if *budget == 0 {
                outcome = Stretch::Budget;
                break;
            }
            let replaced = self.live.get(key).is_some_and(|head| head.modified().main <= pass.floor);
            let gone = dead_versions(history, pass.floor, replaced);
            let now = gone.min(*budget);
            dead.extend(history.drain(..now).map(Version::at));
            *budget -= now.max(1);
            if now < gone {
                outcome = Stretch::Budget;
                break;
            }
            if history.is_empty() {
                emptied.push(key.clone());
            } else if history.capacity() > 2 * history.len() {
                history.shrink_to_fit();
            }
            reached = Some(key);
        }
        if let Some(key) = reached {
            pass.cursor = Some(key.clone());
        }
        for key in emptied {
            self.past.remove(&key);
        }
        outcome
    }
}

/// How a stretch of compaction ended.
enum Stretch {
    Budget,
    End,
}

/// How many of the oldest versions nobody can read from `floor` on. `replaced` says that the live head is not above
/// the floor either.
fn dead_versions(history: &[Version], floor: i64, replaced: bool) -> usize {
    let upto = history.partition_point(|version| version.main <= floor);
    match history[..upto].last() {
        Some(newest) if !replaced && (!newest.tombstone() || newest.main == floor) => upto - 1,
        _ => upto,
    }
}

/// Equal if they answer every read alike; where a compaction stands is no part of that.
impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.live == other.live && self.past == other.past
    }
}

/// The newest of `history` not above `at`, if it is no tombstone.
fn alive(history: &[Version], at: i64) -> Option<Revision> {
    let upto = history.partition_point(|version| version.main <= at);
    let version = history[..upto].last()?;
    (!version.tombstone()).then(|| version.at())
}
