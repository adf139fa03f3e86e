//! What a Range answers, apart from where the values come from.
//!
//! Used in two ways: all at once, inside a txn; and by the server in steps, so that no lock is held for long:
//! [`Plan::new`] under the lock pins the revision, `State::scan` and `State::count_some` give the revisions of some
//! keys at a time, the values are fetched with no lock held, [`Plan::wants`] drops what a filter excludes, and
//! [`Plan::finish`] sorts and cuts.

use std::cmp::Reverse;

use keepstone_proto::{
    KeyValue,
    etcdserverpb::{
        RangeRequest, RangeResponse, ResponseHeader,
        range_request::{SortOrder, SortTarget},
    },
};

use crate::{
    error::Error,
    keys::Keys,
    view::{Fault, View},
};

/// How many keys one look at the index takes in, at most.
const STEP: usize = 1024;

/// How many of the range's keys have to be fetched for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Only the count is asked for.
    Nothing,
    /// The first so many in key order: one more than the limit, to know whether there are more.
    First(usize),
    All,
}

/// How to answer a Range. See the module's head.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    request: &'a RangeRequest,
    pub keys: Keys<'a>,
    /// The revision to read at.
    pub at: i64,
    /// The revision of the answer's header: the store's, not the one read at.
    pub current: i64,
    pub fetch: Fetch,
}

impl<'a> Plan<'a> {
    /// `current` is the revision a read sees now, `floor` the compact revision. Reading exactly at the floor is
    /// allowed.
    ///
    /// # Errors
    /// [`Error::FutureRevision`], [`Error::Compacted`].
    pub fn new(request: &'a RangeRequest, current: i64, floor: i64) -> Result<Self, Error> {
        if request.revision > current {
            return Err(Error::FutureRevision);
        }
        let at = if request.revision <= 0 { current } else { request.revision };
        if at < floor {
            return Err(Error::Compacted);
        }
        Ok(Self::again(request, current))
    }

    /// The plan that [`Plan::new`] gave when the store's revision was `current`: what it read at is held by whoever asks.
    #[must_use]
    pub fn again(request: &'a RangeRequest, current: i64) -> Self {
        let at = if request.revision <= 0 { current } else { request.revision };
        Self { request, keys: Keys::new(&request.key, &request.range_end), at, current, fetch: fetch(request) }
    }

    /// Whether the request's filters let `kv` through. They do not change the count.
    pub fn wants(&self, kv: &KeyValue) -> bool {
        let request = self.request;
        if !filtered(request) {
            return true;
        }
        let parts = kv.parts();
        let inside = |n: i64, min: i64, max: i64| (max == 0 || n <= max) && (min == 0 || n >= min);
        inside(parts.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && inside(parts.create_revision, request.min_create_revision, request.max_create_revision)
    }

    /// What an answer needs of a fetched `kv`: nothing of one that a filter excludes, no value where only keys are asked
    /// for. To hold less until [`Plan::finish`], which does it anyway.
    pub fn keep(&self, kv: KeyValue) -> Option<KeyValue> {
        let by_value = self.request.sort_target == SortTarget::Value as i32;
        let kept = self.wants(&kv).then_some(kv)?;
        Some(if by_value { kept } else { self.shown(kept) })
    }

    /// `kv` as the answer shows it.
    #[must_use]
    pub fn shown(&self, kv: KeyValue) -> KeyValue {
        if self.request.keys_only { kv.without_value() } else { kv }
    }

    /// The answer, from what was fetched in key order and the number of keys in the range. Only the revision of
    /// the header is set.
    pub fn finish(&self, mut kvs: Vec<KeyValue>, count: usize) -> RangeResponse {
        kvs.retain(|kv| self.wants(kv));
        self.sort(&mut kvs);
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if self.request.keys_only {
            for kv in &mut kvs {
                *kv = kv.without_value();
            }
        }
        RangeResponse {
            header: header(self.current),
            kvs,
            more,
            count: i64::try_from(count).expect("no range has 2^63 keys"),
        }
    }

    /// Keys with equal targets stay in key order, descending too.
    fn sort(&self, kvs: &mut [KeyValue]) {
        let target = SortTarget::try_from(self.request.sort_target).unwrap_or_default();
        match (target, SortOrder::try_from(self.request.sort_order).unwrap_or_default()) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {}
            (SortTarget::Key, SortOrder::Descend) => kvs.reverse(),
            (SortTarget::Value, order) => sort_by(kvs, order, KeyValue::value_bytes),
            (SortTarget::Version, order) => sort_by(kvs, order, KeyValue::version),
            (SortTarget::Create, order) => sort_by(kvs, order, KeyValue::create_revision),
            (SortTarget::Mod, order) => sort_by(kvs, order, KeyValue::mod_revision),
        }
    }
}

fn sort_by<K: Ord>(kvs: &mut [KeyValue], order: SortOrder, by: impl Fn(&KeyValue) -> K) {
    match order {
        SortOrder::Descend => kvs.sort_by_cached_key(|kv| Reverse(by(kv))),
        // A target other than the key sorts even if no order is asked for.
        SortOrder::None | SortOrder::Ascend => kvs.sort_by_cached_key(by),
    }
}

fn filtered(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// As in etcd 3.6, a sort target without an order does not make it fetch everything: what is sorted then are the
/// first keys up to the limit, and one more.
fn fetch(request: &RangeRequest) -> Fetch {
    if request.count_only {
        return Fetch::Nothing;
    }
    let in_key_order = request.sort_order == SortOrder::None as i32
        || request.sort_order == SortOrder::Ascend as i32 && request.sort_target == SortTarget::Key as i32;
    match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 && in_key_order && !filtered(request) => Fetch::First(limit.saturating_add(1)),
        _ => Fetch::All,
    }
}

pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// Answers a Range all at once.
pub(crate) fn answer(request: &RangeRequest, view: &View<'_>) -> Result<RangeResponse, Fault> {
    let plan = Plan::new(request, view.current, view.floor)?;
    let count = view.index.count(plan.keys, plan.at);
    let wanted = match plan.fetch {
        Fetch::Nothing => 0,
        Fetch::First(n) => n,
        Fetch::All => usize::MAX,
    };
    let mut kvs = Vec::new();
    let mut fetched = 0;
    let mut after: Option<Box<[u8]>> = None;
    while fetched < wanted {
        let step = (wanted - fetched).min(STEP);
        let scan = view.index.scan(plan.keys, plan.at, after.as_deref(), step);
        for at in scan.found {
            fetched += 1;
            let kv = view.get(at)?;
            if plan.wants(&kv) {
                kvs.push(kv);
            }
        }
        after = scan.next;
        if after.is_none() {
            break;
        }
    }
    Ok(plan.finish(kvs, count))
}
