//! What the planner judges, as it stands in status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use keepstone_operator_api::Reason;
use keepstone_operator_api::condition::{self, ConditionState, ConditionType};
use keepstone_operator_plan::condition as plan;

/// Writes all of them, and takes away those that are no longer given. Whether anything changed but times.
pub fn write(into: &mut Vec<Condition>, judged: &[plan::Condition], generation: i64, now: &Time) -> bool {
    let before = into.len();
    into.retain(|old| judged.iter().any(|new| kind(new.kind).as_str() == old.type_));
    let mut changed = into.len() != before;
    for new in judged {
        let (kind, state) = (kind(new.kind), state(new.truth));
        changed |= condition::set(into, kind, state, reason(new.reason), &new.message, generation, now);
    }
    changed
}

#[must_use]
pub fn kind(of: plan::ConditionType) -> ConditionType {
    match of {
        plan::ConditionType::Available => ConditionType::Available,
        plan::ConditionType::Progressing => ConditionType::Progressing,
        plan::ConditionType::Degraded => ConditionType::Degraded,
        plan::ConditionType::Ready => ConditionType::Ready,
        plan::ConditionType::TlsReady => ConditionType::TlsReady,
        plan::ConditionType::AllMembersUpdated => ConditionType::AllMembersUpdated,
        plan::ConditionType::BackupHealthy => ConditionType::BackupHealthy,
    }
}

fn state(of: plan::Truth) -> ConditionState {
    match of {
        plan::Truth::True => ConditionState::True,
        plan::Truth::False => ConditionState::False,
        plan::Truth::Unknown => ConditionState::Unknown,
    }
}

/// Both lists call a reason by the same name, which a test sees to.
#[must_use]
pub fn reason(of: plan::Reason) -> Reason {
    let known = Reason::ALL.iter().find(|reason| reason.as_str() == of.as_str());
    *known.expect("the API has every reason of the planner's")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a time"))
    }

    #[test]
    fn the_api_has_every_reason_of_the_planner() {
        for of in plan::Reason::ALL {
            assert_eq!(reason(*of).as_str(), of.as_str());
        }
    }

    #[test]
    fn what_is_no_longer_judged_goes() {
        let judged = |kind, truth, reason| plan::Condition { kind, truth, reason, message: String::new() };
        let available = judged(plan::ConditionType::Available, plan::Truth::True, plan::Reason::QuorumHealthy);
        let backup = judged(plan::ConditionType::BackupHealthy, plan::Truth::False, plan::Reason::NeverTaken);
        let mut all = Vec::new();
        assert!(write(&mut all, &[available.clone(), backup], 1, &at(1)));
        assert!(write(&mut all, std::slice::from_ref(&available), 1, &at(2)));
        assert_eq!(all.len(), 1);
        assert!(!write(&mut all, &[available], 1, &at(3)));
        assert_eq!(all[0].last_transition_time, at(1));
    }
}
