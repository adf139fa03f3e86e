//! Randomness for everything that the simulator decides: a tree of generators, so that one more throw in one place changes
//! no other.

use std::ops::Range;
use std::time::Duration;

use keepstone_wal::testing::Rng;

/// One generator.
#[derive(Clone, Debug)]
pub struct Dice(Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// A generator for a part of its own.
    pub fn fork(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number of `range`, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.0.below(range.end - range.start)
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.0.chance(percent)
    }

    /// One of `all`, which is not empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.below(all.len() as u64) as usize]
    }

    /// So many milliseconds.
    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}
