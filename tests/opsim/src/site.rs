//! The API server in memory, and the world behind it. What is written here becomes an act in the world, which says what
//! must never be.

mod end;
mod jobs;
mod tls;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use keepstone_operator::controller::api::{ApiError, Deletion, text, uid, version};
use keepstone_operator::controller::kind::{Kind, Name};
use keepstone_operator::objects::fence;
use keepstone_operator::objects::permit::{self, Action};
use keepstone_operator_plan::act::{Act, Permit, PermitKind};
use keepstone_operator_plan::ids::{Ordinal, Uid};
use keepstone_operator_plan::observed::Observed;
use keepstone_operator_world::kube::{Kind as Made, workload_uid};
use keepstone_operator_world::{Blind, Done, World};
use serde_json::{Map, Value, json};

use crate::flavour::Flavour;
use crate::render::{self, CLUSTER, NAMESPACE, OWNER};
use crate::rng::Rng;
use jobs::Job;
pub use tls::Tls;

pub type Objects = BTreeMap<(Kind, String), Arc<Value>>;

/// How many states a list may be behind.
const PAST: usize = 6;

pub struct Site {
    pub world: World,
    pub rng: Rng,
    /// Since the beginning.
    pub micros: u64,
    /// Parts of a thousand: calls that are lost, lists that are behind.
    pub lost: u64,
    pub behind: u64,
    /// What must never be, and was.
    pub broken: Option<String>,
    /// What happened, for whoever wants to know.
    pub trail: Vec<String>,
    /// Changes of the world so far that were nobody's act.
    pub tick: u64,
    /// When each operator last read the `EtcdCluster`: the tick, and how often others had acted.
    looked: BTreeMap<u8, (u64, u64)>,
    /// How often each operator has acted.
    acted: BTreeMap<u8, u64>,
    /// Whether no resource version, UID or number of an operation is looked at.
    pub lax: bool,
    /// Whether a fence keeps nobody.
    pub unfenced: bool,
    /// What is mounted where, of a cluster with TLS.
    pub tls: Option<Tls>,
    /// What is in the spec besides what the world knows of.
    pub flavour: Flavour,
    jobs: BTreeMap<String, Job>,
    /// Pods and claims that are no member's.
    beside: BTreeMap<(Kind, String), Value>,
    /// The `EtcdCluster` is gone.
    pub gone: bool,
    objects: Objects,
    past: VecDeque<Objects>,
    versions: u64,
    made: u64,
    set: Value,
    hashes: BTreeMap<Made, String>,
    begun: u64,
}

impl Site {
    #[must_use]
    pub fn new(world: World, rng: Rng) -> Self {
        let begun = world.now;
        let mut site = Self {
            world,
            rng,
            micros: 0,
            lost: 0,
            behind: 0,
            broken: None,
            trail: Vec::new(),
            tick: 0,
            looked: BTreeMap::new(),
            acted: BTreeMap::new(),
            lax: false,
            unfenced: false,
            tls: None,
            flavour: Flavour::default(),
            jobs: BTreeMap::new(),
            beside: BTreeMap::new(),
            gone: false,
            objects: Objects::new(),
            past: VecDeque::new(),
            versions: 0,
            made: 0,
            set: Value::Null,
            hashes: BTreeMap::new(),
            begun,
        };
        site.objects.insert((Kind::Cluster, CLUSTER.to_owned()), Arc::new(Value::Null));
        site.sync();
        site
    }

    pub fn say(&mut self, what: impl Into<String>) {
        self.trail.push(format!("{:>8}.{:03} {}", self.micros / 1_000_000, self.micros / 1000 % 1000, what.into()));
    }

    pub fn pass_time(&mut self, micros: u64) {
        self.micros += micros;
        self.world.now = self.begun + self.micros / 1_000_000;
        if self.flavour.upkeep {
            self.world.revision = 1000 + i64::try_from(self.micros / 10_000_000).unwrap_or(0);
        }
        self.mount(None);
    }

    /// After anything has happened in the world that no operator did.
    pub fn changed(&mut self) {
        self.tick += 1;
        self.look_over();
    }

    fn look_over(&mut self) {
        if let Err(broken) = self.world.check() {
            self.broken.get_or_insert(broken.0);
        }
        self.sync();
        self.let_go();
        self.mount(None);
    }

    fn observed(&self) -> Observed {
        self.world.observe(&self.world.kube, Blind::Nothing, None)
    }

    /// Makes the objects say what the world is like.
    pub fn sync(&mut self) {
        let before = self.objects.clone();
        let mut now: BTreeMap<(Kind, String), Value> = BTreeMap::new();
        let o = self.observed();
        for (n, pod) in o.pods.known().into_iter().flatten() {
            let made = Made::of(&pod.template);
            let config = self.hashes.get(&made).cloned().unwrap_or_default();
            let over = self.world.kube.pods.get(&n.0).is_some_and(|pod| pod.over);
            let object = render::pod(*n, pod, &config, &render::version(made), over);
            now.insert((Kind::Pod, render::names().pod(*n)), object);
        }
        for (n, claim) in o.claims.known().into_iter().flatten() {
            now.insert((Kind::Claim, render::names().claim(*n)), render::claim(*n, claim));
        }
        for request in &self.world.requests {
            now.insert((Kind::Operation, request.name.to_string()), render::order(request));
        }
        if let Some(workload) = &self.world.kube.workload {
            let mut set = self.set.clone();
            set["metadata"]["uid"] = json!(&*workload_uid(workload.made).0);
            set["spec"]["replicas"] = json!(workload.replicas);
            set["metadata"]["generation"] = json!(1);
            set["status"] = json!({"observedGeneration": 1});
            now.insert((Kind::StatefulSet, CLUSTER.to_owned()), set);
        }
        if !self.gone {
            now.insert((Kind::Cluster, CLUSTER.to_owned()), self.cluster());
        }
        now.extend(self.rendered_jobs());
        let rendered = [Kind::Cluster, Kind::Pod, Kind::Claim, Kind::Operation, Kind::StatefulSet, Kind::Job];
        self.objects.retain(|key, _| !rendered.contains(&key.0) || now.contains_key(key));
        for (key, object) in now {
            self.store(key, object);
        }
        if before != self.objects {
            self.past.push_front(before);
            self.past.truncate(PAST);
        }
    }

    fn cluster(&self) -> Value {
        let mut cluster = (*self.objects[&(Kind::Cluster, CLUSTER.to_owned())]).clone();
        if cluster.is_null() {
            cluster = json!({
                "apiVersion": Kind::Cluster.api_version(),
                "kind": "EtcdCluster",
                "metadata": {
                    "namespace": NAMESPACE, "name": CLUSTER, "uid": OWNER,
                    "creationTimestamp": render::time(self.begun),
                },
            });
        }
        cluster["metadata"]["generation"] = json!(self.world.generation);
        cluster["spec"] = render::cluster_spec(&self.world, self.tls.is_some(), self.flavour);
        if self.world.deleting {
            cluster["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:00:00Z");
        }
        cluster
    }

    /// With a new resource version where it is another than before.
    fn store(&mut self, key: (Kind, String), mut object: Value) {
        let old = self.objects.get(&key);
        object["metadata"]["resourceVersion"] = old.map_or(json!(""), |old| json!(version(old)));
        if old.is_some_and(|old| **old == object) {
            return;
        }
        self.versions += 1;
        object["metadata"]["resourceVersion"] = json!(self.versions.to_string());
        self.objects.insert(key, Arc::new(object));
    }

    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        self.objects.get(&(kind, name.to_owned())).map(|object| (**object).clone())
    }

    pub fn list(&mut self, kind: Kind, cached: bool) -> Vec<Value> {
        let behind = cached && !self.past.is_empty() && self.rng.one_in(self.behind);
        let from = if behind {
            let back = usize::try_from(self.rng.below(self.past.len() as u64)).unwrap_or(0);
            &self.past[back]
        } else {
            &self.objects
        };
        let items = from.iter().filter(|((k, _), _)| *k == kind);
        items.map(|(_, object)| nameless(object)).collect()
    }

    /// An operator reads the `EtcdCluster`.
    pub fn looks(&mut self, who: u8) {
        let moment = self.moment(who);
        self.looked.insert(who, moment);
    }

    /// What an operator decides is as good as new while this is the same. Where nothing keeps operators apart each has to be
    /// right beside the others.
    fn moment(&self, who: u8) -> (u64, u64) {
        let others = self.acted.iter().filter(|(one, _)| **one != who).map(|(_, acts)| acts).sum();
        (self.tick, if self.lax { 0 } else { others })
    }

    /// Carries an act out in the world, for an operator.
    fn act(&mut self, who: u8, act: &Act) -> Result<(), ApiError> {
        let fresh = self.looked.get(&who) == Some(&self.moment(who));
        *self.acted.entry(who).or_default() += 1;
        let seen = self.observed();
        self.say(format!("operator {who}: {act:?}{}", if fresh { "" } else { " (late)" }));
        let bookkeeping = matches!(act, Act::RecordIntent(_) | Act::CloseIntent { .. } | Act::Latch { .. });
        if fresh && self.world.paused && !self.world.deleting && !bookkeeping {
            self.broken.get_or_insert(format!("{act:?} in a cluster that is paused"));
        }
        match self.world.act(act, &seen, fresh) {
            Ok(done) => {
                self.look_over();
                if done == Done::Yes { Ok(()) } else { Err(ApiError::Conflict("the world refused it".to_owned())) }
            }
            Err(broken) => {
                self.broken.get_or_insert(broken.0.clone());
                Err(ApiError::Refused(broken.0))
            }
        }
    }

    /// A change that a member is asked for.
    pub fn change(&mut self, who: u8, act: &Act) -> Result<(), ApiError> {
        self.act(who, act)
    }

    fn expected(&self, kind: Kind, name: &str, given: &Value) -> Result<Value, ApiError> {
        let live = self.get(kind, name).ok_or_else(|| ApiError::NotFound(format!("{kind} {name}")))?;
        let (id, at) = (Some(uid(given)).filter(|id| !id.is_empty()), Some(version(given)).filter(|v| !v.is_empty()));
        // The lease is replaced as it was seen, whatever else is left out.
        if !self.lax || kind == Kind::Lease {
            check(&live, id, at)?;
        }
        Ok(live)
    }

    /// # Errors
    /// As an API server has them.
    pub fn create(&mut self, who: u8, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        let name = text(object, "/metadata/name").to_owned();
        if kind == Kind::Event {
            return Ok(object.clone());
        }
        if self.objects.contains_key(&(kind, name.clone())) {
            return Err(ApiError::Conflict(format!("{kind} {name} is there already")));
        }
        if kind == Kind::Operation {
            return self.ordered(object);
        }
        match kind {
            Kind::Job => return self.begin(who, object.clone()),
            Kind::Backup => {
                let object = self.born(object.clone());
                return self.write(who, kind, &name, object);
            }
            Kind::Claim => {
                self.beside.insert((kind, name), object.clone());
                self.sync();
                return Ok(object.clone());
            }
            _ => {}
        }
        self.made += 1;
        let mut object = object.clone();
        object["metadata"]["uid"] = json!(format!("object-{}", self.made));
        object["metadata"]["managedFields"] = json!([{"manager": "keepstone-operator", "operation": "Update"}]);
        self.write(who, kind, &name, object)
    }

    /// # Errors
    /// As an API server has them.
    pub fn apply(&mut self, who: u8, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        let name = text(object, "/metadata/name").to_owned();
        let live = self.expected(kind, &name, object)?;
        let mut object = object.clone();
        // What no apply of this owner wrote would stay.
        if live.pointer("/metadata/managedFields/0/operation") == Some(&json!("Update")) {
            let mut merged = live.clone();
            merge(&mut merged, &object);
            object = merged;
        }
        for kept in ["uid", "managedFields", "generation", "creationTimestamp"] {
            if let Some(value) = live["metadata"].get(kept) {
                object["metadata"][kept] = value.clone();
            }
        }
        self.write(who, kind, &name, object)
    }

    /// # Errors
    /// As an API server has them.
    pub fn replace(&mut self, who: u8, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        let name = text(object, "/metadata/name").to_owned();
        self.expected(kind, &name, object)?;
        self.write(who, kind, &name, object.clone())
    }

    /// A whole object, and what it means.
    fn write(&mut self, who: u8, kind: Kind, name: &str, object: Value) -> Result<Value, ApiError> {
        let names = render::names();
        match kind {
            Kind::StatefulSet => return self.write_set(who, object),
            Kind::Service if name == names.client() => {
                let selects = object.pointer("/spec/selector").and_then(Value::as_object);
                let open = selects.is_some_and(|labels| !labels.is_empty());
                if open != self.world.open {
                    self.act(who, &Act::OpenClientService { open })?;
                }
            }
            Kind::Budget => {
                let number = object.pointer("/spec/minAvailable").and_then(Value::as_u64);
                let min_available = number.and_then(|number| u32::try_from(number).ok());
                self.act(who, &Act::ApplyBudget { min_available })?;
            }
            Kind::ConfigMap if name == names.permit() => {
                let permit = self.permit(&object)?;
                self.act(who, &Act::GrantPermit(permit))?;
            }
            Kind::ConfigMap if name == names.fence() => {
                let refused = |why: String| ApiError::Refused(why);
                let map: ConfigMap = serde_json::from_value(object.clone()).map_err(|why| refused(why.to_string()))?;
                let places = fence::read(&names, &map).map_err(|why| refused(why.to_string()))?;
                let held = if self.unfenced { Default::default() } else { places };
                self.act(who, &Act::SetFence(held))?;
            }
            _ => {}
        }
        self.store((kind, name.to_owned()), object);
        self.sync();
        if matches!(kind, Kind::Secret | Kind::ConfigMap) {
            self.mount(None);
        }
        self.get(kind, name).ok_or_else(|| ApiError::NotFound(name.to_owned()))
    }

    fn permit(&self, object: &Value) -> Result<Permit, ApiError> {
        let refused = |why: String| ApiError::Refused(why);
        let map: ConfigMap = serde_json::from_value(object.clone()).map_err(|why| refused(why.to_string()))?;
        let read = permit::read(&render::names(), &map).map_err(|why| refused(why.to_string()))?;
        let it = read.ok_or_else(|| refused("an empty permit".to_owned()))?;
        let kind = match it.action {
            Action::Found => PermitKind::Found,
            Action::ForceNewClusterId => PermitKind::ForceNew,
        };
        Ok(self.filled(Permit { kind, ordinal: it.ordinal, pod: it.pod, claim: it.claim, nonce: it.nonce }))
    }

    fn write_set(&mut self, who: u8, object: Value) -> Result<Value, ApiError> {
        let template = &object["spec"]["template"];
        let made = render::made(template).ok_or_else(|| ApiError::Refused("an unknown template".to_owned()))?;
        let hash = text(template, "/metadata/annotations/keepstone.io~1config").to_owned();
        let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let replicas = u32::try_from(replicas).map_err(|why| ApiError::Refused(why.to_string()))?;
        if let Some(workload) = self.world.kube.workload.clone().filter(|workload| workload.replicas != replicas) {
            let (uid, from) = (workload_uid(workload.made), workload.replicas);
            self.act(who, &Act::SetReplicas { uid, from, to: replicas })?;
        }
        self.hashes.insert(made, hash);
        self.set = object.clone();
        self.act(who, &Act::ApplyWorkload { replicas, template: made.template(), storage: render::storage(&object) })?;

        self.get(Kind::StatefulSet, CLUSTER).ok_or_else(|| ApiError::NotFound("the StatefulSet".to_owned()))
    }

    /// # Errors
    /// As an API server has them.
    pub fn merge(&mut self, who: u8, kind: Kind, name: &Name, status: bool, patch: &Value) -> Result<Value, ApiError> {
        let live = self.expected(kind, &name.name, patch)?;
        let mut new = live.clone();
        let mut patch = patch.clone();
        for own in ["uid", "resourceVersion"] {
            patch["metadata"].as_object_mut().map(|meta| meta.remove(own));
        }
        merge(&mut new, &patch);
        match kind {
            Kind::Cluster => {
                if status {
                    self.status(who, &live, &new)?;
                }
                self.store((kind, name.name.clone()), new.clone());
                self.sync();
                self.let_go();
                if self.gone {
                    return Ok(new);
                }
            }
            Kind::StatefulSet if patch.pointer("/spec/replicas").is_some() => {
                let number = |value: &Value| value.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(0);
                let (from, to) = (number(&live) as u32, number(&new) as u32);
                self.act(who, &Act::SetReplicas { uid: uid(&live).into(), from, to })?;
            }
            Kind::StatefulSet => {
                self.set["metadata"]["managedFields"] = new["metadata"]["managedFields"].clone();
                self.sync();
            }
            Kind::Claim if patch.pointer("/spec/resources").is_some() => self.grow(who, &live, &new)?,
            Kind::Claim => self.mark(who, &live, &new)?,
            Kind::Operation => self.told(&live, &new),
            Kind::Pod => {}
            Kind::Backup => {
                self.store((kind, name.name.clone()), new.clone());
                self.let_backup_go(&name.name);
                self.sync();
                return Ok(new);
            }
            _ => {
                self.store((kind, name.name.clone()), new);
                self.sync();
            }
        }
        self.get(kind, &name.name).ok_or_else(|| ApiError::NotFound(name.name.clone()))
    }

    /// # Errors
    /// As an API server has them.
    pub fn delete(&mut self, who: u8, kind: Kind, name: &Name, how: &Deletion) -> Result<(), ApiError> {
        let Some(live) = self.get(kind, &name.name) else { return Ok(()) };
        if !self.lax {
            check(&live, how.uid.as_deref(), how.version.as_deref())?;
        }
        let (names, id) = (render::names(), Uid::from(uid(&live)));
        let place = |pod: &str| names.ordinal(pod).ok_or_else(|| ApiError::Refused(format!("a foreign {kind}")));
        if self.beside.remove(&(kind, name.name.clone())).is_some() {
            self.sync();
            return Ok(());
        }
        match kind {
            Kind::Pod => self.act(who, &Act::DeletePod { ordinal: place(&name.name)?, uid: id, force: how.force }),
            Kind::Claim => {
                let ordinal: Ordinal = place(name.name.strip_prefix("data-").unwrap_or_default())?;
                self.act(who, &Act::DeleteClaim { ordinal, uid: id })
            }
            Kind::StatefulSet => self.act(who, &Act::DeleteWorkload { uid: id, orphan: how.orphan }),
            Kind::ConfigMap if name.name == names.permit() => {
                let nonce = self.permit(&live)?.nonce;
                self.act(who, &Act::RevokePermit { nonce })?;
                self.remove(kind, &name.name)
            }
            Kind::Budget => {
                self.act(who, &Act::ApplyBudget { min_available: None })?;
                self.remove(kind, &name.name)
            }
            Kind::ConfigMap if name.name == names.fence() => {
                self.act(who, &Act::SetFence(Default::default()))?;
                self.remove(kind, &name.name)
            }
            Kind::Operation => Ok(()),
            Kind::Backup => {
                self.delete_backup(who, &live);
                Ok(())
            }
            Kind::Job => {
                self.job_goes(&name.name);
                Ok(())
            }
            _ => self.remove(kind, &name.name),
        }
    }

    fn remove(&mut self, kind: Kind, name: &str) -> Result<(), ApiError> {
        self.objects.remove(&(kind, name.to_owned()));
        self.sync();
        Ok(())
    }
}

/// The objects of a list don't say what they are.
fn nameless(object: &Value) -> Value {
    let mut object = object.clone();
    for field in ["apiVersion", "kind"] {
        object.as_object_mut().map(|object| object.remove(field));
    }
    object
}

fn check(live: &Value, id: Option<&str>, at: Option<&str>) -> Result<(), ApiError> {
    let name = text(live, "/metadata/name");
    if id.is_some_and(|id| id != uid(live)) {
        return Err(ApiError::Conflict(format!("{name} is another")));
    }
    if at.is_some_and(|at| at != version(live)) {
        return Err(ApiError::Conflict(format!("{name} has changed")));
    }
    Ok(())
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}
