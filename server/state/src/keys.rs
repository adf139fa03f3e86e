//! Which keys a request names by `key` and `range_end`.

use std::ops::Bound;

/// The keys of a request. `range_end` empty is the key alone, one zero byte is "to the last key", anything else an
/// end that is not part of the range. An end that is not above the start makes an empty range, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys<'a> {
    One(&'a [u8]),
    From(&'a [u8]),
    Between(&'a [u8], &'a [u8]),
}

impl<'a> Keys<'a> {
    /// Every key there is.
    pub const ALL: Self = Self::From(b"");

    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::From(key),
            end => Self::Between(key, end),
        }
    }

    pub fn start(&self) -> &'a [u8] {
        match self {
            Self::One(key) | Self::From(key) | Self::Between(key, _) => key,
        }
    }

    /// Whether `key`, which is not below the start, is past the end.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key != *one,
            Self::From(_) => false,
            Self::Between(_, end) => key >= *end,
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start() && !self.ends_before(key)
    }

    /// Where to start, or to go on after `after`.
    pub(crate) fn from<'b>(&self, after: Option<&'b [u8]>) -> Bound<&'b [u8]>
    where
        'a: 'b,
    {
        after.map_or(Bound::Included(self.start()), Bound::Excluded)
    }
}
