//! Keys and values of the loads. No randomness that cannot be repeated: a seed gives the same keys.

/// Keys of the loaded set: `k` and seven digits, so that they sort by number.
pub fn numbered(n: u64) -> [u8; 8] {
    let mut key = *b"k0000000";
    let mut rest = n;
    for digit in key[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// The end of the range that holds all numbered keys.
pub const NUMBERED_END: &[u8] = b"l";

const SPACE_BITS: u32 = 28;

/// Distinct keys in random order without remembering them: a permutation of 2^28 numbers, each written as the space's
/// letter and seven hex digits.
pub struct Distinct {
    letter: u8,
    next: u32,
    multiplier: u32,
}

impl Distinct {
    pub fn new(letter: u8, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self { letter, next: rng.next() as u32, multiplier: rng.next() as u32 | 5 }
    }

    pub fn next(&mut self) -> [u8; 8] {
        const MASK: u32 = (1 << SPACE_BITS) - 1;
        self.next = self.next.wrapping_add(1);
        // Each step is a bijection of 28-bit numbers: odd multiplications and xors with a right shift.
        let mut x = self.next.wrapping_mul(self.multiplier) & MASK;
        x ^= x >> 15;
        x = x.wrapping_mul(0x2c1b_3c6d) & MASK;
        x ^= x >> 12;
        let mut key = [self.letter; 8];
        for (i, digit) in key[1..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(x >> (4 * (6 - i))) as usize & 15];
        }
        key
    }

    pub fn range(&self) -> ([u8; 1], [u8; 1]) {
        ([self.letter], [self.letter + 1])
    }
}

/// Xorshift: fast, and good enough to pick keys.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Bytes that do not compress.
pub fn value(len: usize) -> Vec<u8> {
    let mut rng = Rng::new(len as u64);
    (0..len).map(|_| rng.next() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn distinct_keys_are_distinct_and_spread() {
        let mut keys = Distinct::new(b'h', 42);
        let all: Vec<_> = (0..200_000).map(|_| keys.next()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        let firsts: HashSet<_> = all[..200].iter().map(|k| k[1]).collect();
        assert_eq!(firsts.len(), 16);
        assert!(all.iter().all(|k| k[0] == b'h'));
    }

    #[test]
    fn numbered_keys_sort_by_number() {
        assert_eq!(numbered(0), *b"k0000000");
        assert_eq!(numbered(1_234_567), *b"k1234567");
        assert!(numbered(9) < numbered(10) && numbered(9_999_999).as_slice() < NUMBERED_END);
    }
}
