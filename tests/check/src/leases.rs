//! What is known of leases: which were granted, and which may have ended when.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::call::{Call, Op, Outcome, Time};
use crate::model::Model;

#[derive(Clone, Debug, Default)]
struct Lease {
    /// The earliest moment at which it may run out; none before a grant was asked for.
    earliest_end: Option<Time>,
    /// When somebody first asked to revoke it.
    revoked: Option<Time>,
}

/// All leases that clients ever spoke of.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    leases: BTreeMap<i64, Lease>,
}

impl Leases {
    /// What `calls` say, where a clock gains at most `drift` microseconds a second. A renewal that was answered moves the
    /// end; one without an answer may have.
    pub fn of(calls: &[Call], drift: u32) -> Self {
        let mut leases: BTreeMap<i64, Lease> = BTreeMap::new();
        let mut granted: BTreeMap<i64, i64> = BTreeMap::new();
        for call in calls {
            match &call.op {
                Op::Grant { id, ttl } if !matches!(call.outcome, Outcome::Refused(_)) => {
                    granted.insert(*id, *ttl);
                    let end = call.begun + shortest(*ttl, drift);
                    let known = leases.entry(*id).or_default();
                    known.earliest_end = Some(known.earliest_end.map_or(end, |old| old.min(end)));
                }
                Op::Revoke(id) if !matches!(call.outcome, Outcome::Refused(_)) => {
                    let known = leases.entry(*id).or_default();
                    known.revoked = Some(known.revoked.map_or(call.begun, |old| old.min(call.begun)));
                }
                _ => {}
            }
        }
        for call in calls {
            if let (Op::KeepAlive(id), Outcome::Done(_)) = (&call.op, &call.outcome)
                && let (Some(lease), Some(ttl)) = (leases.get_mut(id), granted.get(id))
            {
                let end = call.begun + shortest(*ttl, drift);
                lease.earliest_end = lease.earliest_end.map(|old| old.max(end));
            }
        }
        Self { leases }
    }

    /// The lease whose end explains that exactly these keys were deleted, in this order; and since when it may have.
    pub fn explain(&self, model: &Model, keys: &[Bytes]) -> Option<(i64, Time)> {
        let lease = model.get(keys.first()?, i64::MAX)?.lease();
        let known = self.leases.get(&lease)?;
        if model.attached(lease) != keys {
            return None;
        }
        let since = [known.earliest_end, known.revoked].into_iter().flatten().min()?;
        Some((lease, since))
    }
}

/// How soon a clock that gains `drift` microseconds a second has counted so many seconds.
fn shortest(ttl: i64, drift: u32) -> Time {
    Time::from_secs(u64::try_from(ttl).unwrap_or(0)) * 1_000_000 / (1_000_000 + drift)
}
