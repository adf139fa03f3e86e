//! Jobs beside the members: copies of data directories, a backup on its way to a volume, backups and their removal. They
//! take their time, fail, and somebody deletes one.

use keepstone_operator::controller::api::{ApiError, text};
use keepstone_operator::controller::kind::Kind;
use keepstone_operator::controller::look::jobs::NONCE_ANNOTATION;
use keepstone_operator::objects::permit::nonce;
use keepstone_operator_api::SCHEDULED_ANNOTATION;
use keepstone_operator_plan::act::{Act, Permit, PermitKind};
use keepstone_operator_plan::ids::{Nonce, Ordinal};
use keepstone_operator_plan::observed::Phase;
use keepstone_operator_plan::operation::Intent;
use keepstone_operator_world::kube::claim_uid;
use keepstone_operator_world::{Event, World};
use serde_json::{Value, json};

use super::Site;
use crate::render::{self, CLUSTER, NAMESPACE, OWNER};
use crate::rng::Rng;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Save(u32),
    Fill(Nonce),
    Take,
    Discard,
}

#[derive(Debug, Clone)]
pub struct Job {
    object: Value,
    work: Work,
    /// Whether it was done, and when.
    ended: Option<(bool, u64)>,
}

impl Site {
    /// An operator makes a Job.
    pub(super) fn begin(&mut self, who: u8, mut object: Value) -> Result<Value, ApiError> {
        let name = text(&object, "/metadata/name").to_owned();
        let work = work(&name, &object).ok_or_else(|| ApiError::Refused(format!("nobody knows what {name} is for")))?;
        self.made += 1;
        object["metadata"]["uid"] = json!(format!("job-{}", self.made));
        self.say(format!("operator {who}: job {name}"));
        let ended = match work {
            Work::Fill(nonce) if !self.may_fill(who, nonce) => Some((false, self.world.now)),
            _ => None,
        };
        self.jobs.insert(name.clone(), Job { object, work, ended });
        self.sync();
        self.get(Kind::Job, &name).ok_or(ApiError::NotFound(name))
    }

    /// A backup goes into an empty directory, or nowhere: one that comes late finds what it was for gone.
    fn may_fill(&mut self, who: u8, nonce: Nonce) -> bool {
        let meant = match self.world.operation.as_ref().map(|it| &it.intent) {
            Some(Intent::Bootstrap(it)) => it.permit.clone().filter(|permit| permit.nonce == nonce),
            _ => None,
        };
        let now = self.world.kube.disk(0).map(claim_uid);
        match meant.filter(|permit| Some(&permit.claim) == now.as_ref()) {
            Some(permit) => self.act(who, &Act::Fill(permit)).is_ok(),
            None => false,
        }
    }

    /// As what a member takes a permit that a Job of its nonce has prepared.
    pub(super) fn filled(&self, permit: Permit) -> Permit {
        let from = PermitKind::FoundFrom("backup".into());
        if self.world.fills.contains_key(&permit.nonce) { Permit { kind: from, ..permit } } else { permit }
    }

    pub(super) fn rendered_jobs(&self) -> Vec<((Kind, String), Value)> {
        let mut all = Vec::new();
        for (name, job) in &self.jobs {
            let mut object = job.object.clone();
            if let Some((done, at)) = self.ended(job) {
                let kind = if done { "Complete" } else { "Failed" };
                object["status"] = json!({"conditions": [{
                    "type": kind, "status": "True", "message": "", "lastTransitionTime": render::time(at),
                }]});
            }
            all.push(((Kind::Job, name.clone()), object));
        }
        all.extend(self.beside.iter().map(|(key, object)| (key.clone(), object.clone())));
        all
    }

    fn ended(&self, job: &Job) -> Option<(bool, u64)> {
        match &job.work {
            Work::Fill(nonce) => match self.world.fills.get(nonce).map(|fill| fill.phase) {
                Some(Phase::Succeeded) => Some((true, self.begun)),
                Some(Phase::Failed) => Some((false, self.begun)),
                _ => job.ended,
            },
            _ => job.ended,
        }
    }

    /// One of the Jobs gets on, as chance will have it. Whether there was any.
    pub fn job_by_chance(&mut self, rng: &mut Rng) -> bool {
        let names: Vec<_> = self.jobs.keys().cloned().collect();
        let Some(name) = rng.pick(&names).cloned() else { return false };
        match rng.below(10) {
            0 => self.job_goes(&name),
            1 => self.job_ends(&name, false),
            _ => self.job_ends(&name, true),
        }
        true
    }

    /// The first that is not over is done. Whether there was one.
    pub fn job_by_itself(&mut self) -> bool {
        let open = self.jobs.iter().find(|(_, job)| self.ended(job).is_none()).map(|(name, _)| name.clone());
        let Some(name) = open else { return false };
        self.job_ends(&name, true);
        true
    }

    fn job_ends(&mut self, name: &str, well: bool) {
        let Some(job) = self.jobs.get(name).cloned().filter(|job| self.ended(job).is_none()) else { return };
        let done = well && self.work_is_done(name, &job.work);
        match job.work {
            Work::Fill(nonce) if !done => {
                let fill = self.world.fills.get_mut(&nonce);
                fill.into_iter().for_each(|fill| fill.phase = Phase::Failed);
            }
            Work::Save(n) if !done => self.world.tried.extend(self.world.kube.disk(n)),
            _ => {}
        }
        let now = self.world.now;
        self.jobs.get_mut(name).into_iter().for_each(|job| job.ended = Some((done, now)));
        self.say(format!("job {name} {}", if done { "is done" } else { "fails" }));
        self.changed();
    }

    fn work_is_done(&mut self, name: &str, work: &Work) -> bool {
        match work {
            Work::Save(n) => {
                let holds = |disk: &_| self.world.servers.disks.get(disk).is_some_and(|disk| disk.member.is_some());
                let disk = self.world.kube.disk(*n).filter(holds);
                self.world.saved.extend(disk.map(|disk| (disk, self.world.now)));
                disk.is_some()
            }
            Work::Fill(nonce) => {
                let blank = self.world.fills.get(nonce).is_some_and(|fill| {
                    self.world.servers.disks.get(&fill.disk).is_some_and(|disk| disk.member.is_none())
                });
                if blank {
                    self.world.happen(Event::Filled(*nonce));
                }
                blank
            }
            Work::Take => {
                let from = self.world.latched.filter(|cluster| self.world.has_quorum(*cluster));
                let message = json!({"taken": {
                    "uri": format!("pvc://backups/{name}"), "sizeBytes": 7, "sha256": "ab", "revision": self.world.revision,
                    "clusterID": format!("{:x}", from.unwrap_or(0)), "memberID": "1", "serverVersion": "1.4.0",
                }});
                if from.is_some() {
                    self.beside.insert((Kind::Pod, format!("{name}-x")), agent(name, &message.to_string()));
                }
                from.is_some()
            }
            Work::Discard => true,
        }
    }

    /// It is deleted, and its pods with it.
    pub(super) fn job_goes(&mut self, name: &str) {
        self.jobs.remove(name);
        self.beside.remove(&(Kind::Pod, format!("{name}-x")));
        self.say(format!("job {name} goes"));
        self.changed();
    }

    /// What the cluster owned goes with it.
    pub(super) fn jobs_of_nobody_go(&mut self) {
        self.jobs.retain(|_, job| job.object.pointer("/metadata/ownerReferences/0/uid") != Some(&json!(OWNER)));
    }

    /// Copies that failed, of the operation under way, with their places.
    pub fn failed_copies(&self) -> impl Iterator<Item = (u32, String)> {
        let seq = self.world.operation.as_ref().map_or(0, |operation| operation.seq);
        let all = self.jobs.iter().filter(|(_, job)| job.ended.is_some_and(|(done, _)| !done));
        all.filter_map(move |(name, _)| {
            let place = name.strip_prefix(&format!("{CLUSTER}-save-{seq}-"))?.parse().ok()?;
            Some((place, name.clone()))
        })
    }

    /// Somebody sees to a Job that failed, and has it made again.
    pub fn again(&mut self, name: &str) {
        self.job_goes(name);
    }

    /// Somebody wants a backup.
    pub fn back_up(&mut self) {
        self.made += 1;
        let name = format!("by-hand-{}", self.made);
        self.say(format!("backup: {name}"));
        let object = json!({
            "apiVersion": Kind::Backup.api_version(), "kind": "EtcdBackup",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "clusterRef": {"name": CLUSTER}, "store": {"pvc": {"claimName": "backups"}}, "deletionPolicy": "Retain",
            },
        });
        let object = self.born(object);
        self.store((Kind::Backup, name), object);
        self.changed();
    }

    /// What the API server gives an `EtcdBackup`.
    pub(super) fn born(&mut self, mut object: Value) -> Value {
        self.made += 1;
        object["metadata"]["uid"] = json!(format!("{:08x}-0000", self.made));
        object["metadata"]["creationTimestamp"] = render::time(self.world.now);
        object["metadata"]["generation"] = json!(1);
        object
    }

    /// An operator deletes a backup.
    pub(super) fn delete_backup(&mut self, who: u8, live: &Value) {
        let name = text(live, "/metadata/name").to_owned();
        self.say(format!("operator {who}: backup {name} is deleted"));
        let ours = |one: &Value| !text(one, &format!("/metadata/annotations/{}", escaped())).is_empty();
        let whole = |one: &Value| {
            text(one, "/status/phase") == "Completed" && text(one, "/metadata/deletionTimestamp").is_empty()
        };
        let of = |one: &Value| text(one, "/status/completedAt").to_owned();
        let backups = self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Backup).map(|(_, object)| object);
        let newest = backups.filter(|one| whole(one) && ours(one)).map(|one| of(one)).max();
        if !ours(live) {
            self.broken.get_or_insert(format!("the backup {name} is deleted, which somebody made by hand"));
        }
        let others = self.objects.values().filter(|one| whole(one) && of(one) == of(live)).count();
        if whole(live) && others < 2 && newest == Some(of(live)) {
            self.broken.get_or_insert(format!("the newest backup {name} is deleted"));
        }
        let mut object = live.clone();
        object["metadata"]["deletionTimestamp"] = render::time(self.world.now);
        self.store((Kind::Backup, name.clone()), object);
        self.let_backup_go(&name);
        self.sync();
    }

    /// The API server removes one that is being deleted and that nothing holds.
    pub(super) fn let_backup_go(&mut self, name: &str) {
        let Some(backup) = self.get(Kind::Backup, name) else { return };
        let held = backup.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
        if !held && !text(&backup, "/metadata/deletionTimestamp").is_empty() {
            self.objects.remove(&(Kind::Backup, name.to_owned()));
            let id = backup.pointer("/metadata/uid");
            self.jobs.retain(|_, job| job.object.pointer("/metadata/ownerReferences/0/uid") != id);
        }
    }

    /// Something starts, stops or is made. A new cluster begins when nothing of the old one runs, and is of what was saved.
    pub fn happens(&mut self, event: Event) {
        let before = self.world.servers.clusters.len();
        self.world.happen(event);
        if let Event::Start(n) = event
            && self.world.servers.clusters.len() > before
            && let Some(why) = too_soon(&self.world, n)
        {
            self.broken.get_or_insert(why);
        }
        self.changed();
    }
}

fn too_soon(world: &World, founder: u32) -> Option<String> {
    let runs = |n: &&u32| **n != founder && world.serves(**n).is_some();
    if let Some(n) = world.kube.pods.keys().find(runs) {
        return Some(format!("a new cluster begins at {founder}, and {n} serves another"));
    }
    let recovering = match world.operation.as_ref().map(|it| &it.intent) {
        Some(Intent::RecoverQuorum(it)) => it,
        _ => return None,
    };
    let disk = world.kube.disk(founder)?;
    if recovering.claim != claim_uid(disk) || recovering.survivor != Ordinal(founder) {
        return Some(format!("a new cluster is made of {founder}, which is not the survivor"));
    }
    (!world.saved.contains_key(&disk)).then(|| format!("a new cluster is made of {founder}, and it was not saved"))
}

fn escaped() -> String {
    SCHEDULED_ANNOTATION.replace('/', "~1")
}

fn work(name: &str, object: &Value) -> Option<Work> {
    if let Some(rest) = name.strip_prefix(&format!("{CLUSTER}-save-")) {
        return rest.split_once('-')?.1.parse().ok().map(Work::Save);
    }
    if name.starts_with(&format!("{CLUSTER}-fill-")) {
        let text = object.pointer("/metadata/annotations")?.get(NONCE_ANNOTATION)?.as_str()?;
        return nonce(text).map(Work::Fill);
    }
    match text(object, "/spec/template/spec/containers/0/name") {
        "backup" => Some(Work::Take),
        "discard" => Some(Work::Discard),
        _ => None,
    }
}

fn agent(job: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": NAMESPACE, "name": format!("{job}-x"), "uid": format!("{job}-x"),
            "labels": {"batch.kubernetes.io/job-name": job},
        },
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{
                "name": "backup", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "message": message, "finishedAt": "2026-11-22T00:00:00Z"}},
            }],
        },
    })
}
