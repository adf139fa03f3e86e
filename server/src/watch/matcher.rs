//! Which watchers want a key. Single keys and prefixes, nearly all there is, are found by hashing; other ranges are
//! looked through one by one.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use bytes::Bytes;

/// The keys a watcher asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    One(Bytes),
    /// Every key that begins with this.
    Prefix(Bytes),
    /// From the first to before the second.
    Range(Bytes, Bytes),
    /// From this key on.
    From(Bytes),
}

/// The request's range holds no key.
#[derive(Debug, PartialEq, Eq)]
pub struct EmptyRange;

impl Keys {
    /// Reads a watch request's `key` and `range_end` as etcd does: an empty key is the first key, an end of one zero
    /// byte leaves the range open.
    pub fn new(key: Bytes, range_end: Bytes) -> Result<Self, EmptyRange> {
        let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key };
        if range_end.is_empty() {
            return Ok(Self::One(key));
        }
        if range_end.as_ref() == [0] {
            return Ok(Self::From(key));
        }
        if key >= range_end {
            return Err(EmptyRange);
        }
        Ok(match prefix_end(&key) {
            Some(end) if end == range_end => Self::Prefix(key),
            _ => Self::Range(key, range_end),
        })
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key == one,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Range(from, to) => key >= from.as_ref() && key < to.as_ref(),
            Self::From(from) => key >= from.as_ref(),
        }
    }
}

/// The first key after all that begin with `prefix`; none if there is no such key.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// A set of watchers, asked by key.
#[derive(Debug)]
pub struct Matcher<Id> {
    ones: HashMap<Bytes, Vec<Id>>,
    prefixes: HashMap<Bytes, Vec<Id>>,
    /// How many prefixes there are of each length.
    prefix_lengths: BTreeMap<usize, usize>,
    others: HashMap<Keys, Vec<Id>>,
}

impl<Id> Default for Matcher<Id> {
    fn default() -> Self {
        Self { ones: HashMap::new(), prefixes: HashMap::new(), prefix_lengths: BTreeMap::new(), others: HashMap::new() }
    }
}

impl<Id: Copy + Eq> Matcher<Id> {
    pub fn insert(&mut self, keys: &Keys, id: Id) {
        match keys {
            Keys::One(key) => self.ones.entry(key.clone()).or_default().push(id),
            Keys::Prefix(prefix) => {
                *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
                self.prefixes.entry(prefix.clone()).or_default().push(id);
            }
            other => self.others.entry(other.clone()).or_default().push(id),
        }
    }

    pub fn remove(&mut self, keys: &Keys, id: Id) {
        let removed = match keys {
            Keys::One(key) => remove(&mut self.ones, key, id),
            Keys::Prefix(prefix) => remove(&mut self.prefixes, prefix, id),
            other => remove(&mut self.others, other, id),
        };
        if let (true, Keys::Prefix(prefix)) = (removed, keys)
            && let Some(count) = self.prefix_lengths.get_mut(&prefix.len())
        {
            *count -= 1;
            if *count == 0 {
                self.prefix_lengths.remove(&prefix.len());
            }
        }
    }

    /// Calls `found` once for every watcher that wants `key`, in no particular order.
    pub fn find(&self, key: &[u8], mut found: impl FnMut(Id)) {
        self.ones.get(key).into_iter().flatten().for_each(|id| found(*id));
        for length in self.prefix_lengths.keys().take_while(|length| **length <= key.len()) {
            self.prefixes.get(&key[..*length]).into_iter().flatten().for_each(|id| found(*id));
        }
        for (keys, ids) in &self.others {
            if keys.contains(key) {
                ids.iter().for_each(|id| found(*id));
            }
        }
    }
}

fn remove<K, Id>(map: &mut HashMap<K, Vec<Id>>, key: &K, id: Id) -> bool
where
    K: Eq + Hash,
    Id: Copy + Eq,
{
    let Some(ids) = map.get_mut(key) else { return false };
    let Some(at) = ids.iter().position(|other| *other == id) else { return false };
    ids.swap_remove(at);
    if ids.is_empty() {
        map.remove(key);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: &'static str, end: &'static str) -> Keys {
        Keys::new(Bytes::from(key), Bytes::from(end)).expect("not empty")
    }

    #[test]
    fn ranges_are_read_as_etcd_reads_them() {
        assert_eq!(keys("", ""), Keys::One("\0".into()));
        assert_eq!(keys("", "\0"), Keys::From("\0".into()));
        assert_eq!(keys("a", "b"), Keys::Prefix("a".into()));
        assert_eq!(keys("a", "c"), Keys::Range("a".into(), "c".into()));
        assert_eq!(Keys::new("b".into(), "a".into()), Err(EmptyRange));
        assert_eq!(Keys::new("b".into(), "b".into()), Err(EmptyRange));
    }

    #[test]
    fn every_watcher_of_a_key_is_found_once_until_it_is_removed() {
        let all = [keys("a1", ""), keys("a", "b"), keys("a0", "a2"), keys("a", "\0"), keys("", "\0"), keys("b", "")];
        let mut matcher = Matcher::default();
        for (id, keys) in all.iter().enumerate() {
            matcher.insert(keys, id);
        }
        for (id, keys) in all.iter().enumerate() {
            for key in ["a1", "a", "b", "a2", "zz"] {
                let mut found = Vec::new();
                matcher.find(key.as_bytes(), |id| found.push(id));
                found.sort_unstable();
                let expected: Vec<_> = (id..all.len()).filter(|id| all[*id].contains(key.as_bytes())).collect();
                assert_eq!(found, expected, "{key}");
            }
            matcher.remove(keys, id);
        }
        assert!(matcher.prefix_lengths.is_empty());
    }
}
