//! An `EtcdOperation` as the verb the planner carries out.

use std::collections::BTreeSet;

use keepstone_operator_api::Reason;
use keepstone_operator_api::operation::{Alarm, EtcdOperationSpec};
use keepstone_operator_api::policy::Keep;
use keepstone_operator_plan::act;
use keepstone_operator_plan::ids::{ClusterId, Ordinal, Revision};
use keepstone_operator_plan::operation::Verb;

use super::Unclear;
use super::desired::{rule, source};
use super::text::{number, ordinal};

/// Why an order is rejected before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error(transparent)]
    Unclear(#[from] Unclear),
    #[error("{0}")]
    NoMember(Unclear),
    #[error("confirm is {0:?}, and has to be the cluster's name, a slash and its ID")]
    Confirmation(String),
    #[error("the EtcdBackup {0} is not there, or not complete; nothing was touched")]
    Backup(String),
    /// Nobody knows yet which revision that is; the order can wait.
    #[error("which revision to compact is not known yet")]
    RevisionUnknown,
}

impl Rejected {
    /// What its condition says.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unclear(_) => Reason::InvalidSpec,
            Self::NoMember(_) => Reason::MemberNotFound,
            Self::Confirmation(_) => Reason::WrongConfirmation,
            Self::Backup(_) => Reason::BackupNotFound,
            Self::RevisionUnknown => Reason::ClusterNotReady,
        }
    }
}

/// What status calls the verb.
#[must_use]
pub fn name(order: &EtcdOperationSpec) -> Option<&'static str> {
    let given = [
        (order.defragment.is_some(), "defragment"),
        (order.compact.is_some(), "compact"),
        (order.move_leader.is_some(), "moveLeader"),
        (order.replace_member.is_some(), "replaceMember"),
        (order.recover_quorum.is_some(), "recoverQuorum"),
        (order.disarm_alarm.is_some(), "disarmAlarm"),
        (order.restart_members.is_some(), "restartMembers"),
        (order.restore.is_some(), "restore"),
    ];
    let mut names = given.iter().filter(|(there, _)| *there).map(|(_, name)| *name);
    names.next().filter(|_| names.next().is_none())
}

/// Reads an order. `revision` says up to where to compact so that this is kept, or nothing while that can't be known.
///
/// # Errors
/// It can't be carried out whatever becomes of the cluster, but for [`Rejected::RevisionUnknown`].
pub fn read(order: &EtcdOperationSpec, revision: impl Fn(&Keep) -> Option<Revision>) -> Result<Verb, Rejected> {
    let cluster = &order.cluster_ref.name;
    let member = |field, pod: &str| ordinal(field, cluster, pod).map_err(Rejected::NoMember);
    let members =
        |field, pods: &[String]| pods.iter().map(|pod| member(field, pod)).collect::<Result<BTreeSet<_>, _>>();
    if name(order).is_none() {
        return Err(Unclear::new("spec", "there has to be exactly one verb").into());
    }
    if let Some(it) = &order.defragment {
        let rule = it.rule.as_ref().map(|asked| rule("spec.defragment.rule", asked)).transpose()?;
        return Ok(Verb::Defragment { members: members("spec.defragment.members", &it.members)?, rule });
    }
    if let Some(it) = &order.compact {
        let kept = it.keep.as_ref().and_then(revision);
        let revision = it.revision.map(Revision).or(kept).ok_or(Rejected::RevisionUnknown)?;
        return Ok(Verb::Compact { revision });
    }
    if let Some(it) = &order.move_leader {
        let to = it.to.as_deref().map(|pod| member("spec.moveLeader.to", pod)).transpose()?;
        return Ok(Verb::MoveLeader { to });
    }
    if let Some(it) = &order.replace_member {
        return Ok(Verb::ReplaceMember { ordinal: member("spec.replaceMember.member", &it.member)? });
    }
    if let Some(it) = &order.recover_quorum {
        let survivor = member("spec.recoverQuorum.survivor", &it.survivor)?;
        return Ok(Verb::RecoverQuorum { survivor, confirm: confirmed(cluster, &it.confirm)? });
    }
    if let Some(it) = &order.disarm_alarm {
        let named = it.member.as_deref().map(|pod| member("spec.disarmAlarm.member", pod)).transpose()?;
        let alarm = match it.alarm {
            Alarm::NoSpace => act::Alarm::NoSpace,
            Alarm::Corrupt => act::Alarm::Corrupt,
        };
        return Ok(Verb::DisarmAlarm { alarm, member: named });
    }
    if let Some(it) = &order.restart_members {
        return Ok(Verb::RestartMembers { members: members("spec.restartMembers.members", &it.members)? });
    }
    let it = order.restore.as_ref().ok_or_else(|| Unclear::new("spec", "there is no verb"))?;
    Ok(Verb::Restore {
        source: source(&it.restore),
        save: it.snapshot_current_first,
        confirm: confirmed(cluster, &it.confirm)?,
    })
}

/// The ID in `NAME/ID`, of a cluster of that name.
fn confirmed(cluster: &str, text: &str) -> Result<ClusterId, Rejected> {
    let id = text.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('/'));
    let id = id.and_then(|id| number("confirm", id).ok());
    id.map(ClusterId).ok_or_else(|| Rejected::Confirmation(text.to_owned()))
}

/// A pod of a cluster; for those who write orders.
#[must_use]
pub fn member_name(cluster: &str, ordinal: Ordinal) -> String {
    super::text::pod(cluster, ordinal)
}

#[cfg(test)]
mod tests {
    use keepstone_operator_plan::desired::Rule;
    use serde_json::{Value, json};

    use super::*;

    fn ask(verb: &str, with: Value) -> Result<Verb, Rejected> {
        let order =
            serde_json::from_value(json!({"clusterRef": {"name": "main"}, verb: with})).expect("the schema takes it");
        read(&order, |keep| keep.revisions.map(|kept| Revision(1000 - kept)))
    }

    #[test]
    fn each_verb_is_read() {
        let both = BTreeSet::from([Ordinal(0), Ordinal(2)]);
        let rule = Rule { free_above: 1 << 30, quota_percent: 50, min_reclaim: 1 << 20 };
        let asked = json!({"freeSpaceAbove": "1Gi", "quotaUsageAbove": "50%", "minReclaim": "1Mi"});
        let confirm = ClusterId(0xcdf8);
        for (verb, with, wanted) in [
            ("defragment", json!({}), Verb::Defragment { members: BTreeSet::new(), rule: None }),
            (
                "defragment",
                json!({"members": ["main-2", "main-0"], "rule": asked}),
                Verb::Defragment { members: both.clone(), rule: Some(rule) },
            ),
            ("compact", json!({"revision": 7}), Verb::Compact { revision: Revision(7) }),
            ("compact", json!({"keep": {"revisions": 10}}), Verb::Compact { revision: Revision(990) }),
            ("moveLeader", json!({}), Verb::MoveLeader { to: None }),
            ("moveLeader", json!({"to": "main-1"}), Verb::MoveLeader { to: Some(Ordinal(1)) }),
            ("replaceMember", json!({"member": "main-1"}), Verb::ReplaceMember { ordinal: Ordinal(1) }),
            (
                "recoverQuorum",
                json!({"survivor": "main-1", "confirm": "main/cdf8"}),
                Verb::RecoverQuorum { survivor: Ordinal(1), confirm },
            ),
            (
                "disarmAlarm",
                json!({"alarm": "NOSPACE"}),
                Verb::DisarmAlarm { alarm: act::Alarm::NoSpace, member: None },
            ),
            (
                "disarmAlarm",
                json!({"alarm": "CORRUPT", "member": "main-1"}),
                Verb::DisarmAlarm { alarm: act::Alarm::Corrupt, member: Some(Ordinal(1)) },
            ),
            ("restartMembers", json!({"members": ["main-2", "main-0"]}), Verb::RestartMembers { members: both }),
        ] {
            assert_eq!(ask(verb, with.clone()), Ok(wanted), "{verb} {with}");
        }
    }

    #[test]
    fn a_restore_comes_back_whole() {
        let asked = json!({
            "from": {"object": {"store": {"s3": {"bucket": "etcd"}}, "key": "a/b.db"}},
            "bumpRevision": 5, "markCompacted": false, "confirm": "main/1",
            "snapshotCurrentFirst": false,
        });
        let Ok(Verb::Restore { source, save, confirm }) = ask("restore", asked) else { panic!("it is an order") };
        let restore = super::super::desired::source_of(&source).expect("we wrote it");
        assert_eq!((restore.bump_revision, restore.mark_compacted, save, confirm), (5, false, false, ClusterId(1)));
        assert_eq!(restore.from.object.map(|object| object.key).as_deref(), Some("a/b.db"));
    }

    #[test]
    fn an_order_for_others_is_rejected() {
        for (verb, with, reason) in [
            ("replaceMember", json!({"member": "other-1"}), Reason::MemberNotFound),
            ("recoverQuorum", json!({"survivor": "main-1", "confirm": "other/cdf8"}), Reason::WrongConfirmation),
            ("recoverQuorum", json!({"survivor": "main-1", "confirm": "main-a/cdf8"}), Reason::WrongConfirmation),
            ("recoverQuorum", json!({"survivor": "main-1", "confirm": "main/"}), Reason::WrongConfirmation),
            ("recoverQuorum", json!({"survivor": "main-1", "confirm": "main/zz"}), Reason::WrongConfirmation),
            ("compact", json!({"keep": {"duration": "1h"}}), Reason::ClusterNotReady),
        ] {
            assert_eq!(ask(verb, with.clone()).map_err(|why| why.reason()), Err(reason), "{verb} {with}");
        }
    }

    #[test]
    fn two_verbs_and_none_are_no_order() {
        for order in [json!({}), json!({"moveLeader": {}, "defragment": {}})] {
            let mut order = order;
            order["clusterRef"] = json!({"name": "main"});
            let order: EtcdOperationSpec = serde_json::from_value(order).expect("the schema takes it");
            assert_eq!(read(&order, |_| None).map_err(|why| why.reason()), Err(Reason::InvalidSpec));
        }
    }
}
