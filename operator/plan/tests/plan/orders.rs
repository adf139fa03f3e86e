//! What only people end: orders that come before whatever is stuck, and what waits for them.

use std::collections::BTreeMap;

use keepstone_operator_plan::act::{Act, Outcome, Permit, PermitKind};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::Tls;
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Intent, Recover, Restore, Verb};

use crate::fixture::*;

/// `etcdctl member update` had the StatefulSet made smaller than the cluster, or the volume of a voter deleted.
#[test]
fn a_member_whose_address_is_no_pods_costs_nobody_a_pod_or_a_volume() {
    for moved in [vec![1], vec![2], vec![1, 2]] {
        let mut case = well(3);
        for n in moved {
            known(&mut case.o.table)[n].ordinal = None;
        }
        assert_eq!(case.act(), None);
        case.says(ConditionType::Degraded, Truth::True, Reason::MemberUnhealthy);
    }
}

/// The order waited for the very thing that it was to end.
#[test]
fn a_foreign_member_is_replaced_by_order() {
    let mut case = well(3);
    case.answer(2).cluster_id = ClusterId(0xbad);
    case.request(Verb::ReplaceMember { ordinal: Ordinal(1) });
    assert_eq!(case.act(), None, "that one is ours");
    known(&mut case.o.requests)[0].verb = Verb::ReplaceMember { ordinal: Ordinal(2) };
    let replacing = case.intent();
    assert!(matches!(&replacing, Intent::ReplaceMember(join) if join.ordinal == Ordinal(2)), "{replacing:?}");
    case.says(ConditionType::Degraded, Truth::True, Reason::SplitBrain);
    case.under_way(replacing).request = Some(uid("request"));
    assert_eq!(case.act(), Some(Act::MemberRemove { id: id(2) }));
}

#[test]
fn certificates_are_renewed_while_a_foreign_member_answers() {
    let mut case = well(3);
    case.answer(2).cluster_id = ClusterId(0xbad);
    case.d.tls = Tls::Auto { renew_before: Seconds(300), ca_renew_before: Seconds(900), settle: Seconds(60) };
    case.o.certificates = Seen::Known(Certificates::default());
    assert_eq!(case.act(), Some(Act::CreateCa { next: false }));
    case.says(ConditionType::Available, Truth::False, Reason::SplitBrain);
}

/// The survivor of three is to go on alone, with a permit, and has not come up.
fn recovering() -> Case {
    let mut case = well(3);
    case.no_quorum();
    (0..2).for_each(|n| case.down(n));
    case.o.answers.clear();
    known(&mut case.o.objects).open = false;
    let recover = Recover {
        survivor: Ordinal(0),
        claim: uid("claim-0"),
        lost: CLUSTER,
        nonce: Nonce(42),
        fenced: true,
        pods: BTreeMap::new(),
        claims: BTreeMap::from([(Ordinal(1), uid("claim-1"))]),
    };
    case.o.fenced = Seen::Known([Ordinal(1), Ordinal(2)].into());
    case.o.permit = Seen::Known(Some(Permit { kind: PermitKind::ForceNew, pod: None, ..permit() }));
    case.under_way(Intent::RecoverQuorum(recover)).request = Some(uid("first"));
    case
}

/// Seed 731: what kept the survivor from starting was corrected, and reached nobody.
#[test]
fn a_survivor_that_does_not_start_is_made_of_what_is_asked_for_now() {
    let mut case = recovering();
    (1..3).for_each(|n| {
        known(&mut case.o.pods).remove(&Ordinal(n));
    });
    assert_eq!(case.act(), None);
    case.d.template.config = "b".into();
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 3, .. })), "{:?}", case.act());
    case.workload().template.config = "b".into();
    assert_eq!(case.act(), Some(Act::DeletePod { ordinal: Ordinal(0), uid: uid("pod-0"), force: false }));
    case.pod(0).started = true;
    assert_eq!(case.act(), None, "it runs");
}

/// Whose survivor did not start could only be deleted, with the volumes of those that would have.
#[test]
fn a_recovery_whose_survivor_does_not_come_up_gives_way_to_another_order() {
    let case = recovering();
    for verb in [
        Verb::RecoverQuorum { survivor: Ordinal(1), confirm: CLUSTER },
        Verb::Restore { source: "b1".into(), save: true, confirm: CLUSTER },
    ] {
        let mut case = Case { o: case.o.clone(), d: case.d.clone(), now: case.now };
        case.request(Verb::RecoverQuorum { survivor: Ordinal(0), confirm: CLUSTER });
        let first = &mut known(&mut case.o.requests)[0];
        (first.uid, first.phase) = (uid("first"), Phase::Running);
        case.request(verb);
        assert!(!matches!(case.act(), Some(Act::RecordIntent(_) | Act::FinishRequest { .. })), "it has its time");
        case.now = Time(case.now.0 + 700);
        let failed = case.act();
        assert!(
            matches!(&failed, Some(Act::FinishRequest { uid: one, outcome: Outcome::Failed(_) }) if *one == uid("first"))
        );
        known(&mut case.o.requests)[0].phase = Phase::Failed;
        assert_eq!(case.act(), Some(Act::RevokePermit { nonce: Nonce(42) }), "the first may still start");
        case.o.permit = Seen::Known(None);
        let next = case.intent();
        assert!(matches!(&next, Intent::Restore(_) | Intent::RecoverQuorum(_)), "{next:?}");
        let Intent::RecoverQuorum(next) = next else { continue };
        assert_eq!((next.survivor, next.fenced), (Ordinal(1), false));
        assert!(next.claims.contains_key(&Ordinal(0)), "the one that did not come up is saved with the rest");
        case.under_way(Intent::RecoverQuorum(Recover { fenced: true, ..next }));
        case.o.fenced = Seen::Known([Ordinal(0), Ordinal(1), Ordinal(2)].into());
        assert_eq!(case.act(), Some(Act::SetFence([Ordinal(0), Ordinal(2)].into())));
    }
}

/// One copy was enough, be it that of a member which had been away for days.
#[test]
fn a_restore_deletes_nothing_before_a_majority_is_saved() {
    let mut case = well(3);
    known(&mut case.o.objects).open = false;
    let claims = (0..3).map(|n| (Ordinal(n), uid(format!("claim-{n}")))).collect();
    case.under_way(Intent::Restore(Restore { source: "b1".into(), lost: CLUSTER, save: true, claims }));
    case.stopped();
    let saved = |all: [Phase; 3]| Seen::Known((0..3).map(Ordinal).zip(all).collect());
    case.o.saved = saved([Phase::Failed, Phase::Failed, Phase::Succeeded]);
    assert_eq!(case.act(), Some(Act::CloseIntent { seq: 9 }));
    case.o.saved = saved([Phase::Succeeded, Phase::Failed, Phase::Succeeded]);
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(0), uid: uid("claim-0") }));
    known(&mut case.o.claims).remove(&Ordinal(0));
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(1), uid: uid("claim-1") }));
    case.o.saved = saved([Phase::Failed, Phase::Failed, Phase::Succeeded]);
    known(&mut case.o.claims).insert(Ordinal(0), claim(0));
    let blank = |n| (Ordinal(n), uid(format!("lost-{n}")));
    case.o.cluster.volumes.extend([blank(0), blank(1)]);
    assert!(matches!(case.act(), Some(Act::DeleteClaim { .. })), "the others' data was gone before");
}

/// A write that fails was passed over, and the founding went on with clients let in.
#[test]
fn nobody_is_let_in_while_data_is_exchanged() {
    let mut case = well(3);
    let claims = BTreeMap::from([(Ordinal(0), uid("claim-0"))]);
    case.under_way(Intent::Restore(Restore { source: "b1".into(), lost: CLUSTER, save: false, claims }));
    let shut = Act::OpenClientService { open: false };
    assert_eq!(case.act(), Some(shut.clone()));
    case.failed(shut.clone());
    assert_eq!(case.act(), Some(shut));
    case.o.objects = Seen::Unknown;
    assert_eq!(case.act(), None);
}
