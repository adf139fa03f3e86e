use keepstone_operator_plan::condition::{ConditionType, Reason};

use crate::fixture::*;

#[test]
fn every_condition_is_always_there_once() {
    for case in [nothing(3), well(3), well(1)] {
        let kinds: Vec<_> = case.plan().conditions.iter().map(|c| c.kind.as_str()).collect();
        assert_eq!(kinds, ["Available", "Progressing", "Degraded", "Ready", "TLSReady", "AllMembersUpdated"]);
    }
}

#[test]
fn a_reason_that_is_given_is_explained_in_the_runbook() {
    let runbook = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let runbook = std::fs::read_to_string(runbook).expect("the runbook is there");
    let missing: Vec<_> = Reason::ALL.iter().filter(|r| !runbook.contains(&format!("**{}.**", r.as_str()))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A message that changes with every pass is a write with every pass, and each write sets off the next pass.
#[test]
fn messages_do_not_change_with_time() {
    let mut case = well(3);
    case.down(1);
    let before = case.condition(ConditionType::Degraded);
    case.now = keepstone_operator_plan::ids::Time(NOW.0 + 1);
    assert_eq!(case.condition(ConditionType::Degraded), before);
}
