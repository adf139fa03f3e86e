//! Random numbers that a seed decides: those of the other simulator, begun elsewhere.

use keepstone_wal::testing::Rng as Numbers;

#[derive(Debug, Clone)]
pub struct Rng(Numbers);

impl Rng {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Numbers::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d))
    }

    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// In so many of a thousand cases.
    pub fn one_in(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(usize::try_from(self.below(of.len() as u64)).unwrap_or(0)) }
    }
}
