//! One pass over one cluster: look, plan, write down, act, at most once.
//!
//! What is meant is in status before it is done. What destroys is looked at again first, past every cache, and done only if it
//! is still what would be planned. Any call may be the last of this process; the next pass, of this process or another,
//! finishes or undoes what this one left.

use std::sync::Arc;
use std::time::Duration;

use keepstone_operator_api::Reason;
use keepstone_operator_api::operation::OperationPhase;
use keepstone_operator_plan::act::Act;
use keepstone_operator_plan::ids::{Nonce, Time};
use keepstone_operator_plan::observed::{Phase, Seen};
use keepstone_operator_plan::{Plan, backup_source, plan};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::act::{ActError, Hands, tell};
use super::api::{Api, ApiError, Deletion, Fresh, text, typed, uid, version};
use super::clock::Clock;
use super::kind::{Kind, Name};
use super::look::{Blind, Given, Look, look};
use super::members::{Failure, Members};
use super::memory::Memory;
use super::{backups, event, status, strays, words};
use crate::Settings;
use crate::pki::KeySource;

/// Keeps an `EtcdCluster` until what belongs to it is seen to.
pub const FINALIZER: &str = "keepstone.io/operator";

/// Numbers alone are written to status so often.
const NUMBERS: u64 = 60;
/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Where what must not repeat comes from.
pub struct Sources {
    pub keys: Mutex<Box<dyn KeySource + Send>>,
    pub nonce: Mutex<Box<dyn FnMut() -> u64 + Send>>,
}

/// What is never left out. The simulation leaves it out to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Looks again before it destroys.
    pub looks_again: bool,
    /// Writes down what it means before it does it.
    pub writes_first: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { looks_again: true, writes_first: true }
    }
}

pub struct Controller<A, M, C> {
    pub api: A,
    pub members: M,
    pub clock: Arc<C>,
    pub settings: Settings,
    pub sources: Sources,
    /// This process, as events name it.
    pub me: String,
    pub habits: Habits,
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// There is no such cluster.
    Never,
    Now,
    In(Duration),
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub again: Again,
    pub act: Option<Act>,
    /// Why the act was not done.
    pub failed: Option<String>,
    pub look: Option<Arc<Look>>,
}

impl Report {
    fn only(again: Again) -> Self {
        Self { again, act: None, failed: None, look: None }
    }
}

impl PartialEq for Look {
    fn eq(&self, other: &Self) -> bool {
        self.observed == other.observed && self.desired == other.desired
    }
}

impl<A: Api, M: Members, C: Clock> Controller<A, M, C> {
    /// # Errors
    /// The cluster can't be read at all. To be tried again later.
    pub async fn pass(&self, name: &Name, memory: &mut Memory) -> Result<Report, Blind> {
        let Some(object) = self.api.get(Kind::Cluster, name).await? else {
            let again = strays::see_to(&self.api, name, &self.settings.agent, self.clock.now()).await?;
            return Ok(Report::only(again));
        };
        if let Some(report) = self.hold(&object).await? {
            return Ok(report);
        }
        let now = self.clock.now();
        let nonce = Nonce((self.sources.nonce.lock())());
        let mut look = match self.look(object.clone(), Fresh::Cached, now, nonce, memory).await {
            Err(Blind::Spec(why)) => return self.unreadable(&object, &why, now).await,
            look => look?,
        };
        self.orders(&look, now).await;
        self.backups(&look, now).await;
        let plan = plan(&look.observed, &look.desired, now);
        self.queue(&look, &plan, now).await;
        if !self.habits.writes_first && matches!(plan.act, Some(Act::RecordIntent(_))) {
            return self.rashly(look, plan, now, memory).await;
        }
        // What gives a cluster up is decided on claims and pods as they are, not as a cache has them.
        if let Some(act) = plan.act.as_ref().filter(|act| act.gives_up() && self.habits.looks_again) {
            match self.again(&look, act, now, nonce, memory).await? {
                Some(fresh) => look = fresh,
                None => return Ok(Report::only(Again::In(Duration::from_secs(1)))),
            }
        }
        if let Err(why) = self.write(&mut look, &plan, now, memory).await {
            tracing::info!(cluster = %name, %why, "status was not written");
            memory.tried.forget();
            let failed = Some(why.to_string());
            return Ok(Report { again: Again::In(PAUSE), act: None, failed, look: Some(Arc::new(look)) });
        }
        self.carry_out(look, plan, now, nonce, memory).await
    }

    async fn look(
        &self,
        object: Value,
        fresh: Fresh,
        now: Time,
        nonce: Nonce,
        memory: &mut Memory,
    ) -> Result<Look, Blind> {
        let keep = &memory.revisions;
        let given = Given { settings: &self.settings, now, nonce, echo: memory.tried.lately(now), keep };
        let look = look(&self.api, &self.members, object, fresh, &given).await?;
        if let Some(revision) = look.observed.answers.values().map(|answer| answer.revision).max() {
            memory.revisions.note(now, revision);
        }
        Ok(look)
    }

    /// Sees to the finalizer, and stops where there is nothing to do.
    async fn hold(&self, object: &Value) -> Result<Option<Report>, ApiError> {
        let deleting = object.pointer("/metadata/deletionTimestamp").is_some();
        let all = object.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        match (deleting, all.iter().any(|one| one == FINALIZER)) {
            (_, true) => Ok(None),
            (true, false) => Ok(Some(Report::only(Again::Never))),
            (false, false) => {
                let finalizers: Vec<_> = all.into_iter().chain([json!(FINALIZER)]).collect();
                let patch = json!({
                    "metadata": {"uid": uid(object), "resourceVersion": version(object), "finalizers": finalizers},
                });
                self.api.merge(Kind::Cluster, &super::write::name(object), false, &patch).await?;
                Ok(Some(Report::only(Again::Now)))
            }
        }
    }

    async fn unreadable(&self, object: &Value, why: &str, now: Time) -> Result<Report, Blind> {
        let cluster: keepstone_operator_api::EtcdCluster = typed(object)?;
        let generation = cluster.metadata.generation.unwrap_or_default();
        let new = status::unreadable(&cluster.status.unwrap_or_default(), generation, why, now);
        if let Some(patch) = status::patch(object, &new, true) {
            self.api.merge(Kind::Cluster, &super::write::name(object), true, &patch).await?;
        }
        let failed = Some(why.to_owned());
        Ok(Report { failed, ..Report::only(Again::In(Duration::from_secs(30))) })
    }

    /// Orders: those that can't be carried out are told so, the one that is under way too, and those whose time is over
    /// go. Nothing waits for any of it.
    async fn orders(&self, look: &Look, now: Time) {
        for one in &look.rejected {
            let id = one.order.metadata.uid.as_deref().unwrap_or_default();
            let Some(live) = look.objects.of(Kind::Operation).find(|order| uid(order) == id) else { continue };
            let (phase, why) = (OperationPhase::Rejected, one.why.to_string());
            self.log(tell(&self.api, live, phase, one.why.reason(), &why, now).await);
        }
        let under_way = look.observed.cluster.operation.as_ref().and_then(|operation| operation.request.as_ref());
        let waits = |id: &&keepstone_operator_plan::ids::Uid| {
            let requests = look.observed.requests.known();
            requests.is_some_and(|all| all.iter().any(|one| one.uid == **id && one.phase == Phase::Pending))
        };
        if let Some(id) = under_way.filter(waits)
            && let Some(live) = look.objects.of(Kind::Operation).find(|order| uid(order) == &*id.0)
        {
            self.log(tell(&self.api, live, OperationPhase::Running, Reason::Running, "", now).await);
        }
        let over = look.objects.of(Kind::Operation).find(|order| expired(order, now));
        if let Some(order) = over {
            let how = Deletion { uid: Some(uid(order).to_owned()), ..Deletion::default() };
            self.log(self.api.delete(Kind::Operation, &super::write::name(order), &how).await);
        }
    }

    /// Orders that are new, while another thing is done.
    async fn queue(&self, look: &Look, plan: &Plan, now: Time) {
        let Some(operation) = &look.observed.cluster.operation else { return };
        let ends = |id| matches!(&plan.act, Some(Act::FinishRequest { uid, .. }) if uid == id);
        let new = look.observed.requests.known().into_iter().flatten().filter(|one| one.phase == Phase::Pending);
        for request in new.filter(|one| operation.request.as_ref() != Some(&one.uid) && !ends(&one.uid)) {
            let live = look.objects.of(Kind::Operation).find(|order| uid(order) == &*request.uid.0);
            if let Some(live) = live.filter(|order| text(order, "/status/phase").is_empty()) {
                self.log(tell(&self.api, live, OperationPhase::Pending, Reason::Queued, "", now).await);
            }
        }
    }

    /// Backups: those that wait are taken, those that are done told so. Nothing waits for any of it.
    async fn backups(&self, look: &Look, now: Time) {
        for record in look.objects.of(Kind::Backup) {
            let step = match backups::step(record, &look.objects, now) {
                Ok(step) => step,
                Err(why) => {
                    tracing::warn!(%why, "an EtcdBackup can't be read");
                    continue;
                }
            };
            let done = if step == backups::Step::Take {
                self.take(look, record, now).await
            } else {
                let agent = &self.settings.agent;
                backups::carry_out(&self.api, record, &step, agent, &look.objects, now).await.map_err(ActError::from)
            };
            if let Err(why) = done {
                tracing::info!(backup = text(record, "/metadata/name"), ?step, %why, "not done");
            }
        }
    }

    /// As long as no member is well enough, a backup waits.
    async fn take(&self, look: &Look, record: &Value, now: Time) -> Result<(), ActError> {
        let waits = look.observed.cluster.deleting || look.observed.cluster.cluster_id.is_none();
        let source = backup_source(&look.observed, &look.desired, now).filter(|_| !waits);
        let Some(from) = source else { return Ok(()) };
        let hands = self.hands(look, now);
        hands.take(record, from).await
    }

    fn log(&self, result: Result<(), ApiError>) {
        if let Err(why) = result {
            tracing::info!(%why, "an EtcdOperation was not written");
        }
    }

    /// Writes status, and with it the acts that are in status alone.
    async fn write(&self, look: &mut Look, plan: &Plan, now: Time, memory: &mut Memory) -> Result<(), ApiError> {
        let in_vain = memory.futile.told(&look.blueprint.names, now);
        let new = status::next(look, plan, &in_vain, now);
        let numbers = memory.numbers.is_none_or(|last| now.since(last).0 >= NUMBERS);
        let Some(patch) = status::patch(&look.objects.cluster, &new, numbers) else { return Ok(()) };
        let name = super::write::name(&look.objects.cluster);
        look.objects.cluster = self.api.merge(Kind::Cluster, &name, true, &patch).await?;
        memory.numbers = Some(now);
        Ok(())
    }

    async fn carry_out(
        &self,
        look: Look,
        plan: Plan,
        now: Time,
        nonce: Nonce,
        memory: &mut Memory,
    ) -> Result<Report, Blind> {
        let Some(act) = plan.act else {
            memory.tried.forget();
            let again = Again::In(Duration::from_secs(plan.again.0));
            return Ok(Report { look: Some(Arc::new(look)), ..Report::only(again) });
        };
        let mut look = look;
        // How large a StatefulSet is made says which members stay.
        let makes = matches!(act, Act::ApplyWorkload { .. }) && look.observed.workload == Seen::Known(None);
        if (act.destroys() || makes) && self.habits.looks_again {
            match self.again(&look, &act, now, nonce, memory).await? {
                Some(fresh) => look = fresh,
                None => {
                    memory.tried.forget();
                    return Ok(Report::only(Again::In(Duration::from_secs(1))));
                }
            }
        }
        let hands = self.hands(&look, now);
        let done = hands.act(&act).await;
        self.announce(&look, &act, &done, memory).await;
        // What was done just now and is due again did not help, whatever was answered.
        let anew = memory.tried.note(&act, done.is_ok(), now);
        memory.futile.note(&act, &done, now);
        let again = match &done {
            Ok(()) if anew => Again::Now,
            Ok(()) => Again::In(PAUSE),
            Err(_) => Again::In(PAUSE.max(Duration::from_secs(plan.again.0))),
        };
        let failed = done.err().map(|why| why.to_string());
        Ok(Report { again, act: Some(act), failed, look: Some(Arc::new(look)) })
    }

    fn hands<'a>(&'a self, look: &'a Look, now: Time) -> Hands<'a, A, M> {
        let (api, members, keys) = (&self.api, &self.members, &self.sources.keys);
        Hands { api, members, look, now, keys, clock: &*self.clock }
    }

    /// What there is now, past every cache, if the same is to be done after it.
    async fn again(
        &self,
        before: &Look,
        act: &Act,
        now: Time,
        nonce: Nonce,
        memory: &mut Memory,
    ) -> Result<Option<Look>, Blind> {
        let name = super::write::name(&before.objects.cluster);
        let Some(object) = self.api.get(Kind::Cluster, &name).await? else { return Ok(None) };
        if version(&object) != version(&before.objects.cluster) {
            return Ok(None);
        }
        let look = self.look(object, Fresh::Now, now, nonce, memory).await?;
        let same = plan(&look.observed, &look.desired, now).act.as_ref() == Some(act);
        Ok(same.then_some(look))
    }

    async fn announce(&self, look: &Look, act: &Act, done: &Result<(), ActError>, memory: &mut Memory) {
        let (cluster, names) = (&look.objects.cluster, &look.blueprint.names);
        let name = super::write::name(cluster);
        let (reason, warning, note) = match done {
            Ok(()) => {
                tracing::info!(cluster = %name, ?act, "done");
                let Some(reason) = event::reason(act) else { return };
                (reason, false, words::act(act, names))
            }
            Err(why) => {
                tracing::warn!(cluster = %name, ?act, %why, "not done");
                // That a learner or the rest are not ready yet is no news, and who does not lead has none to tell.
                let quiet = matches!(act, Act::MemberPromote { .. } | Act::MemberAdd { .. })
                    && matches!(why, ActError::Member(Failure::Refused(_)))
                    || matches!(why, ActError::Api(ApiError::NotLeading));
                if quiet {
                    return;
                }
                (event::FAILED, true, format!("{}: {why}", words::act(act, names)))
            }
        };
        let said = format!("{reason}: {note}");
        if memory.told.as_ref() == Some(&said) {
            return;
        }
        memory.told = Some(said);
        let object = event::build(cluster, reason, warning, &note, &self.me, &*self.clock);
        if let Err(why) = self.api.create(Kind::Event, &object).await {
            tracing::info!(cluster = %name, %why, "an event was not written");
        }
    }

    /// Acts first and writes afterwards, as no operator should.
    async fn rashly(&self, mut look: Look, plan_: Plan, now: Time, memory: &mut Memory) -> Result<Report, Blind> {
        let Some(Act::RecordIntent(operation)) = &plan_.act else { return Ok(Report::only(Again::Now)) };
        let mut meant = look.clone();
        meant.observed.cluster.operation = Some(operation.clone());
        meant.observed.cluster.seq = operation.seq;
        if let Some(act) = plan(&meant.observed, &meant.desired, now).act.filter(|act| !status::is_own(act)) {
            let hands = self.hands(&meant, now);
            if let Err(why) = hands.act(&act).await {
                tracing::info!(?act, %why, "not done");
            }
        }
        let written = self.write(&mut look, &plan_, now, memory).await;
        memory.tried.forget();
        let failed = written.err().map(|why| why.to_string());
        Ok(Report { again: Again::Now, act: plan_.act, failed, look: None })
    }
}

/// Whether its time after its end is over.
pub(super) fn expired(order: &Value, now: Time) -> bool {
    let finished = order.pointer("/status/finishedAt").cloned().unwrap_or_default();
    let finished: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> = serde_json::from_value(finished).ok();
    let ttl = order.pointer("/spec/ttlSecondsAfterFinished").and_then(Value::as_u64).unwrap_or(7 * 24 * 3600);
    let deleting = !text(order, "/metadata/deletionTimestamp").is_empty();
    finished.is_some_and(|at| now.since(crate::convert::text::time(&at)).0 >= ttl) && !deleting
}
