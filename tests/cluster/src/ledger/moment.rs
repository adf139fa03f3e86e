//! What a member must hold, and may, when all that is left of it is what was on its disk at a stamp.

use super::Ledger;
use super::lease::LASTING;
use crate::load::{Call, Outcome, What};

/// Leases at a moment. Where a call about one was on its way, it is in none of the lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leases {
    pub there: Vec<i64>,
    pub revoked: Vec<i64>,
    pub not_asked_for: Vec<i64>,
}

impl Ledger {
    /// What has been acknowledged once a stamp has been reached: the greatest revision, and the last compaction.
    pub fn acknowledged(&self, stamp: u64) -> (i64, i64) {
        let (mut revision, mut compacted) = (1, 0);
        for call in self.calls.iter().filter(|call| call.ended <= stamp) {
            match (&call.what, &call.outcome) {
                (What::Compact { .. }, Outcome::Acked { revision: at, .. }) => compacted = compacted.max(*at),
                (_, Outcome::Acked { revision: at, .. } | Outcome::Read { revision: at, .. }) => {
                    revision = revision.max(*at)
                }
                _ => {}
            }
        }
        (revision, compacted)
    }

    /// The last revision before the first one that nobody had asked for by then. Of settled calls.
    pub fn possible(&self, stamp: u64) -> i64 {
        // A cluster begins at revision 1, which nobody makes.
        1 + self.asked.iter().take_while(|asked| **asked <= stamp).count() as i64
    }

    /// The leases that are surely there, and those that surely are not, at a stamp.
    pub fn leases_at(&self, stamp: u64) -> Leases {
        let answered = |call: &Call| matches!(call.outcome, Outcome::Acked { .. }) && call.ended <= stamp;
        let mut leases = Leases::default();
        for (id, lease) in &self.leases {
            let grant = &self.calls[lease.grant_at];
            let revoke = lease.revoke_at.map(|at| &self.calls[at]);
            if grant.begun > stamp {
                leases.not_asked_for.push(*id);
            } else if revoke.is_some_and(answered) {
                leases.revoked.push(*id);
            } else if answered(grant) && lease.ttl >= LASTING && revoke.is_none_or(|call| call.begun > stamp) {
                leases.there.push(*id);
            }
        }
        leases
    }
}
