//! What the index remembers of a live key: 24 bytes.
//!
//! Create revision, last revision and version take 52 bits each, the sub-revision 35, and one bit says that the
//! key hangs on a lease, so that a put which replaces it needs no look into the lease table otherwise.

use crate::types::Revision;

const WIDE: u32 = 52;
const WIDE_MASK: u64 = (1 << WIDE) - 1;
const SUB_BITS: u32 = 35;
const LEASED: u64 = 1 << SUB_BITS;

/// The newest revision of a key that is alive.
///
/// Bounds: `create`, `modified.main` and `version` below 2^52, `modified.sub` below 2^35. At a million writes a
/// second the first is reached after 142 years.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head([u64; 3]);

impl Head {
    /// # Panics
    /// When a number is negative or past its bound.
    pub fn new(create: i64, modified: Revision, version: i64, leased: bool) -> Self {
        let (create, main, version) = (wide(create), wide(modified.main), wide(version));
        let sub = u64::try_from(modified.sub).expect("a sub-revision is never negative");
        assert!(sub < LEASED, "sub-revision {sub} is past its bound");
        let rest = sub | if leased { LEASED } else { 0 };
        // Each wide number fills the low 52 bits of a word; `rest` is dealt out over the three times 12 above.
        Self([
            create | (rest & 0xfff) << WIDE,
            main | (rest >> 12 & 0xfff) << WIDE,
            version | (rest >> 24 & 0xfff) << WIDE,
        ])
    }

    /// The revision that brought the key to life.
    pub fn create(self) -> i64 {
        (self.0[0] & WIDE_MASK).cast_signed()
    }

    /// The revision that wrote the key last.
    pub fn modified(self) -> Revision {
        Revision::new((self.0[1] & WIDE_MASK).cast_signed(), (self.rest() & (LEASED - 1)).cast_signed())
    }

    /// How often the key was written in this life.
    pub fn version(self) -> i64 {
        (self.0[2] & WIDE_MASK).cast_signed()
    }

    /// Whether the last write named a lease.
    pub fn leased(self) -> bool {
        self.rest() & LEASED != 0
    }

    fn rest(self) -> u64 {
        self.0[0] >> WIDE | (self.0[1] >> WIDE) << 12 | (self.0[2] >> WIDE) << 24
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("create", &self.create())
            .field("modified", &self.modified())
            .field("version", &self.version())
            .field("leased", &self.leased())
            .finish()
    }
}

fn wide(n: i64) -> u64 {
    let n = u64::try_from(n).expect("revisions and versions are never negative");
    assert!(n <= WIDE_MASK, "{n} is past the bound of 2^52");
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_24_bytes() {
        assert_eq!(size_of::<Head>(), 24);
    }

    proptest! {
        #[test]
        fn gives_back_what_it_was_given(
            create in 0..1_i64 << 52, main in 0..1_i64 << 52, sub in 0..1_i64 << 35, version in 0..1_i64 << 52, leased: bool,
        ) {
            let head = Head::new(create, Revision::new(main, sub), version, leased);
            prop_assert_eq!(head.create(), create);
            prop_assert_eq!(head.modified(), Revision::new(main, sub));
            prop_assert_eq!(head.version(), version);
            prop_assert_eq!(head.leased(), leased);
        }
    }
}
