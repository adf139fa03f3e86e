//! Revisions that a running read still needs: physical compaction stops below the lowest of them.
//!
//! A pin holds records back, it never hides a compaction from clients. What it holds back is bounded by [`HELD_BYTES`]
//! and [`HELD_TIME`]: past either the compactor revokes the pins of lists, and their clients are told that the revision
//! has been compacted. Copies of everything (snapshots, hashes) can't be revoked: they bound themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bytes that the store may grow by while lists hold back a compaction.
pub const HELD_BYTES: u64 = 512 << 20;
/// How long lists may hold back a compaction.
pub const HELD_TIME: Duration = Duration::from_secs(15 * 60);

/// All pins of a member.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    copies: BTreeMap<i64, usize>,
    lists: BTreeMap<i64, Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    count: usize,
    revoked: Arc<AtomicBool>,
}

/// Keeps what is visible at one revision readable until it is dropped or revoked.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    revision: i64,
    /// Present in a list's pin.
    revoked: Option<Arc<AtomicBool>>,
}

impl Pins {
    /// A pin that nobody revokes. Take it under the state's lock, together with the check that `revision` is not
    /// compacted.
    pub fn pin(&self, revision: i64) -> Pin {
        *self.inner.lock().copies.entry(revision).or_default() += 1;
        Pin { pins: self.clone(), revision, revoked: None }
    }

    /// A pin that its holder looks at before every step: [`Pin::is_revoked`]. Take it as the other.
    pub fn pin_list(&self, revision: i64) -> Pin {
        let mut inner = self.inner.lock();
        let lists = inner.lists.entry(revision).or_default();
        lists.count += 1;
        Pin { pins: self.clone(), revision, revoked: Some(lists.revoked.clone()) }
    }

    /// The lowest pinned revision, if any.
    pub fn lowest(&self) -> Option<i64> {
        let inner = self.inner.lock();
        let (copy, list) = (inner.copies.keys().next(), inner.lists.keys().next());
        copy.into_iter().chain(list).min().copied()
    }

    /// Takes away the lists' pins below `floor`. Call it under the state's write lock: who has looked up keys under a
    /// pin has then done so before, and finds out by a record that is missing.
    pub fn revoke_lists_below(&self, floor: i64) {
        let mut inner = self.inner.lock();
        let kept = inner.lists.split_off(&floor);
        for lists in std::mem::replace(&mut inner.lists, kept).into_values() {
            lists.revoked.store(true, Ordering::Release);
        }
    }
}

impl Pin {
    /// Whether the revision may have been compacted away.
    pub fn is_revoked(&self) -> bool {
        self.revoked.as_ref().is_some_and(|revoked| revoked.load(Ordering::Acquire))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut inner = self.pins.inner.lock();
        if self.revoked.is_some() {
            // What was revoked is out of the map, and below the floor nobody pins anew.
            if let Some(lists) = inner.lists.get_mut(&self.revision) {
                lists.count -= 1;
                if lists.count == 0 {
                    inner.lists.remove(&self.revision);
                }
            }
        } else if let Some(count) = inner.copies.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                inner.copies.remove(&self.revision);
            }
        }
    }
}

/// How long, and past how many new bytes, a compaction has been held back.
#[derive(Debug)]
pub struct HeldBack {
    since: Instant,
    bytes: u64,
}

impl HeldBack {
    /// `bytes` is the store's size when it began.
    pub fn new(bytes: u64) -> Self {
        Self { since: Instant::now(), bytes }
    }

    /// Whether lists have held it back enough, at this size of the store.
    pub fn is_over(&self, bytes: u64) -> bool {
        bytes.saturating_sub(self.bytes) > HELD_BYTES || self.since.elapsed() > HELD_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_counts_until_its_last_holder_lets_go() {
        let pins = Pins::default();
        let (a, b, c) = (pins.pin(5), pins.pin_list(5), pins.pin(9));
        drop(a);
        assert_eq!(pins.lowest(), Some(5));
        drop(b);
        assert_eq!(pins.lowest(), Some(9));
        drop(c);
        assert_eq!(pins.lowest(), None);
    }

    #[test]
    fn lists_below_a_floor_lose_their_pins_and_copies_keep_them() {
        let pins = Pins::default();
        let (copy, old, twin, new) = (pins.pin(4), pins.pin_list(5), pins.pin_list(5), pins.pin_list(9));
        pins.revoke_lists_below(9);
        assert!(old.is_revoked() && twin.is_revoked());
        assert!(!new.is_revoked() && !copy.is_revoked());
        assert_eq!(pins.lowest(), Some(4));
        drop((copy, old, twin));
        assert_eq!(pins.lowest(), Some(9));
    }

    #[test]
    fn a_compaction_is_held_back_for_so_many_bytes_and_no_more() {
        let held = HeldBack::new(1000);
        assert!(!held.is_over(900));
        assert!(!held.is_over(1000 + HELD_BYTES));
        assert!(held.is_over(1001 + HELD_BYTES));
    }
}
