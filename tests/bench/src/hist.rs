//! A latency histogram of fixed size: 64 buckets per power of two, so a reported value is at most 1/64 too high.

const SUB: u32 = 6;
const BUCKETS: usize = (64 - SUB as usize) << SUB;

/// Values are nanoseconds.
#[derive(Clone)]
pub struct Hist {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Hist {
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS + (1 << SUB)], count: 0, max: 0 }
    }

    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.max = self.max.max(ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value below or at which the share `q` (0 to 1) of the records lies; 0 when there is none.
    pub fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= wanted {
                return upper(i).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(v: u64) -> usize {
    if v < 1 << SUB {
        return v as usize;
    }
    let shift = 63 - SUB - v.leading_zeros();
    ((shift as usize + 1) << SUB) + (v >> shift) as usize - (1 << SUB)
}

fn upper(i: usize) -> u64 {
    if i < 1 << SUB {
        return i as u64;
    }
    let shift = (i >> SUB) - 1;
    let base = (i & ((1 << SUB) - 1)) as u64 + (1 << SUB);
    ((u128::from(base + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_close_to_its_bound() {
        for v in (0..64u32).flat_map(|b| [1u64 << b, (1 << b) + (1 << b) / 3, u64::MAX >> b]) {
            let top = upper(bucket(v));
            assert!(top >= v, "{v} {top}");
            assert!(top - v <= v / 64, "{v} {top}");
            assert!(bucket(v) == 0 || upper(bucket(v) - 1) < v);
        }
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut h = Hist::new();
        assert_eq!(h.quantile(0.99), 0);
        (1..=1000).for_each(|v| h.record(v * 1000));
        for (q, v) in [(0.5, 500_000.0), (0.99, 990_000.0), (0.999, 999_000.0)] {
            let got = h.quantile(q) as f64;
            assert!(got >= v && got <= v * 1.016, "{q} {got}");
        }
        assert_eq!((h.quantile(1.0), h.max(), h.count()), (1_000_000, 1_000_000, 1000));
    }
}
