//! Events: one for each act that people want to know of, under a reason of a closed list.

use keepstone_operator_plan::act::Act;
use keepstone_operator_plan::operation::Intent;
use serde_json::{Value, json};

use super::api::{text, uid, version};
use super::clock::Clock;
use super::kind::Kind;
use crate::convert::text::stamp;

/// What is told of an act that was done; nothing of what is only bookkeeping.
#[must_use]
pub fn reason(act: &Act) -> Option<&'static str> {
    Some(match act {
        Act::RecordIntent(operation) => begun(&operation.intent),
        Act::Latch { to: Some(_), .. } => "ClusterFounded",
        Act::Latch { to: None, .. } => "FoundingUndone",
        Act::OpenClientService { open: true } => "ClientsLetIn",
        Act::OpenClientService { open: false } => "ClientsShutOut",
        Act::ApplyObjects => "ObjectsApplied",
        Act::ApplyWorkload { .. } => "WorkloadApplied",
        Act::SetReplicas { .. } => "WorkloadScaled",
        Act::DeleteWorkload { .. } => "WorkloadDeleted",
        Act::DeletePod { .. } => "PodDeleted",
        Act::DeleteClaim { .. } => "VolumeClaimDeleted",
        Act::GrowClaim { .. } => "VolumeClaimGrown",
        Act::MemberAdd { .. } => "MemberAdded",
        Act::MemberPromote { .. } => "MemberPromoted",
        Act::MemberRemove { .. } => "MemberRemoved",
        Act::MoveLeader { .. } => "LeaderMoved",
        Act::Compact { .. } => "Compacted",
        Act::Defragment { .. } => "Defragmented",
        Act::Disarm { .. } => "AlarmDisarmed",
        Act::CreateCa { .. } => "CACreated",
        Act::IssueLeaf { .. } => "CertificateIssued",
        Act::SwitchCa { .. } => "CASwitched",
        Act::StartBackup { .. } => "BackupStarted",
        Act::DeleteBackup { .. } => "BackupDeleted",
        Act::Fill(_) => "RestoringBackup",
        Act::Save { .. } => "SavingData",
        Act::SetFence(places) if places.is_empty() => "FenceLifted",
        Act::SetFence(_) => "MembersFenced",
        Act::CloseIntent { .. }
        | Act::ApplyBudget { .. }
        | Act::GrantPermit(_)
        | Act::RevokePermit { .. }
        | Act::MarkClaimLeft { .. }
        | Act::RemoveFinalizer
        | Act::PublishBundle { .. }
        | Act::Stamp { .. }
        | Act::FinishRequest { .. } => return None,
    })
}

fn begun(intent: &Intent) -> &'static str {
    match intent {
        Intent::Bootstrap(_) => "Bootstrapping",
        Intent::ScaleUp(_) => "ScalingUp",
        Intent::ReplaceMember(_) => "ReplacingMember",
        Intent::ScaleDown(_) => "ScalingDown",
        Intent::Roll(_) => "RestartingMember",
        Intent::Hibernate { .. } => "Hibernating",
        Intent::RecoverQuorum(_) => "RecoveringQuorum",
        Intent::Restore(_) => "Restoring",
        Intent::Defragment(_) => "Defragmenting",
        Intent::MakeRoom(_) => "MakingRoom",
        Intent::Compact { .. } => "Compacting",
        Intent::MoveLeader { .. } => "MovingLeader",
        Intent::DisarmAlarm => "DisarmingAlarm",
    }
}

/// What failed.
pub const FAILED: &str = "ActFailed";

/// An event about a cluster.
#[must_use]
pub fn build(cluster: &Value, reason: &str, warning: bool, note: &str, me: &str, clock: &impl Clock) -> Value {
    let (namespace, name) = (text(cluster, "/metadata/namespace"), text(cluster, "/metadata/name"));
    let time = serde_json::to_value(stamp(clock.now())).unwrap_or_default();
    let second = time.as_str().unwrap_or_default().trim_end_matches('Z').to_owned();
    let micros = clock.steady().as_micros();
    // 1,024 bytes are allowed.
    let note: String = note.chars().take(500).collect();
    json!({
        "apiVersion": Kind::Event.api_version(),
        "kind": "Event",
        "metadata": {"namespace": namespace, "name": format!("{name}.{:x}.{micros:x}", clock.now().0)},
        "eventTime": format!("{second}.{:06}Z", micros % 1_000_000),
        "reportingController": "keepstone.io/operator",
        "reportingInstance": me,
        "action": reason,
        "reason": reason,
        "type": if warning { "Warning" } else { "Normal" },
        "note": note,
        "regarding": {
            "apiVersion": Kind::Cluster.api_version(),
            "kind": "EtcdCluster",
            "namespace": namespace,
            "name": name,
            "uid": uid(cluster),
            "resourceVersion": version(cluster),
        },
    })
}
