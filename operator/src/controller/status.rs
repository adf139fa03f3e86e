//! `status` of an `EtcdCluster`: what the planner has to remember, and what people and monitoring are shown.

use keepstone_operator_api::condition::{self, ConditionState, ConditionType};
use keepstone_operator_api::operation::Alarm as ApiAlarm;
use keepstone_operator_api::status::{CertificateStatus, LastBackup, Marks as ApiMarks, MemberStatus, Phase};
use keepstone_operator_api::{EtcdBackup, EtcdClusterStatus, Reason};
use keepstone_operator_plan::Plan;
use keepstone_operator_plan::act::{Act, Alarm};
use keepstone_operator_plan::ids::{MemberId, Time};
use keepstone_operator_plan::observed::{Marks, Member, Surface};
use keepstone_operator_plan::operation::Intent;
use serde_json::{Value, json};

use super::api::{text, typed, uid, version};
use super::futile;
use super::kind::Kind;
use super::look::{Look, orders, trouble};
use super::write::difference;
use crate::convert::text::{hex, stamp};
use crate::convert::{conditions, record};

/// What status is to be after a pass, where so much was tried in vain before it. Acts on status itself are carried out here:
/// they are written together with the rest.
#[must_use]
pub fn next(look: &Look, plan: &Plan, in_vain: &[String], now: Time) -> EtcdClusterStatus {
    let (o, names) = (&look.observed, &look.blueprint.names);
    let mut status = look.cluster.status.clone().unwrap_or_default();
    status.observed_generation = o.cluster.generation;
    status.selector = Some(names.selector_text());
    status.marks = marks(&plan.marks);
    status.target_version = Some(look.blueprint.spec.version.clone());
    status.ready_members =
        o.pods.known().map_or(0, |pods| count(pods.values().filter(|pod| pod.ready && !pod.terminating).count()));
    members(&mut status, look, now);
    status.certificates = certificates(look);
    status.last_backup = last_backup(look).or(status.last_backup);
    let due = [
        look.desired.maintenance.compact.as_ref().map(|it| it.schedule.next),
        look.desired.maintenance.defragment.as_ref().map(|it| it.schedule.next),
    ];
    status.next_maintenance = due.into_iter().flatten().min().map(stamp);
    if !o.cluster.deleting {
        let judged = trouble::told(&plan.conditions, &trouble::all(&look.blueprint, &look.objects));
        let judged = futile::judge(judged, in_vain);
        conditions::write(&mut status.conditions, &judged, o.cluster.generation, &stamp(now));
    }
    match &plan.act {
        Some(Act::RecordIntent(operation)) => {
            status.operation = Some(record::write(&names.cluster, operation));
            status.operation_seq = operation.seq;
        }
        Some(Act::CloseIntent { .. }) => status.operation = None,
        Some(Act::Latch { from, to }) => {
            let recovering =
                o.cluster.operation.as_ref().is_some_and(|it| matches!(it.intent, Intent::RecoverQuorum(_)));
            status.recovery_count += i32::from(recovering && from.is_some() && to.is_some());
            status.cluster_id = to.map(|id| hex(id.0));
        }
        _ => {}
    }
    status.phase = Some(phase(&status, look));
    status
}

/// Whether an act is written with status, and needs nothing else.
#[must_use]
pub fn is_own(act: &Act) -> bool {
    matches!(act, Act::RecordIntent(_) | Act::CloseIntent { .. } | Act::Latch { .. })
}

/// The patch that makes status what it is to be, on the very object that was seen; none where nothing changes. Numbers
/// alone are a change only where `numbers` says so.
#[must_use]
pub fn patch(object: &Value, new: &EtcdClusterStatus, numbers: bool) -> Option<Value> {
    let old = object.get("status").cloned().unwrap_or_else(|| json!({}));
    let new = serde_json::to_value(new).expect("a status is JSON");
    let same = if numbers { old == new } else { without_numbers(&old) == without_numbers(&new) };
    let precondition = json!({"uid": uid(object), "resourceVersion": version(object)});
    (!same).then(|| json!({"metadata": precondition, "status": difference(&old, &new)}))
}

/// What grows by itself.
fn without_numbers(status: &Value) -> Value {
    let mut status = status.clone();
    for member in status.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten() {
        for field in ["dbSizeBytes", "dbSizeInUseBytes", "raftAppliedIndex"] {
            member.as_object_mut().map(|member| member.remove(field));
        }
    }
    status
}

/// Says of a cluster whose spec can't be read that it can't; all else stays as it was.
#[must_use]
pub fn unreadable(old: &EtcdClusterStatus, generation: i64, why: &str, now: Time) -> EtcdClusterStatus {
    let mut status = old.clone();
    for (kind, state) in
        [(ConditionType::Degraded, ConditionState::True), (ConditionType::Ready, ConditionState::False)]
    {
        condition::set(&mut status.conditions, kind, state, Reason::InvalidSpec, why, generation, &stamp(now));
    }
    status.phase = Some(Phase::Degraded);
    status
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn bytes(n: u64) -> Option<i64> {
    i64::try_from(n).ok()
}

fn marks(of: &Marks) -> ApiMarks {
    ApiMarks {
        compact: of.compact.map(stamp),
        defragment: of.defragment.map(stamp),
        backup: of.backup.map(stamp),
        room: of.room.map(stamp),
        quorum_lost: of.quorum_lost.map(stamp),
    }
}

fn members(status: &mut EtcdClusterStatus, look: &Look, now: Time) {
    let o = &look.observed;
    let leader = o.answers.values().filter(|s| s.leader.is_some()).max_by_key(|s| s.term).and_then(|s| s.leader);
    let Some(table) = o.table.known() else {
        // Who they are is not known now; that they answer is.
        let answers = |name: &str| look.blueprint.names.ordinal(name).is_some_and(|n| o.answers.contains_key(&n));
        for member in status.members.iter_mut().filter(|member| member.is_healthy && !answers(&member.name)) {
            (member.is_healthy, member.is_leader, member.last_transition_time) = (false, false, Some(stamp(now)));
        }
        (status.leader, status.leader_id) = (None, None);
        return;
    };
    let before = std::mem::take(&mut status.members);
    status.members = table.iter().map(|row| member(row, leader, look, &before, now)).collect();
    status.members.sort_by(|a, b| a.name.cmp(&b.name));
    status.member_count = count(table.len());
    status.leader_id = leader.map(|id| hex(id.0));
    status.leader = status.members.iter().find(|member| member.is_leader).map(|member| member.name.clone());
    let versions = table.iter().filter(|row| !row.learner).filter_map(|row| o.answers.get(&row.ordinal?));
    status.current_version = versions.map(|answer| answer.version).min().map(|version| version.to_string());
}

fn member(row: &Member, leader: Option<MemberId>, look: &Look, before: &[MemberStatus], now: Time) -> MemberStatus {
    let (o, names) = (&look.observed, &look.blueprint.names);
    let id = Some(hex(row.id.0));
    let answer = row.ordinal.and_then(|n| o.answers.get(&n)).filter(|answer| answer.member_id == row.id);
    let pod = row.ordinal.and_then(|n| o.pods.known()?.get(&n));
    let claim = row.ordinal.and_then(|n| o.claims.known()?.get(&n));
    let is_healthy = answer.is_some_and(|answer| answer.leader.is_some());
    let old = before.iter().find(|old| old.id == id);
    let since = old.filter(|old| old.is_healthy == is_healthy).and_then(|old| old.last_transition_time.clone());
    let born =
        |kind, name: &str| look.objects.get(kind, name).map(|object| text(object, "/metadata/creationTimestamp"));
    // A server that is killed by force answers while its pod's name, and its claim's, are another's already.
    let on_claim = answer.is_some()
        && pod.is_some_and(|pod| pod.started)
        && row.ordinal.is_some_and(|n| born(Kind::Pod, &names.pod(n)) >= born(Kind::Claim, &names.claim(n)));
    let armed = o.alarms.known().into_iter().flatten().filter(|(member, _)| *member == row.id);
    MemberStatus {
        name: row.ordinal.map_or_else(|| hex(row.id.0), |n| names.pod(n)),
        id,
        // The operator of before may look after members that don't tell.
        version: answer
            .map(|answer| row.ordinal.and_then(|n| look.releases.get(&n)).unwrap_or(&answer.version).to_string()),
        is_healthy,
        is_leader: leader == Some(row.id),
        is_learner: row.learner,
        db_size_bytes: answer.and_then(|answer| bytes(answer.db_size)),
        db_size_in_use_bytes: answer.and_then(|answer| bytes(answer.db_in_use)),
        raft_applied_index: answer.and_then(|answer| bytes(answer.applied)),
        alarms: armed
            .map(|(_, alarm)| match alarm {
                Alarm::NoSpace => ApiAlarm::NoSpace,
                Alarm::Corrupt => ApiAlarm::Corrupt,
            })
            .collect(),
        pod_uid: pod.map(|pod| pod.uid.0.to_string()),
        pvc_name: row.ordinal.map(|n| names.claim(n)),
        pvc_uid: volume(old, claim.map(|claim| &*claim.uid.0), on_claim).map(str::to_owned),
        last_transition_time: since.or_else(|| Some(stamp(now))),
    }
}

/// The claim that a member's data is on: where it does not answer from the one that is there, the one it was on before.
fn volume<'a>(old: Option<&'a MemberStatus>, now: Option<&'a str>, on_claim: bool) -> Option<&'a str> {
    old.filter(|_| !on_claim).and_then(|old| old.pvc_uid.as_deref()).or(now)
}

fn certificates(look: &Look) -> Option<CertificateStatus> {
    let known = look.observed.certificates.known()?;
    let leaf = |surface| known.leaves.get(&surface).map(|leaf| stamp(leaf.not_after));
    let status = CertificateStatus {
        ca_not_after: known.issuer.as_ref().map(|ca| stamp(ca.not_after)),
        server_not_after: leaf(Surface::Server),
        peer_not_after: leaf(Surface::Peer),
        client_not_after: leaf(Surface::Client),
    };
    (status != CertificateStatus::default()).then_some(status)
}

fn last_backup(look: &Look) -> Option<LastBackup> {
    let cluster = &look.observed.cluster;
    let all = look.objects.of(Kind::Backup).filter_map(|object| typed::<EtcdBackup>(object).ok());
    let all = all.filter(|backup| orders::is_of(backup, &cluster.uid.0, cluster.created));
    let whole = all.filter_map(|backup| {
        let status = backup.status?;
        let (artifact, time) = (status.artifact?, status.completed_at?);
        Some(LastBackup { name: backup.metadata.name?, revision: artifact.revision, time })
    });
    whole.max_by_key(|backup| backup.time.0)
}

fn phase(status: &EtcdClusterStatus, look: &Look) -> Phase {
    let reason = |kind: ConditionType| {
        let found = status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
        found.map_or("", |condition| condition.reason.as_str())
    };
    let holds = |kind| condition::holds(&status.conditions, kind);
    let is = |kind, of: Reason| reason(kind) == of.as_str();
    if look.observed.cluster.deleting {
        Phase::Deleting
    } else if look.desired.paused {
        Phase::Paused
    } else if is(ConditionType::Available, Reason::Hibernated) {
        Phase::Hibernated
    } else if is(ConditionType::Degraded, Reason::BootstrapFailed) {
        Phase::Failed
    } else if status.cluster_id.is_none() {
        Phase::Bootstrapping
    } else if !holds(ConditionType::Available) {
        Phase::Unavailable
    } else if holds(ConditionType::Degraded) {
        Phase::Degraded
    } else if holds(ConditionType::Progressing) {
        Phase::Changing
    } else {
        Phase::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_claim_is_not_taken_for_the_one_a_silent_members_data_was_on() {
        let had = MemberStatus { pvc_uid: Some("first".into()), ..MemberStatus::default() };
        assert_eq!(volume(Some(&had), Some("second"), false), Some("first"));
        assert_eq!(volume(Some(&had), Some("second"), true), Some("second"), "it answers from there");
        assert_eq!(volume(Some(&MemberStatus::default()), Some("first"), false), Some("first"));
        assert_eq!(volume(None, Some("first"), false), Some("first"));
    }

    #[test]
    fn numbers_alone_are_written_now_and_then_only() {
        let status = |size: i64, leader: bool| EtcdClusterStatus {
            members: vec![MemberStatus { db_size_bytes: Some(size), is_leader: leader, ..MemberStatus::default() }],
            ..EtcdClusterStatus::default()
        };
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "status": status(1, false)});
        assert_eq!(patch(&object, &status(2, false), false), None);
        assert_eq!(patch(&object, &status(1, false), true), None);
        for patch in [patch(&object, &status(2, false), true), patch(&object, &status(1, true), false)] {
            assert_eq!(patch.expect("a change")["metadata"]["resourceVersion"], "7");
        }
    }
}
