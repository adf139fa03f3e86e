//! Revisions follow real time: what began after another call had ended comes after it.

use crate::call::{Call, Op};
use crate::{Checked, broken};

/// Where a call stands in the one order of all: a write at its revision, before all that read it.
fn place(call: &Call, seen: Option<i64>) -> Option<i64> {
    match (seen, &call.op) {
        (Some(made), _) => Some(2 * made),
        // Answered from a member's memory, and from what it has compacted itself.
        (None, Op::KeepAlive(_) | Op::Compact(_)) => None,
        (None, _) if !call.is_linearizable() => None,
        (None, _) => call.revision().map(|read| 2 * read + 1),
    }
}

/// Checks all pairs of calls, in time n log n. `seen` is the revision that each call made, if any.
///
/// # Errors
/// Two calls in the wrong order.
pub fn check(calls: &[Call], seen: &[Option<i64>]) -> Checked {
    let placed = calls.iter().zip(seen).filter_map(|(call, seen)| Some((call, place(call, *seen)?)));
    let mut by_begin: Vec<(&Call, i64)> = placed.collect();
    // A call without an answer may have been carried out at any time since: it is before nobody.
    let mut by_end: Vec<(&Call, i64)> =
        by_begin.iter().copied().filter(|(call, _)| call.revision().is_some()).collect();
    by_begin.sort_by_key(|(call, _)| call.begun);
    by_end.sort_by_key(|(call, _)| call.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<(&Call, i64)> = None;
    for (call, place) in by_begin {
        while let Some(one) = ended.next_if(|(earlier, _)| earlier.ended < call.begun) {
            if newest.is_none_or(|(_, at)| one.1 > at) {
                newest = Some(one);
            }
        }
        if let Some((earlier, at)) = newest
            && at > place
        {
            let (before, after) = (at / 2, place / 2);
            broken!(
                "STALE: {} is at revision {after}, though before it began {} was at {before}",
                call.brief(),
                earlier.brief()
            );
        }
    }
    Ok(())
}
