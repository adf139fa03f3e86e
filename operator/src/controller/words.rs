//! Acts in words, for events: pods by name, members by ID, sizes in bytes.

use keepstone_operator_plan::act::{Act, Alarm, Job, Outcome, PermitKind};
use keepstone_operator_plan::observed::Surface;
use keepstone_operator_plan::operation::{Bootstrap, Defragment, Intent, Join};

use crate::names::Names;

/// What is done, or was to be.
#[must_use]
pub fn act(act: &Act, names: &Names) -> String {
    let pod = |n| names.pod(n);
    match act {
        Act::RecordIntent(operation) => intent(&operation.intent, names),
        Act::CloseIntent { seq } => format!("end operation {seq}"),
        Act::Latch { to: Some(id), .. } => format!("the cluster's ID is {id}"),
        Act::Latch { to: None, .. } => "the cluster has no ID any more".to_owned(),
        Act::ApplyObjects => "apply Services, NetworkPolicy and the like".to_owned(),
        Act::ApplyBudget { min_available: Some(n) } => format!("PodDisruptionBudget: at least {n} pods"),
        Act::ApplyBudget { min_available: None } => "no PodDisruptionBudget".to_owned(),
        Act::OpenClientService { open: true } => format!("Service {} leads to members", names.client()),
        Act::OpenClientService { open: false } => format!("Service {} leads nowhere", names.client()),
        Act::ApplyWorkload { replicas, template, storage } => format!(
            "StatefulSet {} with {replicas} replicas of {}, {storage} bytes each",
            names.main(),
            template.version
        ),
        Act::SetReplicas { from, to, .. } => format!("StatefulSet {} from {from} to {to} replicas", names.main()),
        Act::DeleteWorkload { orphan: true, .. } => format!("delete StatefulSet {}, keep its pods", names.main()),
        Act::DeleteWorkload { .. } => format!("delete StatefulSet {}", names.main()),
        Act::GrantPermit(permit) => match permit.kind {
            PermitKind::Found => format!("{} may found the cluster", pod(permit.ordinal)),
            PermitKind::FoundFrom(ref backup) => format!("{} may found the cluster from {backup}", pod(permit.ordinal)),
            PermitKind::ForceNew => format!("{} may go on alone as a new cluster", pod(permit.ordinal)),
        },
        Act::Fill(permit) => format!("put the backup onto {}", names.claim(permit.ordinal)),
        Act::RevokePermit { nonce } => format!("take back permit {:x}", nonce.0),
        Act::SetFence(places) if places.is_empty() => "every member may start".to_owned(),
        Act::SetFence(places) => format!("{} may not start", list(places.iter().map(|n| pod(*n)))),
        Act::DeletePod { ordinal, force: false, .. } => format!("delete pod {}", pod(*ordinal)),
        Act::DeletePod { ordinal, .. } => format!("delete pod {} of a node that is gone", pod(*ordinal)),
        Act::DeleteClaim { ordinal, .. } => format!("delete volume claim {}", names.claim(*ordinal)),
        Act::MarkClaimLeft { ordinal, .. } => format!("keep volume claim {}", names.claim(*ordinal)),
        Act::GrowClaim { ordinal, bytes, .. } => format!("grow {} to {bytes} bytes", names.claim(*ordinal)),
        Act::RemoveFinalizer => "let the EtcdCluster go".to_owned(),
        Act::MemberAdd { ordinal } => format!("add a learner for {}", pod(*ordinal)),
        Act::MemberPromote { id } => format!("make learner {id} a voter"),
        Act::MemberRemove { id } => format!("remove member {id}"),
        Act::MoveLeader { from, to } => format!("hand leadership from {} to member {to}", pod(*from)),
        Act::Compact { revision } => format!("compact to revision {}", revision.0),
        Act::Defragment { ordinal } => format!("defragment {}", pod(*ordinal)),
        Act::Disarm { id, alarm } => format!("disarm {} of member {id}", alarm_name(*alarm)),
        Act::Save { ordinal, .. } => format!("save the data of {}", pod(*ordinal)),
        Act::CreateCa { next: false } => "make a CA".to_owned(),
        Act::CreateCa { next: true } => "make the next CA".to_owned(),
        Act::PublishBundle { cas } => format!("trust {}", list(cas.iter().map(|ca| format!("CA {ca}")))),
        Act::IssueLeaf { surface, ca } => format!("{} certificate, signed by CA {ca}", surface_name(*surface)),
        Act::SwitchCa { to } => format!("CA {to} signs from now on"),
        Act::Stamp { job: Job::Compact { revision }, .. } => {
            format!("EtcdOperation to compact to revision {}", revision.0)
        }
        Act::Stamp { job: Job::Defragment { .. }, .. } => "EtcdOperation to defragment".to_owned(),
        Act::FinishRequest { outcome, .. } => match outcome {
            Outcome::Succeeded => "an EtcdOperation succeeded".to_owned(),
            Outcome::Failed(why) => format!("an EtcdOperation failed: {why}"),
            Outcome::Rejected(why) => format!("an EtcdOperation is rejected: {why}"),
        },
        Act::StartBackup { from, .. } => format!("take a backup from {}", pod(*from)),
        Act::DeleteBackup { uid } => format!("delete EtcdBackup {}", uid.0),
    }
}

fn intent(intent: &Intent, names: &Names) -> String {
    let pod = |n| names.pod(n);
    match intent {
        Intent::Bootstrap(Bootstrap { attempt, source, .. }) => {
            let from = source.as_ref().map_or_else(String::new, |backup| format!(" from {backup}"));
            format!("found the cluster{from}{}", again(*attempt))
        }
        Intent::ScaleUp(Join { ordinal, attempt, .. }) => format!("add {}{}", pod(*ordinal), again(*attempt)),
        Intent::ReplaceMember(Join { ordinal, attempt, .. }) => {
            format!("replace the member of {}{}", pod(*ordinal), again(*attempt))
        }
        Intent::ScaleDown(leave) => format!("remove {}", pod(leave.ordinal)),
        Intent::Roll(roll) => format!("replace pod {} by one of {}", pod(roll.ordinal), roll.template.version),
        Intent::Hibernate { replicas } => format!("put {replicas} pods to sleep"),
        Intent::RecoverQuorum(recover) => format!("go on with what {} has, as a new cluster", pod(recover.survivor)),
        Intent::Restore(restore) => format!("go on from {}, as a new cluster", restore.source),
        Intent::Defragment(Defragment { members, .. }) if members.is_empty() => "defragment all members".to_owned(),
        Intent::Defragment(Defragment { members, .. }) => {
            format!("defragment {}", list(members.iter().map(|n| pod(*n))))
        }
        Intent::MakeRoom(_) => "make room: compact, defragment, disarm NOSPACE".to_owned(),
        Intent::Compact { revision } => format!("compact to revision {}", revision.0),
        Intent::MoveLeader { to } => format!("hand leadership to {}", pod(*to)),
        Intent::DisarmAlarm => "disarm alarms".to_owned(),
    }
}

fn again(attempt: u32) -> String {
    if attempt > 1 { format!(", attempt {attempt}") } else { String::new() }
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn alarm_name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}

fn surface_name(surface: Surface) -> &'static str {
    match surface {
        Surface::Server => "server",
        Surface::Peer => "peer",
        Surface::Operator => "operator",
        Surface::Client => "client",
    }
}
