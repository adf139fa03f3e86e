//! Carries one act out. Each is decided on what a look saw, and goes out with it: a UID, a resource version, so that it
//! fails on anything that has come by since. That what is asked for is so already is success.

mod backups;
mod certificates;
mod orders;
mod workload;

pub use orders::tell;

use keepstone_operator_plan::act::{Act, Permit, PermitKind};
use keepstone_operator_plan::ids::{Ordinal, Time};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api::{Api, ApiError, Deletion, uid, version};
use super::clock::Clock;
use super::kind::Kind;
use super::look::members::voters;
use super::look::{Look, at, objects as around};
use super::members::{Change, Failure, Members, Target};
use super::write::{put, wanted};
use crate::objects::client_service::{self, Door};
use crate::objects::disruption_budget;
use crate::objects::permit::{self, Action};
use crate::pki::{self, KeySource};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Member(#[from] Failure),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// What it is about is not there any more.
    #[error("{0} is gone")]
    Gone(&'static str),
    #[error("no member that could do it answers")]
    Nobody,
}

type Done = Result<(), ActError>;

/// Who carries out, and with what.
pub struct Hands<'a, A, M> {
    pub api: &'a A,
    pub members: &'a M,
    pub look: &'a Look,
    /// When it was decided.
    pub now: Time,
    pub clock: &'a dyn Clock,
    pub keys: &'a Mutex<Box<dyn KeySource + Send>>,
}

impl<A: Api, M: Members> Hands<'_, A, M> {
    /// # Errors
    /// It was not done, or nobody knows.
    pub async fn act(&self, act: &Act) -> Done {
        match act {
            // Those are in status, and written with it.
            Act::RecordIntent(_) | Act::CloseIntent { .. } | Act::Latch { .. } => Ok(()),
            Act::ApplyObjects => self.apply_objects().await,
            Act::ApplyBudget { min_available } => self.budget(*min_available).await,
            Act::OpenClientService { open } => self.door(*open).await,
            Act::ApplyWorkload { replicas, template, .. } => self.apply_workload(*replicas, template).await,
            Act::SetReplicas { uid, from, to } => self.set_replicas(uid, *from, *to).await,
            Act::DeleteWorkload { uid, orphan } => {
                let how = Deletion { orphan: *orphan, ..Deletion::default() };
                self.delete(Kind::StatefulSet, &self.look.blueprint.names.main(), &uid.0, how).await
            }
            Act::GrantPermit(permit) => self.grant(permit).await,
            Act::RevokePermit { nonce } => self.revoke(*nonce).await,
            Act::SetFence(places) => self.set_fence(places).await,
            Act::Fill(permit) => self.fill(permit).await,
            Act::DeletePod { ordinal, uid, force } => {
                let how = Deletion { force: *force, ..Deletion::default() };
                self.delete(Kind::Pod, &self.look.blueprint.names.pod(*ordinal), &uid.0, how).await
            }
            Act::DeleteClaim { ordinal, uid } => self.delete_claim(*ordinal, &uid.0).await,
            Act::MarkClaimLeft { ordinal, uid, member } => self.mark_left(*ordinal, &uid.0, *member).await,
            Act::GrowClaim { ordinal, uid, bytes } => self.grow(*ordinal, &uid.0, *bytes).await,
            Act::RemoveFinalizer => self.let_go().await,
            Act::MemberAdd { .. }
            | Act::MemberPromote { .. }
            | Act::MemberRemove { .. }
            | Act::MoveLeader { .. }
            | Act::Compact { .. }
            | Act::Defragment { .. }
            | Act::Disarm { .. } => self.change(act).await,
            Act::Save { seq, ordinal, claim } => self.save(*seq, *ordinal, claim).await,
            Act::CreateCa { next } => self.create_ca(*next).await,
            Act::PublishBundle { cas } => self.publish(cas).await,
            Act::IssueLeaf { surface, ca } => self.issue(*surface, ca).await,
            Act::SwitchCa { to } => self.switch(to).await,
            Act::Stamp { job, at } => self.stamp(job, *at).await,
            Act::FinishRequest { uid, outcome } => self.finish(&uid.0, outcome).await,
            Act::StartBackup { from, purpose } => self.start_backup(*from, purpose).await,
            Act::DeleteBackup { uid } => self.delete_backup(uid).await,
        }
    }

    fn live(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.look.objects.get(kind, name)
    }

    /// The object that was seen, if it is that one.
    fn same(&self, kind: Kind, name: &str, id: &str) -> Result<&Value, ActError> {
        let found = self.live(kind, name).filter(|live| uid(live) == id);
        found.ok_or(ActError::Gone(kind.words().kind))
    }

    async fn delete(&self, kind: Kind, name: &str, id: &str, how: Deletion) -> Done {
        let live = self.same(kind, name, id)?;
        let how = Deletion { uid: Some(id.to_owned()), version: Some(version(live).to_owned()), ..how };
        Ok(self.api.delete(kind, &at(&self.look.blueprint, name), &how).await?)
    }

    async fn put(&self, kind: Kind, name: &str, object: &Value) -> Done {
        put(self.api, kind, object, self.live(kind, name)).await?;
        Ok(())
    }

    /// All of them, whichever can't be applied: a PodMonitor, say, where nobody has that kind.
    async fn apply_objects(&self) -> Done {
        let mut done = Ok(());
        for (kind, object) in around::drifted(&self.look.blueprint, &self.look.objects) {
            let name = super::write::name(&object).name;
            if let Some(place) = self.live(kind, &name).and_then(|live| super::write::drift(&object, live)) {
                tracing::info!(%kind, name, place, "an object is not as it should be");
            }
            done = done.and(self.put(kind, &name, &object).await);
        }
        for (kind, object) in around::superfluous(&self.look.blueprint, &self.look.objects) {
            let name = super::write::name(object).name;
            done = done.and(self.delete(kind, &name, uid(object), Deletion::default()).await);
        }
        done
    }

    async fn budget(&self, min_available: Option<u32>) -> Done {
        let b = &self.look.blueprint;
        let name = b.names.main();
        match (min_available, self.live(Kind::Budget, &name)) {
            (Some(number), _) => self.put(Kind::Budget, &name, &wanted(&disruption_budget::build(b, number))).await,
            (None, Some(live)) => self.delete(Kind::Budget, &name, uid(live), Deletion::default()).await,
            (None, None) => Ok(()),
        }
    }

    async fn door(&self, open: bool) -> Done {
        let b = &self.look.blueprint;
        let door = if open { Door::Open } else { Door::Shut };
        self.put(Kind::Service, &b.names.client(), &wanted(&client_service::build(b, door))).await
    }

    async fn grant(&self, permit: &Permit) -> Done {
        let b = &self.look.blueprint;
        let action = match permit.kind {
            PermitKind::Found => Action::Found,
            // The backup is on the volume by now.
            PermitKind::ForceNew | PermitKind::FoundFrom(_) => Action::ForceNewClusterId,
        };
        let written = permit::Permit {
            action,
            ordinal: permit.ordinal,
            pod: permit.pod.clone(),
            claim: permit.claim.clone(),
            directory: None,
            nonce: permit.nonce,
        };
        self.put(Kind::ConfigMap, &b.names.permit(), &wanted(&permit::build(b, &written))).await?;
        let Some(pod) = &permit.pod else { return Ok(()) };
        // Without it the permit is read a minute later; so nothing hangs on it.
        let nudge = serde_json::to_value(permit::nudge(b, permit.ordinal, pod, permit.nonce)).unwrap_or_default();
        let patch = json!({"metadata": {"uid": uid(&nudge), "annotations": nudge["metadata"]["annotations"]}});
        if let Err(why) = self.api.merge(Kind::Pod, &at(b, &b.names.pod(permit.ordinal)), false, &patch).await {
            tracing::info!(%why, "the pod was not told of its permit");
        }
        Ok(())
    }

    async fn revoke(&self, nonce: keepstone_operator_plan::ids::Nonce) -> Done {
        let name = self.look.blueprint.names.permit();
        let held = self.look.observed.permit.known().and_then(Option::as_ref);
        match self.live(Kind::ConfigMap, &name) {
            Some(live) if held.is_some_and(|held| held.nonce == nonce) => {
                self.delete(Kind::ConfigMap, &name, uid(live), Deletion::default()).await
            }
            _ => Err(ActError::Gone("the permit")),
        }
    }

    async fn change(&self, act: &Act) -> Done {
        let observed = &self.look.observed;
        let asked = match act {
            Act::MoveLeader { from, .. } => vec![*from],
            Act::Defragment { ordinal } => vec![*ordinal],
            _ => voters(&observed.answers, observed.cluster.cluster_id),
        };
        let target = asked.first().and_then(|n| self.target(*n)).ok_or(ActError::Nobody)?;
        let b = &self.look.blueprint;
        let change = match act {
            Act::MemberAdd { ordinal } => Change::Add { peer_url: b.names.peer_url(b.scheme(), *ordinal) },
            Act::MemberPromote { id } => Change::Promote { id: *id },
            Act::MemberRemove { id } => Change::Remove { id: *id },
            Act::MoveLeader { to, .. } => Change::MoveLeader { to: *to },
            Act::Compact { revision } => Change::Compact { revision: *revision },
            Act::Defragment { .. } => Change::Defragment,
            Act::Disarm { id, alarm } => Change::Disarm { id: *id, alarm: *alarm },
            _ => return Err(ActError::Gone("the change")),
        };
        Ok(self.members.change(target, &change).await?)
    }

    fn target(&self, ordinal: Ordinal) -> Option<&Target> {
        self.look.targets.get(&ordinal)
    }

    /// Nothing of ours holds the object any more.
    async fn let_go(&self) -> Done {
        let cluster = &self.look.objects.cluster;
        let all = cluster.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        let rest: Vec<_> = all.into_iter().filter(|one| one != super::pass::FINALIZER).collect();
        let patch = json!({
            "metadata": {"uid": uid(cluster), "resourceVersion": version(cluster), "finalizers": rest},
        });
        let name = super::write::name(cluster);
        self.api.merge(Kind::Cluster, &name, false, &patch).await?;
        Ok(())
    }
}
