//! Answers held against the model.

use keepstone_proto::etcdserverpb::RangeResponse;
use keepstone_proto::etcdserverpb::response_op::Response;

use crate::call::{Call, Op, Outcome};
use crate::model::Model;
use crate::{Checked, broken};

/// Whether two answers say the same, their headers apart.
pub fn agree(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::Put(a), Outcome::Put(b)) => a.prev_kv == b.prev_kv,
        (Outcome::Delete(a), Outcome::Delete(b)) => (a.deleted, &a.prev_kvs) == (b.deleted, &b.prev_kvs),
        (Outcome::Range(a), Outcome::Range(b)) => ranges_agree(a, b),
        (Outcome::Txn(a), Outcome::Txn(b)) => {
            let both = a.responses.iter().zip(&b.responses);
            a.succeeded == b.succeeded
                && a.responses.len() == b.responses.len()
                && both.into_iter().all(|(a, b)| responses_agree(a.response.as_ref(), b.response.as_ref()))
        }
        _ => false,
    }
}

fn ranges_agree(a: &RangeResponse, b: &RangeResponse) -> bool {
    (&a.kvs, a.count, a.more) == (&b.kvs, b.count, b.more)
}

fn responses_agree(a: Option<&Response>, b: Option<&Response>) -> bool {
    match (a, b) {
        (Some(Response::ResponsePut(a)), Some(Response::ResponsePut(b))) => a.prev_kv == b.prev_kv,
        (Some(Response::ResponseRange(a)), Some(Response::ResponseRange(b))) => ranges_agree(a, b),
        (Some(Response::ResponseDeleteRange(a)), Some(Response::ResponseDeleteRange(b))) => {
            (a.deleted, &a.prev_kvs) == (b.deleted, &b.prev_kvs)
        }
        _ => false,
    }
}

/// Checks every answer that made no revision, and every refusal that can be checked.
///
/// # Errors
/// The first that is wrong.
pub fn check(calls: &[Call], model: &Model) -> Checked {
    let compactions: Vec<(&Call, i64)> = calls.iter().filter_map(|call| Some((call, compaction(call)?))).collect();
    for call in calls.iter().filter(|call| !call.wrote()) {
        if let Some(revision) = call.revision()
            && revision > model.revision()
        {
            let last = model.revision();
            broken!(
                "{} was answered with revision {revision}, which is lost: the history ends at {last}",
                call.brief()
            );
        }
        match (&call.op, &call.outcome) {
            (Op::Range(_) | Op::Delete(_) | Op::Txn(_), Outcome::Refused(why)) => refused(call, why, &compactions)?,
            (Op::Range(_) | Op::Delete(_) | Op::Txn(_), Outcome::Unknown) => {}
            (Op::Range(_) | Op::Delete(_) | Op::Txn(_), got) => answered(call, got, model, &compactions)?,
            (Op::Revoke(id), Outcome::Done(revision)) => {
                let mut left = model.range(&[0], &[0], *revision);
                if let Some(kv) = left.find(|kv| kv.lease() == *id) {
                    broken!("{} was answered, but {:?} still hangs on it at {revision}", call.brief(), kv.key_bytes());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn compaction(call: &Call) -> Option<i64> {
    match call.op {
        Op::Compact(at) if !matches!(call.outcome, Outcome::Refused(_)) => Some(at),
        _ => None,
    }
}

/// The past revision that a read names.
fn names(call: &Call) -> Option<i64> {
    match &call.op {
        Op::Range(range) if range.revision > 0 => Some(range.revision),
        _ => None,
    }
}

fn answered(call: &Call, got: &Outcome, model: &Model, compactions: &[(&Call, i64)]) -> Checked {
    let revision = call.revision().unwrap_or(0);
    let right = model.read(&call.op, revision);
    if !agree(got, &right) {
        broken!("{} was answered {got:?}; right was {right:?}", call.brief());
    }
    let Some(named) = names(call) else { return Ok(()) };
    if named > revision {
        broken!("{} was answered under a header of {revision}", call.brief());
    }
    let gone = compactions.iter().find(|(compaction, at)| {
        call.is_linearizable()
            && *at > named
            && matches!(compaction.outcome, Outcome::Done(_))
            && compaction.ended < call.begun
    });
    match gone {
        Some((compaction, _)) => broken!("{} was answered after {}", call.brief(), compaction.brief()),
        None => Ok(()),
    }
}

fn refused(call: &Call, why: &str, compactions: &[(&Call, i64)]) -> Checked {
    let Some(named) = names(call) else { return Ok(()) };
    let taken = |(compaction, at): &&(&Call, i64)| *at > named && compaction.begun < call.ended;
    if why.contains("compacted") && !compactions.iter().any(|one| taken(&one)) {
        broken!("{} was refused as compacted, which nobody asked for", call.brief());
    }
    Ok(())
}
