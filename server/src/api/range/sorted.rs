//! Lists in another order than their keys': all keys are gone through, only what orders them is held.
//!
//! A limited list holds twice its limit; an unlimited one everything, within [`SORT_BYTES`].

use std::cmp::Reverse;

use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::RangeRequest;
use keepstone_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keepstone_state::{Error, Revision};
use tonic::Status;

use super::allowance::SORT_BYTES;
use super::write::field_len;
use super::{Reading, get_here};
use crate::api::error::status;
use crate::core::Core;

/// Bytes of entries. While they grow the old and the new half of them exist at once.
const ENTRY_BYTES: usize = SORT_BYTES / 3 * 2;

/// What an answer shows, in its order.
pub struct Sorted {
    pub places: Vec<Revision>,
    pub kvs_bytes: u64,
    pub more: bool,
}

/// Whether the answer's order is not the keys' own.
pub fn is_sorted(request: &RangeRequest) -> bool {
    request.sort_target != SortTarget::Key as i32 || request.sort_order == SortOrder::Descend as i32
}

/// Goes through the range and brings it into the request's order. `gone` tells that nobody waits any more.
///
/// # Errors
/// [`Error::RequestTooLarge`] when the order does not fit into [`SORT_BYTES`]; what reading meets.
pub fn sort(
    core: &Core,
    request: &RangeRequest,
    reading: Reading<'_>,
    gone: &dyn Fn() -> bool,
) -> Result<Sorted, Status> {
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let descending = request.sort_order == SortOrder::Descend as i32;
    let scan = Scan { core, request, reading, gone };
    let value = |kv: &KeyValue| Box::<[u8]>::from(kv.value());
    match (target, descending) {
        (SortTarget::Key, false) => scan.by(|_, _| (), 0),
        (SortTarget::Key, true) => scan.by(|_, number| Reverse(number), 0),
        (SortTarget::Value, false) => scan.by(|kv, _| value(kv), 1),
        (SortTarget::Value, true) => scan.by(|kv, _| Reverse(value(kv)), 1),
        (SortTarget::Version, false) => scan.by(|kv, _| kv.version(), 0),
        (SortTarget::Version, true) => scan.by(|kv, _| Reverse(kv.version()), 0),
        (SortTarget::Create, false) => scan.by(|kv, _| kv.create_revision(), 0),
        (SortTarget::Create, true) => scan.by(|kv, _| Reverse(kv.create_revision()), 0),
        (SortTarget::Mod, false) => scan.by(|kv, _| kv.mod_revision(), 0),
        (SortTarget::Mod, true) => scan.by(|kv, _| Reverse(kv.mod_revision()), 0),
    }
}

/// Equal keys stay in the order in which they were found: the keys'.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry<K> {
    by: K,
    number: u32,
    /// Bytes of the value, where it is what sorts.
    held: u32,
    /// Bytes in the message.
    len: u32,
    at: Revision,
}

struct Scan<'a> {
    core: &'a Core,
    request: &'a RangeRequest,
    reading: Reading<'a>,
    gone: &'a dyn Fn() -> bool,
}

impl Scan<'_> {
    /// `held` is 1 where an entry holds its value.
    fn by<K: Ord>(mut self, by: impl Fn(&KeyValue, u32) -> K, held: usize) -> Result<Sorted, Status> {
        let limit = usize::try_from(self.request.limit).ok().filter(|limit| *limit > 0);
        let trim_at = limit.map_or(usize::MAX, |limit| limit.saturating_mul(2).max(1024));
        let (mut entries, mut found, mut values) = (Vec::new(), 0_u32, 0_usize);
        let pin = self.reading.pin();
        loop {
            let places = self.reading.next_places()?;
            if places.is_empty() || (self.gone)() {
                break;
            }
            for at in places {
                let kv = get_here(self.core, &pin, at)?;
                if !self.reading.plan.wants(&kv) {
                    continue;
                }
                let held = held * kv.value().len();
                let by = by(&kv, found);
                let shown = self.reading.plan.shown(kv);
                let (len, held) = (small(field_len(&shown)), small(held as u64));
                entries.push(Entry { by, number: found, held, len, at });
                found = found.checked_add(1).ok_or_else(too_large)?;
                values += held as usize;
                if entries.len() >= trim_at {
                    trim(&mut entries, limit);
                    values = entries.iter().map(|entry| entry.held as usize).sum();
                }
            }
            if entries.len() * size_of::<Entry<K>>() + values > ENTRY_BYTES {
                return Err(too_large());
            }
        }
        trim(&mut entries, limit);
        entries.sort_unstable();
        let kvs_bytes = entries.iter().map(|entry| u64::from(entry.len)).sum();
        let more = limit.is_some_and(|limit| found as usize > limit);
        Ok(Sorted { places: entries.into_iter().map(|entry| entry.at).collect(), kvs_bytes, more })
    }
}

/// Leaves the first entries, in any order.
fn trim<K: Ord>(entries: &mut Vec<Entry<K>>, limit: Option<usize>) {
    if let Some(limit) = limit.filter(|limit| entries.len() > *limit) {
        entries.select_nth_unstable(limit);
        entries.truncate(limit);
    }
}

fn small(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("no key-value has 4 GiB")
}

fn too_large() -> Status {
    status(&Error::RequestTooLarge)
}
