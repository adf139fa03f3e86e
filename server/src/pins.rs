//! Revisions that a running read still needs: physical compaction stops below the lowest of them.
//!
//! A pin holds records back, it never hides a compaction from clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// All pins of a member.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    counts: Arc<Mutex<BTreeMap<i64, usize>>>,
}

/// Keeps what is visible at one revision readable until it is dropped.
#[derive(Debug)]
pub struct Pin {
    pins: Pins,
    revision: i64,
}

impl Pins {
    /// Take it under the state's lock, together with the check that `revision` is not compacted.
    pub fn pin(&self, revision: i64) -> Pin {
        *self.counts.lock().entry(revision).or_default() += 1;
        Pin { pins: self.clone(), revision }
    }

    /// The lowest pinned revision, if any.
    pub fn lowest(&self) -> Option<i64> {
        self.counts.lock().keys().next().copied()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut counts = self.pins.counts.lock();
        if let Some(count) = counts.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_counts_until_its_last_holder_lets_go() {
        let pins = Pins::default();
        let (a, b, c) = (pins.pin(5), pins.pin(5), pins.pin(9));
        drop(a);
        assert_eq!(pins.lowest(), Some(5));
        drop(b);
        assert_eq!(pins.lowest(), Some(9));
        drop(c);
        assert_eq!(pins.lowest(), None);
    }
}
