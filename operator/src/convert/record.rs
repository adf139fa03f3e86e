//! `status.operation` and back. Nothing of it is lost on the way: what an operator wrote before it died is what the next
//! one goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepstone_operator_api::record as api;
use keepstone_operator_api::record::{OperationRecord, OperationType as Type, PermitType};
use keepstone_operator_plan::act::{Permit, PermitKind};
use keepstone_operator_plan::ids::{ClusterId, MemberId, Nonce, Ordinal, Revision, Template, Uid};
use keepstone_operator_plan::operation::{
    Bootstrap, Defragment, Intent, Join, Leave, MakeRoom, Operation, Recover, Restore, Roll,
};

use super::Unclear;
use super::desired::{rule, rule_of};
use super::text::{hex, number, pod, stamp, time, version};

const FIELD: &str = "status.operation";

/// The record of an operation on that cluster.
#[must_use]
pub fn write(cluster: &str, operation: &Operation) -> OperationRecord {
    let mut record = OperationRecord {
        seq: operation.seq,
        kind: kind(&operation.intent),
        member: about(&operation.intent).map(|ordinal| pod(cluster, ordinal)),
        started_at: stamp(operation.started),
        deadline: stamp(operation.deadline),
        generation: operation.generation,
        request_uid: operation.request.as_ref().map(text),
        bootstrap: None,
        join: None,
        leave: None,
        roll: None,
        hibernate: None,
        recover_quorum: None,
        restore: None,
        defragment: None,
        make_room: None,
        compact: None,
        move_leader: None,
    };
    part(&mut record, &operation.intent);
    record
}

fn kind(intent: &Intent) -> Type {
    match intent {
        Intent::Bootstrap(_) => Type::Bootstrap,
        Intent::ScaleUp(_) => Type::ScaleUp,
        Intent::ReplaceMember(_) => Type::ReplaceMember,
        Intent::ScaleDown(_) => Type::ScaleDown,
        Intent::Roll(_) => Type::Roll,
        Intent::Hibernate { .. } => Type::Hibernate,
        Intent::RecoverQuorum(_) => Type::RecoverQuorum,
        Intent::Restore(_) => Type::Restore,
        Intent::Defragment(_) => Type::Defragment,
        Intent::MakeRoom(_) => Type::MakeRoom,
        Intent::Compact { .. } => Type::Compact,
        Intent::MoveLeader { .. } => Type::MoveLeader,
        Intent::DisarmAlarm => Type::DisarmAlarm,
    }
}

/// The place it is about, where it is one.
fn about(intent: &Intent) -> Option<Ordinal> {
    match intent {
        Intent::Bootstrap(_) => Some(Ordinal::SEED),
        Intent::ScaleUp(join) | Intent::ReplaceMember(join) => Some(join.ordinal),
        Intent::ScaleDown(leave) => Some(leave.ordinal),
        Intent::Roll(roll) => Some(roll.ordinal),
        Intent::RecoverQuorum(recover) => Some(recover.survivor),
        Intent::MoveLeader { to } => Some(*to),
        Intent::Hibernate { .. }
        | Intent::Restore(_)
        | Intent::Defragment(_)
        | Intent::MakeRoom(_)
        | Intent::Compact { .. }
        | Intent::DisarmAlarm => None,
    }
}

fn part(record: &mut OperationRecord, intent: &Intent) {
    match intent {
        Intent::Bootstrap(it) => {
            record.bootstrap = Some(api::BootstrapRecord {
                attempt: it.attempt,
                permit: it.permit.as_ref().map(permit_record),
                spoiled_claim_uid: it.spoiled.as_ref().map(text),
                source: it.source.as_deref().map(str::to_owned),
                lost_cluster_id: it.lost.map(|id| hex(id.0)),
            });
        }
        Intent::ScaleUp(it) | Intent::ReplaceMember(it) => {
            record.join = Some(api::JoinRecord {
                ordinal: it.ordinal.0,
                leaver_id: it.leaver.map(|id| hex(id.0)),
                stale_claim_uid: it.stale.as_ref().map(text),
                attempt: it.attempt,
                applied: it.applied,
            });
        }
        Intent::ScaleDown(it) => {
            record.leave = Some(api::LeaveRecord {
                ordinal: it.ordinal.0,
                member_id: it.member.map(|id| hex(id.0)),
                claim_uid: it.claim.as_ref().map(text),
            });
        }
        Intent::Roll(it) => {
            record.roll = Some(api::RollRecord {
                ordinal: it.ordinal.0,
                pod_uid: text(&it.pod),
                config: it.template.config.as_ref().to_owned(),
                version: it.template.version.to_string(),
            });
        }
        Intent::Hibernate { replicas } => record.hibernate = Some(api::HibernateRecord { replicas: *replicas }),
        Intent::RecoverQuorum(it) => {
            record.recover_quorum = Some(api::RecoverRecord {
                survivor: it.survivor.0,
                claim_uid: text(&it.claim),
                lost_cluster_id: hex(it.lost.0),
                nonce: hex(it.nonce.0),
                fenced: it.fenced,
                pods: by_place(&it.pods),
                claims: by_place(&it.claims),
            });
        }
        Intent::Restore(it) => {
            record.restore = Some(api::RestoreRecord {
                source: it.source.as_ref().to_owned(),
                lost_cluster_id: hex(it.lost.0),
                snapshot_current_first: it.save,
                claims: by_place(&it.claims),
            });
        }
        Intent::Defragment(it) => {
            record.defragment = Some(api::DefragmentRecord {
                rule: it.rule.as_ref().map(rule_of),
                members: places(&it.members),
                done: places(&it.done),
            });
        }
        Intent::MakeRoom(it) => {
            record.make_room = Some(api::MakeRoomRecord { compacted: it.compacted, done: places(&it.done) });
        }
        Intent::Compact { revision } => record.compact = Some(api::CompactRecord { revision: revision.0 }),
        Intent::MoveLeader { to } => record.move_leader = Some(api::MoveLeaderRecord { to: to.0 }),
        Intent::DisarmAlarm => {}
    }
}

/// The operation that a record is of.
///
/// # Errors
/// A part is missing or can't be read: it was written by hand, or by a version that knows more. Nothing may be done then.
pub fn read(record: &OperationRecord) -> Result<Operation, Unclear> {
    Ok(Operation {
        seq: record.seq,
        intent: intent(record)?,
        started: time(&record.started_at),
        deadline: time(&record.deadline),
        generation: record.generation,
        request: record.request_uid.as_deref().map(Uid::from),
    })
}

fn intent(record: &OperationRecord) -> Result<Intent, Unclear> {
    Ok(match record.kind {
        Type::Bootstrap => Intent::Bootstrap(bootstrap(there(&record.bootstrap, "bootstrap")?)?),
        Type::ScaleUp => Intent::ScaleUp(join(there(&record.join, "join")?)?),
        Type::ReplaceMember => Intent::ReplaceMember(join(there(&record.join, "join")?)?),
        Type::ScaleDown => Intent::ScaleDown(leave(there(&record.leave, "leave")?)?),
        Type::Roll => Intent::Roll(roll(there(&record.roll, "roll")?)?),
        Type::Hibernate => Intent::Hibernate { replicas: there(&record.hibernate, "hibernate")?.replicas },
        Type::RecoverQuorum => Intent::RecoverQuorum(recover(there(&record.recover_quorum, "recoverQuorum")?)?),
        Type::Restore => Intent::Restore(restore(there(&record.restore, "restore")?)?),
        Type::Defragment => Intent::Defragment(defragment(there(&record.defragment, "defragment")?)?),
        Type::MakeRoom => Intent::MakeRoom(make_room(there(&record.make_room, "makeRoom")?)),
        Type::Compact => Intent::Compact { revision: Revision(there(&record.compact, "compact")?.revision) },
        Type::MoveLeader => Intent::MoveLeader { to: Ordinal(there(&record.move_leader, "moveLeader")?.to) },
        Type::DisarmAlarm => Intent::DisarmAlarm,
    })
}

fn there<'a, T>(part: &'a Option<T>, name: &str) -> Result<&'a T, Unclear> {
    part.as_ref().ok_or_else(|| Unclear::new(&format!("{FIELD}.{name}"), "it is missing"))
}

fn bootstrap(it: &api::BootstrapRecord) -> Result<Bootstrap, Unclear> {
    Ok(Bootstrap {
        attempt: it.attempt,
        permit: it.permit.as_ref().map(permit).transpose()?,
        spoiled: it.spoiled_claim_uid.as_deref().map(Uid::from),
        source: it.source.as_deref().map(Arc::from),
        lost: it
            .lost_cluster_id
            .as_deref()
            .map(|id| number("status.operation.bootstrap.lostClusterID", id))
            .transpose()?
            .map(ClusterId),
    })
}

fn permit_record(it: &Permit) -> api::PermitRecord {
    let (kind, source) = match &it.kind {
        PermitKind::Found => (PermitType::Found, None),
        PermitKind::FoundFrom(source) => (PermitType::FoundFrom, Some(source.as_ref().to_owned())),
        PermitKind::ForceNew => (PermitType::ForceNew, None),
    };
    api::PermitRecord {
        kind,
        ordinal: it.ordinal.0,
        pod_uid: it.pod.as_ref().map(text),
        claim_uid: text(&it.claim),
        nonce: hex(it.nonce.0),
        source,
    }
}

fn permit(it: &api::PermitRecord) -> Result<Permit, Unclear> {
    let kind = match it.kind {
        PermitType::Found => PermitKind::Found,
        PermitType::FoundFrom => {
            PermitKind::FoundFrom(Arc::from(there(&it.source, "bootstrap.permit.source")?.as_str()))
        }
        PermitType::ForceNew => PermitKind::ForceNew,
    };
    Ok(Permit {
        kind,
        ordinal: Ordinal(it.ordinal),
        pod: it.pod_uid.as_deref().map(Uid::from),
        claim: it.claim_uid.as_str().into(),
        nonce: Nonce(number("status.operation.bootstrap.permit.nonce", &it.nonce)?),
    })
}

fn join(it: &api::JoinRecord) -> Result<Join, Unclear> {
    Ok(Join {
        ordinal: Ordinal(it.ordinal),
        leaver: member("status.operation.join.leaverID", it.leaver_id.as_deref())?,
        stale: it.stale_claim_uid.as_deref().map(Uid::from),
        attempt: it.attempt,
        applied: it.applied,
    })
}

fn leave(it: &api::LeaveRecord) -> Result<Leave, Unclear> {
    Ok(Leave {
        ordinal: Ordinal(it.ordinal),
        member: member("status.operation.leave.memberID", it.member_id.as_deref())?,
        claim: it.claim_uid.as_deref().map(Uid::from),
    })
}

fn member(field: &str, id: Option<&str>) -> Result<Option<MemberId>, Unclear> {
    id.map(|id| number(field, id).map(MemberId)).transpose()
}

fn roll(it: &api::RollRecord) -> Result<Roll, Unclear> {
    let version = version("status.operation.roll.version", &it.version)?;
    Ok(Roll {
        ordinal: Ordinal(it.ordinal),
        pod: it.pod_uid.as_str().into(),
        template: Template { config: it.config.as_str().into(), version },
    })
}

fn recover(it: &api::RecoverRecord) -> Result<Recover, Unclear> {
    Ok(Recover {
        survivor: Ordinal(it.survivor),
        claim: it.claim_uid.as_str().into(),
        lost: ClusterId(number("status.operation.recoverQuorum.lostClusterID", &it.lost_cluster_id)?),
        nonce: Nonce(number("status.operation.recoverQuorum.nonce", &it.nonce)?),
        fenced: it.fenced,
        pods: of_places("status.operation.recoverQuorum.pods", &it.pods)?,
        claims: of_places("status.operation.recoverQuorum.claims", &it.claims)?,
    })
}

fn restore(it: &api::RestoreRecord) -> Result<Restore, Unclear> {
    Ok(Restore {
        source: it.source.as_str().into(),
        lost: ClusterId(number("status.operation.restore.lostClusterID", &it.lost_cluster_id)?),
        save: it.snapshot_current_first,
        claims: of_places("status.operation.restore.claims", &it.claims)?,
    })
}

fn defragment(it: &api::DefragmentRecord) -> Result<Defragment, Unclear> {
    Ok(Defragment {
        rule: it.rule.as_ref().map(|asked| rule("status.operation.defragment.rule", asked)).transpose()?,
        members: it.members.iter().copied().map(Ordinal).collect(),
        done: it.done.iter().copied().map(Ordinal).collect(),
    })
}

fn make_room(it: &api::MakeRoomRecord) -> MakeRoom {
    MakeRoom { compacted: it.compacted, done: it.done.iter().copied().map(Ordinal).collect() }
}

fn text(uid: &Uid) -> String {
    uid.0.as_ref().to_owned()
}

fn places(of: &BTreeSet<Ordinal>) -> Vec<u32> {
    of.iter().map(|ordinal| ordinal.0).collect()
}

fn by_place(of: &BTreeMap<Ordinal, Uid>) -> BTreeMap<String, String> {
    of.iter().map(|(ordinal, uid)| (ordinal.to_string(), text(uid))).collect()
}

fn of_places(field: &str, of: &BTreeMap<String, String>) -> Result<BTreeMap<Ordinal, Uid>, Unclear> {
    let place = |name: &String| name.parse().map_err(|_| Unclear::new(field, format!("{name:?} is no place")));
    of.iter().map(|(name, uid)| Ok((Ordinal(place(name)?), Uid::from(uid.as_str())))).collect()
}

#[cfg(test)]
mod tests;
