use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepstone_operator_plan::act::{Act, Outcome};
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::desired::*;
use keepstone_operator_plan::ids::*;
use keepstone_operator_plan::observed::*;
use keepstone_operator_plan::operation::{Bootstrap, Intent, Restore, Verb};

use crate::fixture::*;

#[test]
fn a_paused_cluster_is_not_touched_but_told_about() {
    let mut case = well(3);
    case.d.paused = true;
    case.d.size = 5;
    case.down(1);
    assert_eq!(case.act(), None);
    case.says(ConditionType::Progressing, Truth::False, Reason::Paused);
    case.says(ConditionType::Available, Truth::True, Reason::QuorumAvailable);
}

#[test]
fn a_paused_or_broken_cluster_can_be_deleted() {
    let mut case = well(3);
    case.d.paused = true;
    case.no_quorum();
    case.o.answers.clear();
    case.o.cluster.deleting = true;
    assert_eq!(case.act(), Some(Act::DeleteWorkload { uid: uid("sts"), orphan: false }));
    case.o.workload = Seen::Known(None);
    case.o.pods = Seen::Known(BTreeMap::new());
    assert_eq!(case.act(), Some(Act::RemoveFinalizer));
}

/// Nobody owns pods whose StatefulSet was taken away from around them, so that nobody else would collect them.
#[test]
fn pods_without_a_stateful_set_go_with_their_cluster() {
    let mut case = well(2);
    case.o.cluster.deleting = true;
    case.o.workload = Seen::Known(None);
    for n in 0..2 {
        assert_eq!(
            case.act(),
            Some(Act::DeletePod { ordinal: Ordinal(n), uid: uid(format!("pod-{n}")), force: false })
        );
        case.pod(n).terminating = true;
    }
    assert_eq!(case.act(), Some(Act::RemoveFinalizer));
}

#[test]
fn volumes_are_deleted_only_where_that_was_asked_for_and_only_our_own() {
    let mut case = well(2);
    case.o.cluster.deleting = true;
    case.o.workload = Seen::Known(None);
    case.o.pods = Seen::Known(BTreeMap::new());
    case.claim(0).owner = uid("former");
    assert_eq!(case.act(), Some(Act::RemoveFinalizer));
    case.d.deletion_policy = Retention::Delete;
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(1), uid: uid("claim-1") }));
    case.o.claims = Seen::Unknown;
    assert_eq!(case.act(), None);
}

#[test]
fn a_sleeping_cluster_wakes_as_large_as_it_was() {
    let mut case = well(3);
    case.d.hibernate = true;
    assert_eq!(case.intent(), Intent::Hibernate { replicas: 3 });
    case.under_way(Intent::Hibernate { replicas: 3 });
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 3, to: 0 }));
    case.workload().replicas = 0;
    case.o.pods = Seen::Known(BTreeMap::new());
    case.o.answers.clear();
    case.o.table = Seen::Unknown;
    assert_eq!(case.act(), None);
    case.says(ConditionType::Available, Truth::False, Reason::Hibernated);
    case.d.hibernate = false;
    case.d.size = 5;
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 0, to: 3 }));
}

#[test]
fn a_broken_cluster_can_sleep() {
    let mut case = well(3);
    case.d.hibernate = true;
    (0..2).for_each(|n| case.down(n));
    case.no_quorum();
    assert_eq!(case.intent(), Intent::Hibernate { replicas: 3 });
}

#[test]
fn volumes_grow_one_by_one_and_the_workload_last_around_running_pods() {
    let mut case = well(2);
    case.d.storage = 200;
    for n in 0..2 {
        let act = Act::GrowClaim { ordinal: Ordinal(n), uid: uid(format!("claim-{n}")), bytes: 200 };
        assert_eq!(case.act(), Some(act));
        case.claim(n).request = 200;
    }
    case.says(ConditionType::Progressing, Truth::True, Reason::ResizingStorage);
    assert_eq!(case.act(), Some(Act::DeleteWorkload { uid: uid("sts"), orphan: true }));
    case.o.workload = Seen::Known(None);
    assert_eq!(case.act(), Some(Act::ApplyWorkload { replicas: 2, template: template(), storage: 200 }));
}

#[test]
fn volumes_never_shrink() {
    let mut case = well(3);
    case.d.storage = 50;
    assert_eq!(case.act(), None);
}

const SETTLE: Seconds = Seconds(180);

fn ca(name: &str, left: u64) -> Ca {
    Ca { id: name.into(), not_after: Time(NOW.0 + left) }
}

fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|n| (*n).into()).collect()
}

/// A cluster with certificates that are good for long, and a CA that is not.
fn certified(n: u32, ca_left: u64) -> Case {
    let mut case = well(n);
    case.d.tls = Tls::Auto { renew_before: Seconds(300), ca_renew_before: Seconds(1000), settle: SETTLE };
    let leaf = Leaf { ca: "old".into(), not_after: Time(NOW.0 + 5000), issued: Time(NOW.0 - 1000) };
    case.o.certificates = Seen::Known(Certificates {
        issuer: Some(ca("old", ca_left)),
        next: None,
        bundle: names(&["old"]),
        bundle_since: Some(Time(NOW.0 - 5000)),
        leaves: Surface::ALL.iter().map(|s| (*s, leaf.clone())).collect(),
        flaw: None,
    });
    case
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let mut case = nothing(3);
    case.d.tls = Tls::Given;
    let flaw = Some((Reason::SecretNotFound, "the Secret mine is not there".into()));
    case.o.certificates = Seen::Known(Certificates { flaw, ..Certificates::default() });
    assert_eq!(case.act(), None);
    for kind in [ConditionType::TlsReady, ConditionType::Progressing] {
        assert!(case.condition(kind).message.contains("the Secret mine"), "{kind:?}");
    }
    case.says(ConditionType::TlsReady, Truth::False, Reason::SecretNotFound);
}

#[test]
fn a_certificate_that_nobody_renews_is_told_of_before_it_ends() {
    let mut case = certified(3, 90_000);
    case.d.tls = Tls::Given;
    case.says(ConditionType::TlsReady, Truth::True, Reason::CertificatesValid);
    let peer = known(&mut case.o.certificates).leaves.get_mut(&Surface::Peer).expect("there is one");
    (peer.issued, peer.not_after) = (Time(NOW.0 - 901), Time(NOW.0 + 99));
    case.says(ConditionType::TlsReady, Truth::False, Reason::CertificateExpiringSoon);
    assert!(case.condition(ConditionType::TlsReady).message.contains("members show each other"));
    case.now = Time(NOW.0 + 99);
    case.says(ConditionType::TlsReady, Truth::False, Reason::CertificateExpired);
}

#[test]
fn backups_that_are_suspended_are_said_to_be() {
    let mut case = well(3);
    case.d.backup_suspended = true;
    case.says(ConditionType::BackupHealthy, Truth::False, Reason::BackupSuspended);
}

/// A StatefulSet that is made anew around its pods, for larger volumes, say, is missing for a while.
#[test]
fn a_new_ca_does_not_sign_early_because_the_stateful_set_is_gone() {
    let mut case = certified(3, 900);
    let certs = known(&mut case.o.certificates);
    certs.next = Some(ca("new", 90_000));
    (certs.bundle, certs.bundle_since) = (names(&["old", "new"]), Some(Time(NOW.0 - 10)));
    case.o.workload = Seen::Known(None);
    assert!(!matches!(case.act(), Some(Act::SwitchCa { .. } | Act::IssueLeaf { .. })), "{:?}", case.act());
}

#[test]
fn a_new_ca_is_trusted_everywhere_before_it_signs_and_the_old_one_until_nothing_uses_it() {
    let mut case = certified(3, 900);
    assert_eq!(case.act(), Some(Act::CreateCa { next: true }));
    known(&mut case.o.certificates).next = Some(ca("new", 90_000));
    assert_eq!(case.act(), Some(Act::PublishBundle { cas: names(&["old", "new"]) }));
    case.says(ConditionType::Progressing, Truth::True, Reason::RotatingCA);
    let certs = known(&mut case.o.certificates);
    (certs.bundle, certs.bundle_since) = (names(&["old", "new"]), Some(Time(NOW.0 - 10)));
    assert_eq!(case.act(), None, "the bundle has not reached everybody");
    known(&mut case.o.certificates).bundle_since = Some(Time(NOW.0 - 180));
    assert_eq!(case.act(), Some(Act::SwitchCa { to: "new".into() }));
    let certs = known(&mut case.o.certificates);
    (certs.issuer, certs.next) = (certs.next.take(), None);
    for surface in Surface::ALL {
        assert_eq!(case.act(), Some(Act::IssueLeaf { surface, ca: "new".into() }));
        let leaf = Leaf { ca: "new".into(), not_after: Time(NOW.0 + 9000), issued: NOW };
        known(&mut case.o.certificates).leaves.insert(surface, leaf);
    }
    assert_eq!(case.act(), None, "old leaves may still be in use");
    case.now = Time(NOW.0 + 180);
    assert_eq!(case.act(), Some(Act::PublishBundle { cas: names(&["new"]) }));
}

/// A lost quorum may wait for somebody's word for longer than a CA is good.
#[test]
fn a_ca_near_its_end_is_followed_by_another_whatever_else_waits() {
    let mut case = certified(3, 499);
    case.no_quorum();
    assert_eq!(case.act(), Some(Act::CreateCa { next: true }));
    let mut case = certified(3, 499);
    case.d.hibernate = true;
    case.under_way(Intent::Hibernate { replicas: 3 });
    case.workload().replicas = 0;
    assert_eq!(case.act(), Some(Act::CreateCa { next: true }));
}

#[test]
fn a_leaf_that_ends_with_its_ca_is_not_signed_over_and_over() {
    let mut case = certified(3, 200);
    for leaf in known(&mut case.o.certificates).leaves.values_mut() {
        leaf.not_after = Time(NOW.0 + 200);
    }
    case.failed(Act::CreateCa { next: true });
    assert_eq!(case.act(), None);
}

#[test]
fn leaves_are_renewed_while_a_member_is_down_and_an_operation_is_stuck() {
    let mut case = certified(3, 90_000);
    case.down(1);
    case.under_way(Intent::DisarmAlarm);
    let leaf = known(&mut case.o.certificates).leaves.get_mut(&Surface::Peer).expect("there is one");
    leaf.not_after = Time(NOW.0 + 200);
    let act = Act::IssueLeaf { surface: Surface::Peer, ca: "old".into() };
    assert_eq!(case.act(), Some(act.clone()));
    case.failed(act);
    assert!(!matches!(case.act(), Some(Act::IssueLeaf { .. })), "a failure holds up nothing else");
}

#[test]
fn secrets_that_could_not_be_read_are_not_made_anew() {
    let mut case = certified(3, 900);
    case.o.certificates = Seen::Unknown;
    assert_eq!(case.act(), None);
    case.says(ConditionType::TlsReady, Truth::Unknown, Reason::MembersUnreachable);
}

#[test]
fn nothing_is_founded_without_its_certificates() {
    let mut case = nothing(3);
    case.d.tls = certified(1, 1).d.tls;
    assert_eq!(case.act(), Some(Act::CreateCa { next: false }));
    case.d.tls = Tls::Given;
    assert_eq!(case.act(), None);
}

#[test]
fn a_restore_saves_what_there_is_before_it_deletes_it() {
    let mut case = well(1);
    case.request(Verb::Restore { source: "b1".into(), save: true, confirm: CLUSTER });
    let claims = BTreeMap::from([(Ordinal(0), uid("claim-0"))]);
    let restore = Intent::Restore(Restore { source: "b1".into(), lost: CLUSTER, save: true, claims });
    assert_eq!(case.intent(), restore);
    case.under_way(restore).request = Some(uid("request"));
    assert_eq!(case.act(), Some(Act::OpenClientService { open: false }));
    known(&mut case.o.objects).open = false;
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 1, to: 0 }));
    case.stopped();
    assert_eq!(case.act(), Some(Act::Save { seq: 9, ordinal: Ordinal(0), claim: uid("claim-0") }));
    case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(0), Phase::Failed)]));
    assert!(matches!(case.act(), Some(Act::FinishRequest { outcome: Outcome::Failed(_), .. })), "it goes on as it was");
    case.o.saved = Seen::Known(BTreeMap::from([(Ordinal(0), Phase::Succeeded)]));
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(0), uid: uid("claim-0") }));
    known(&mut case.o.claims).clear();
    assert_eq!(case.act(), Some(Act::Latch { from: Some(CLUSTER), to: None }));
    case.o.cluster.cluster_id = None;
    let first = Bootstrap { attempt: 1, permit: None, spoiled: None, source: Some("b1".into()), lost: Some(CLUSTER) };
    assert_eq!(case.intent(), Intent::Bootstrap(first));
}

#[test]
fn a_cluster_comes_back_from_a_restore_that_was_given_up() {
    let mut case = well(3);
    known(&mut case.o.objects).open = true;
    case.stopped();
    assert_eq!(case.act(), Some(Act::SetReplicas { uid: uid("sts"), from: 0, to: 3 }));
}

#[test]
fn a_restore_saves_nothing_where_that_is_not_wanted() {
    let mut case = well(1);
    case.request(Verb::Restore { source: "b1".into(), save: false, confirm: CLUSTER });
    let restore = case.intent();
    case.under_way(restore).request = Some(uid("request"));
    known(&mut case.o.objects).open = false;
    case.stopped();
    assert_eq!(case.act(), Some(Act::DeleteClaim { ordinal: Ordinal(0), uid: uid("claim-0") }));
}

#[test]
fn a_restore_ends_pods_that_have_no_workload() {
    let mut case = well(2);
    let claims = BTreeMap::from([(Ordinal(0), uid("claim-0")), (Ordinal(1), uid("claim-1"))]);
    case.under_way(Intent::Restore(Restore { source: "b1".into(), lost: CLUSTER, save: true, claims }));
    known(&mut case.o.objects).open = false;
    case.o.workload = Seen::Known(None);
    assert!(matches!(case.act(), Some(Act::ApplyWorkload { replicas: 0, .. })));
}

/// What could not be published was signed with anyway, was refused, and the two failures took turns for ever.
#[test]
fn a_ca_that_is_not_published_is_not_tried_to_be_signed_with() {
    let mut case = certified(3, 900);
    known(&mut case.o.certificates).next = Some(ca("new", 90_000));
    let publish = Act::PublishBundle { cas: names(&["old", "new"]) };
    assert_eq!(case.act(), Some(publish.clone()));
    case.failed(publish);
    assert_eq!(case.act(), None);
}

/// A CA without its key, say, that somebody keeps elsewhere: it is not written over.
#[test]
fn a_ca_that_can_not_be_read_is_told_and_not_made_anew() {
    let mut case = certified(3, 90_000);
    let certs = known(&mut case.o.certificates);
    (certs.issuer, certs.flaw) = (None, Some((Reason::CertificateInvalid, "the Secret main-ca-key".into())));
    assert_eq!(case.act(), None);
    case.says(ConditionType::TlsReady, Truth::False, Reason::CertificateInvalid);
    let mut case = certified(3, 100);
    known(&mut case.o.certificates).flaw = Some((Reason::SecretNotFound, "caBundleSecret".into()));
    assert_eq!(case.act(), None, "a rotation would break off half way");
}
