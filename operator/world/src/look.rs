//! What an operator sees of the world: live, behind, or not at all.

use std::collections::BTreeMap;

use keepstone_operator_plan::desired::{Deadlines, Desired, Maintenance, Recovery, Retention, Tls, Update};
use keepstone_operator_plan::ids::{ClusterId, MemberId, Nonce, Ordinal, Revision, Seconds, Time, Uid};
use keepstone_operator_plan::observed::{
    Certificates, Claim, Cluster, Echo, Member, Objects, Observed, Phase, Pod, Seen, Status, Verdict, Workload,
};
use keepstone_operator_plan::operation::Intent;

use crate::kube::{Kube, claim_uid, pod_uid, workload_uid};
use crate::servers::{Row, Start};
use crate::{Spec, World};

/// Which of its calls fail in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blind {
    Nothing,
    Table,
    Permit,
    Claims,
    Saved,
    Answer(u32),
}

const OWNER: &str = "cluster";

impl World {
    /// `kube` is what the cache holds: that of now, or an older one.
    pub fn observe(&self, kube: &Kube, blind: Blind, echo: Option<Echo>) -> Observed {
        let cluster = Cluster {
            name: "main".into(),
            uid: OWNER.into(),
            created: Time(0),
            generation: self.generation,
            deleting: self.deleting,
            cluster_id: self.latched.map(ClusterId),
            operation: self.operation.clone(),
            seq: self.seq,
            marks: self.marks,
            volumes: self.volumes.iter().map(|(n, (_, claim))| (*n, claim.clone())).collect(),
            ran: None,
        };
        let hide = |kind| blind == kind;
        Observed {
            cluster,
            objects: Seen::Known(Objects { current: true, open: self.open, min_available: self.budget }),
            workload: Seen::Known(kube.workload.as_ref().map(workload)),
            pods: Seen::Known(kube.pods.iter().map(|(n, p)| (Ordinal(*n), self.pod(*n, p))).collect()),
            claims: seen(hide(Blind::Claims), || kube.claims.iter().map(|(n, c)| (Ordinal(*n), claim(c))).collect()),
            permit: seen(hide(Blind::Permit), || self.permit.clone()),
            table: self.table(hide(Blind::Table)),
            answers: self.answers(blind),
            alarms: Seen::Known(self.alarms.iter().map(|(id, alarm)| (MemberId(*id), *alarm)).collect()),
            certificates: Seen::Known(Certificates::default()),
            requests: Seen::Known(self.requests.clone()),
            backups: Seen::Known(Vec::new()),
            saved: seen(hide(Blind::Saved), || self.saved()),
            filled: Seen::Known(self.filled()),
            source: Seen::Known(true),
            fenced: Seen::Known(self.fenced.iter().map(|n| Ordinal(*n)).collect()),
            keep_from: None,
            nonce: Nonce(self.seq + 1),
            echo: echo.into_iter().collect(),
        }
    }

    /// Keeps what status would of what was seen.
    pub fn remember(&mut self, seen: &Observed) {
        let (Some(table), Some(claims)) = (seen.table.known(), seen.claims.known()) else { return };
        let before = std::mem::take(&mut self.volumes);
        for row in table.iter().filter(|row| !row.learner) {
            let Some(n) = row.ordinal else { continue };
            let answers = seen.answers.get(&n).is_some_and(|s| s.member_id == row.id);
            let old = before.get(&n).filter(|(id, _)| *id == row.id && !answers).cloned();
            let volume = old.or_else(|| Some((row.id, claims.get(&n)?.uid.clone())));
            self.volumes.extend(volume.map(|volume| (n, volume)));
        }
    }

    /// What a server, whichever answers, says of its cluster; that of the newest one that has a quorum.
    fn table(&self, hidden: bool) -> Seen<Vec<Member>> {
        let cluster = self.servers.clusters.iter().rev().find(|(id, _)| self.has_quorum(**id));
        match cluster {
            Some((_, table)) if !hidden => Seen::Known(table.rows.iter().map(member).collect()),
            _ => Seen::Unknown,
        }
    }

    fn answers(&self, blind: Blind) -> BTreeMap<Ordinal, Status> {
        let places = self.kube.pods.keys().filter(|n| blind != Blind::Answer(**n));
        places.filter_map(|n| Some((Ordinal(*n), self.status(*n)?))).collect()
    }

    fn status(&self, n: u32) -> Option<Status> {
        let (cluster, id) = self.serves(n)?;
        let row = self.servers.clusters.get(&cluster)?.row(id)?;
        let disk = self.servers.disks.get(&self.kube.disk(n)?)?;
        Some(Status {
            cluster_id: ClusterId(cluster),
            member_id: MemberId(id),
            leader: self.leader(cluster).map(MemberId),
            term: 1,
            applied: if row.caught_up { 1000 } else { 0 },
            revision: Revision(self.revision),
            learner: row.learner,
            version: self.kube.pods.get(&n)?.kind.version(),
            db_size: self.store_at(n).size,
            db_in_use: self.store_at(n).used,
            permit: disk.nonce,
        })
    }

    fn pod(&self, n: u32, p: &crate::kube::Pod) -> Pod {
        let alive = self.kube.pods.get(&n).is_some_and(|now| now.made == p.made);
        let loops = !p.kind.starts() || self.kube.disk(n).is_some_and(|d| self.rotten.contains(&d));
        let refused = match self.start_of(n) {
            _ if !alive || p.started && self.serves(n).is_some() => None,
            Start::DataLost => Some(Verdict::DataLost),
            Start::Removed => Some(Verdict::Removed),
            _ => None,
        };
        // A cache that is behind shows a pod as it was.
        let ready = p.started && (!alive || self.serves(n).is_some_and(|(cluster, _)| self.has_quorum(cluster)));
        Pod {
            uid: pod_uid(n, p.made),
            created: Time(p.created),
            template: p.kind.template(),
            started: p.started,
            ready,
            ready_changed: Time(p.changed),
            terminating: p.terminating,
            restarts: if loops { 10 } else { 0 },
            node_lost: p.node_lost.map(Time),
            verdict: refused,
        }
    }

    fn filled(&self) -> Option<Phase> {
        let Intent::Bootstrap(bootstrap) = &self.operation.as_ref()?.intent else { return None };
        Some(self.fills.get(&bootstrap.permit.as_ref()?.nonce)?.phase)
    }

    fn saved(&self) -> BTreeMap<Ordinal, Phase> {
        let claims: Vec<(Ordinal, &Uid)> = match self.operation.as_ref().map(|o| &o.intent) {
            Some(Intent::RecoverQuorum(r)) => {
                r.claims.iter().map(|(n, u)| (*n, u)).chain([(r.survivor, &r.claim)]).collect()
            }
            Some(Intent::Restore(r)) => r.claims.iter().map(|(n, u)| (*n, u)).collect(),
            _ => Vec::new(),
        };
        let done = |uid: &Uid| self.saved.keys().any(|d| claim_uid(*d) == *uid);
        claims.into_iter().filter(|(_, uid)| done(uid)).map(|(n, _)| (n, Phase::Succeeded)).collect()
    }
}

fn seen<T>(hidden: bool, value: impl FnOnce() -> T) -> Seen<T> {
    if hidden { Seen::Unknown } else { Seen::Known(value()) }
}

fn workload(w: &crate::kube::Workload) -> Workload {
    let uid = workload_uid(w.made);
    Workload { uid, replicas: w.replicas, template: w.kind.template(), storage: w.storage, settled: true }
}

fn claim(c: &crate::kube::Claim) -> Claim {
    Claim {
        uid: claim_uid(c.disk),
        owner: OWNER.into(),
        terminating: c.terminating,
        left: c.left,
        request: c.request,
        capacity: c.capacity,
        resize_rejected: false,
    }
}

fn member(row: &Row) -> Member {
    Member { id: MemberId(row.id), ordinal: Some(Ordinal(row.ordinal)), learner: row.learner }
}

pub fn desired(spec: &Spec) -> Desired {
    Desired {
        size: spec.size,
        template: spec.kind.template(),
        storage: 1,
        paused: false,
        hibernate: spec.hibernate,
        deletion_policy: Retention::Retain,
        retain_policy: Retention::Delete,
        quota: 1000,
        tls: Tls::Disabled,
        update: Update { pause_between: Seconds(0), allow_downgrade: true, snapshot_before: false, max_lag: 10 },
        recovery: Recovery {
            replace: true,
            after_restarts: 5,
            min_unhealthy: Seconds(600),
            automatic: false,
            after: Seconds(900),
        },
        maintenance: Maintenance::default(),
        backup: None,
        backup_suspended: false,
        source: None,
        deadlines: Deadlines::default(),
    }
}
