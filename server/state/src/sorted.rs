//! A short run of keys in order, each with a value: what a node of the tree is made of.
//!
//! Keys that stand together begin alike. The run notes how many bytes all its keys share, and beside each key the
//! four bytes that follow those: a search settles on these numbers, which lie in a few cache lines, and looks at one
//! key of a million instead of six.

use std::cmp::Ordering;

/// By how many elements the allocations grow.
const GROWTH: usize = 8;

pub(crate) type Entry<V> = (Box<[u8]>, V);

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Sorted<V> {
    /// How many bytes all keys have in common, at least.
    shared: usize,
    /// Of each key the four bytes after the shared ones, zeros where it ends: big-endian, so they sort as the keys do.
    tags: Vec<u32>,
    entries: Vec<Entry<V>>,
}

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Self { shared: 0, tags: Vec::new(), entries: Vec::new() }
    }
}

impl<V> Sorted<V> {
    pub fn one(key: Box<[u8]>, value: V) -> Self {
        let mut run = Self::default();
        run.insert(0, key, value);
        run
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entries(&self) -> &[Entry<V>] {
        &self.entries
    }

    pub fn value_mut(&mut self, at: usize) -> &mut V {
        &mut self.entries[at].1
    }

    /// Where `key` is, or would be.
    pub fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(last) = self.entries.len().checked_sub(1) else {
            return Err(0);
        };
        let common = self.shared.min(key.len());
        let rest = &key[common..];
        let low = self.first_with(tag(rest));
        // Any key will do to compare the shared bytes with: this one is looked at next.
        let prefix = &self.entries[low.min(last)].0[..self.shared];
        match key[..common].cmp(prefix) {
            Ordering::Less => Err(0),
            Ordering::Greater => Err(self.entries.len()),
            Ordering::Equal => self.find_from(low, rest),
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let rest = key.get(self.shared..)?;
        let at = self.find_from(self.first_with(tag(rest)), rest).ok()?;
        let (found, value) = &self.entries[at];
        // What was searched for are only the bytes that are not shared.
        (found[..self.shared] == key[..self.shared]).then_some(value)
    }

    fn first_with(&self, tag: u32) -> usize {
        self.tags.partition_point(|t| *t < tag)
    }

    /// Where a key is whose bytes after the shared ones are `rest`; `low` is the first with its tag.
    fn find_from(&self, low: usize, rest: &[u8]) -> Result<usize, usize> {
        let tag = tag(rest);
        let alike = self.tags[low..].iter().take_while(|t| **t == tag).count();
        let found = self.entries[low..low + alike].binary_search_by(|(key, _)| key[self.shared..].cmp(rest));
        match found {
            Ok(at) => Ok(low + at),
            Err(at) => Err(low + at),
        }
    }

    /// Puts in a key where [`Sorted::find`] said it would be.
    pub fn insert(&mut self, at: usize, key: Box<[u8]>, value: V) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(GROWTH);
            self.tags.reserve_exact(GROWTH);
        }
        let shares = match self.entries.first() {
            Some((first, _)) => shared_by(first, &key) >= self.shared,
            None => false,
        };
        if shares {
            self.tags.insert(at, tag(&key[self.shared..]));
            self.entries.insert(at, (key, value));
        } else {
            self.entries.insert(at, (key, value));
            self.number();
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, at: usize) -> Entry<V> {
        self.tags.remove(at);
        let entry = self.entries.remove(at);
        if self.entries.capacity() > self.entries.len() + 2 * GROWTH {
            self.fit();
        }
        entry
    }

    /// Takes the last key out.
    pub fn pop(&mut self) -> Option<Entry<V>> {
        let last = self.entries.len().checked_sub(1)?;
        Some(self.remove(last))
    }

    /// Cuts off everything from `at` on.
    pub fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self { entries: self.entries.split_off(at), ..Self::default() };
        right.number();
        right.fit();
        self.number();
        self.fit();
        right
    }

    /// Takes over the entries of a run that comes after this one.
    pub fn append(&mut self, right: &mut Self) {
        self.entries.append(&mut right.entries);
        right.tags.clear();
        self.number();
        self.fit();
    }

    /// Finds out anew what the keys share.
    fn number(&mut self) {
        self.shared = match (self.entries.first(), self.entries.last()) {
            (Some((first, _)), Some((last, _))) => shared_by(first, last),
            _ => 0,
        };
        self.tags.clear();
        self.tags.reserve_exact(self.entries.capacity());
        let tags = self.entries.iter().map(|(key, _)| tag(&key[self.shared..]));
        self.tags.extend(tags);
    }

    fn fit(&mut self) {
        self.entries.shrink_to(self.entries.len() + GROWTH);
        self.tags.shrink_to(self.tags.len() + GROWTH);
    }

    /// Panics unless it is what the module's head says.
    #[cfg(test)]
    pub fn check(&self) {
        assert!(self.entries.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(self.tags.len(), self.entries.len());
        for ((key, _), number) in self.entries.iter().zip(&self.tags) {
            assert_eq!(key[..self.shared], self.entries[0].0[..self.shared]);
            assert_eq!(tag(&key[self.shared..]), *number);
        }
    }
}

/// How many bytes two keys begin with alike.
fn shared_by(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn tag(rest: &[u8]) -> u32 {
    match rest.first_chunk() {
        Some(four) => u32::from_be_bytes(*four),
        None => {
            let mut four = [0; 4];
            four[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(four)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn a_key_that_ends_early_comes_before_those_it_begins() {
        let mut run = Sorted::default();
        for key in [&b"ab"[..], b"abc", b"abc\0", b"abc\0\0\0\0", b"a", b"b", b"ab\0"] {
            let at = run.find(key).expect_err("it is new");
            run.insert(at, key.into(), ());
            run.check();
        }
        assert_eq!(run.find(b"abc\0\0\0\0"), Ok(5));
        assert_eq!(run.find(b"abc\0\0"), Err(5));
        assert_eq!(run.find(b""), Err(0));
        assert_eq!(run.find(b"c"), Err(7));
    }

    proptest! {
        #[test]
        fn finds_what_a_search_over_whole_keys_finds(
            prefix in vec(0..3_u8, 0..4),
            keys in vec(vec(0..3_u8, 1..9), 1..40),
            asked in vec(vec(0..3_u8, 0..12), 40),
        ) {
            let mut run = Sorted::default();
            let mut model: Vec<Vec<u8>> = Vec::new();
            for key in keys {
                let key = [&*prefix, &*key].concat();
                let at = model.binary_search(&key);
                prop_assert_eq!(run.find(&key), at);
                if let Err(at) = at {
                    run.insert(at, (&*key).into(), key.len());
                    model.insert(at, key);
                }
                run.check();
            }
            for key in &asked {
                prop_assert_eq!(run.find(key), model.binary_search(key));
                prop_assert_eq!(run.get(key).is_some(), model.contains(key));
            }
            let mut right = run.split_off(model.len() / 2);
            run.check();
            right.check();
            run.append(&mut right);
            run.check();
            for key in &asked {
                if let Ok(at) = run.find(key) {
                    prop_assert_eq!(run.remove(at).1, key.len());
                    model.retain(|k| k != key);
                }
                run.check();
                prop_assert_eq!(run.find(key), model.binary_search(key));
            }
        }
    }
}
