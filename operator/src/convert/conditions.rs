//! What the planner judges, as it stands in status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use keepstone_operator_api::condition;
use keepstone_operator_plan::condition as plan;

/// Writes all of them, and takes away those that are no longer given. Whether anything changed but times.
pub fn write(into: &mut Vec<Condition>, judged: &[plan::Condition], generation: i64, now: &Time) -> bool {
    let before = into.len();
    into.retain(|old| judged.iter().any(|new| new.kind.as_str() == old.type_));
    let mut changed = into.len() != before;
    for new in judged {
        changed |= condition::set(into, new.kind, new.truth, new.reason, &new.message, generation, now);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a time"))
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
