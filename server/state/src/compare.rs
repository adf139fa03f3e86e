//! The conditions of a txn.

use std::cmp::Ordering;

use keepstone_proto::etcdserverpb::{
    Compare,
    compare::{CompareResult, CompareTarget, TargetUnion},
};

use crate::{head::Head, keys::Keys, types::RecordError, view::View};

/// Whether every key of the range satisfies the condition. A range without keys is compared as one key of zeros,
/// except that a condition on the value never holds for it, not even "not equal".
pub(crate) fn holds(compare: &Compare, view: &View<'_>) -> Result<bool, RecordError> {
    let keys = Keys::new(&compare.key, &compare.range_end);
    let mut any = false;
    if let Keys::One(key) = keys {
        if let Some(head) = view.index.get(key) {
            return holds_for(compare, head, view);
        }
    } else {
        for (_, head) in view.index.live(keys) {
            any = true;
            if !holds_for(compare, head, view)? {
                return Ok(false);
            }
        }
    }
    if any {
        return Ok(true);
    }
    if compare.target == CompareTarget::Value as i32 {
        return Ok(false);
    }
    Ok(accepts(compare.result, number(compare, |_| 0)))
}

fn holds_for(compare: &Compare, head: Head, view: &View<'_>) -> Result<bool, RecordError> {
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let wanted: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            view.get(head.modified())?.value().cmp(wanted)
        }
        Ok(CompareTarget::Lease) => {
            let lease = if head.leased() { view.get(head.modified())?.lease() } else { 0 };
            number(compare, |_| lease)
        }
        _ => number(compare, |target| match target {
            CompareTarget::Version => head.version(),
            CompareTarget::Create => head.create(),
            _ => head.modified().main,
        }),
    };
    Ok(accepts(compare.result, ordering))
}

/// How what is there compares with what is wanted; a wanted number of another kind than the target counts as 0,
/// and a target without a name as equal.
fn number(compare: &Compare, present: impl Fn(CompareTarget) -> i64) -> Ordering {
    let Ok(target) = CompareTarget::try_from(compare.target) else {
        return Ordering::Equal;
    };
    let wanted = match (target, &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(n)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(n)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(n)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(n))) => *n,
        _ => 0,
    };
    present(target).cmp(&wanted)
}

/// A result without a name accepts everything.
fn accepts(result: i32, ordering: Ordering) -> bool {
    match CompareResult::try_from(result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
