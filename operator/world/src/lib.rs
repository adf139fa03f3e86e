//! A small world for the operator's planner to be tried in: an API server's objects, a StatefulSet controller and kubelets
//! ([`kube`]), members with their disks and tables ([`servers`]), and time. Pure and deterministic: whoever drives it
//! chooses which of the things that may happen does ([`World::events`], [`Fault`]), and when the operator looks and acts.
//!
//! It is smaller than the real thing, and stricter: what no act of an operator may bring about is checked with each act
//! ([`World::act`]).

mod act;
mod event;
pub mod kube;
mod look;
mod maintain;
pub mod servers;

use std::collections::{BTreeMap, BTreeSet};

use keepstone_operator_plan::act::{Alarm, Permit};
use keepstone_operator_plan::ids::{MemberId, Nonce, Ordinal, Uid};
use keepstone_operator_plan::observed::{Marks, Phase, Request};
use keepstone_operator_plan::operation::Operation;

pub use act::{Broken, Done};
pub use event::{Event, Fault};
use kube::{Kind, Kube};
pub use look::{Blind, desired};
pub use maintain::{FULL, Store};
use servers::{DiskId, Servers};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    pub size: u32,
    pub kind: Kind,
    pub hibernate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fill {
    pub disk: DiskId,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: u64,
    pub spec: Spec,
    /// Changes of the spec so far.
    pub generation: i64,

    /// `status.clusterID`.
    pub latched: Option<u64>,
    pub operation: Option<Operation>,
    pub seq: u64,
    pub marks: Marks,
    /// What `status.members` remembers of voters and their claims.
    pub volumes: BTreeMap<Ordinal, (MemberId, Uid)>,

    pub kube: Kube,
    pub permit: Option<Permit>,
    /// Whether the client Service selects pods.
    pub open: bool,
    /// Clusters that clients were let in to.
    pub opened: BTreeSet<u64>,
    pub budget: Option<u32>,
    pub fenced: BTreeSet<u32>,
    pub saved: BTreeMap<DiskId, u64>,
    /// Disks of which there is no copy, but not for want of trying.
    pub tried: BTreeSet<DiskId>,
    /// Backups on their way to a volume, by the nonce of the permit that waits for them.
    pub fills: BTreeMap<Nonce, Fill>,
    pub requests: Vec<Request>,

    pub servers: Servers,
    /// Clusters that were given up by order.
    pub given_up: BTreeSet<u64>,
    /// Places whose voter an operator took down, and which has not served since.
    pub downed: BTreeSet<u32>,

    /// What is asked of each volume, in units that nobody counts.
    pub storage: u64,
    pub revision: i64,
    pub compacted: i64,
    pub stores: BTreeMap<DiskId, Store>,
    /// Disks on which no server gets through its start.
    pub rotten: BTreeSet<DiskId>,
    /// Of the members of the latched cluster, those that left it too.
    pub alarms: BTreeSet<(u64, Alarm)>,

    /// Somebody deleted the `EtcdCluster`; what becomes of the claims then.
    pub deleting: bool,
    pub keep_claims: bool,
    pub paused: bool,
    /// The spec says what nobody can read.
    pub garbled: bool,
    /// Pods that nobody owns any more are being collected.
    pub collecting: bool,
}

impl World {
    /// Nothing is there but the `EtcdCluster`.
    pub fn new(spec: Spec) -> World {
        World {
            now: 1_000_000,
            spec,
            generation: 1,
            latched: None,
            operation: None,
            seq: 0,
            marks: Marks::default(),
            volumes: BTreeMap::new(),
            kube: Kube::default(),
            permit: None,
            open: false,
            opened: BTreeSet::new(),
            budget: None,
            fenced: BTreeSet::new(),
            saved: BTreeMap::new(),
            tried: BTreeSet::new(),
            fills: BTreeMap::new(),
            requests: Vec::new(),
            servers: Servers::default(),
            given_up: BTreeSet::new(),
            downed: BTreeSet::new(),
            storage: 1,
            revision: 1000,
            compacted: 0,
            stores: BTreeMap::new(),
            rotten: BTreeSet::new(),
            alarms: BTreeSet::new(),
            deleting: false,
            keep_claims: true,
            paused: false,
            garbled: false,
            collecting: false,
        }
    }

    /// The cluster and ID that the server at a place serves as. It has to run, on the disk its ID is bound to.
    pub fn serves(&self, n: u32) -> Option<(u64, u64)> {
        self.kube.pods.get(&n).filter(|p| p.started && p.node_lost.is_none())?;
        let disk = self.kube.disk(n)?;
        let (cluster, id) = self.servers.disks.get(&disk)?.member?;
        let bound = self.servers.clusters.get(&cluster)?.row(id)?.disk == Some(disk);
        bound.then_some((cluster, id))
    }

    /// Voters of a cluster whose servers run.
    pub fn voters_up(&self, cluster: u64) -> usize {
        let Some(table) = self.servers.clusters.get(&cluster) else { return 0 };
        let up = |r: &&servers::Row| !r.learner && self.serves(r.ordinal) == Some((cluster, r.id));
        table.rows.iter().filter(up).count()
    }

    pub fn has_quorum(&self, cluster: u64) -> bool {
        let voters = self.servers.clusters.get(&cluster).map_or(0, servers::Table::voters);
        voters > 0 && self.voters_up(cluster) > voters / 2
    }

    /// Who leads: who did, as long as it serves; else the lowest voter that does.
    pub fn leader(&self, cluster: u64) -> Option<u64> {
        if !self.has_quorum(cluster) {
            return None;
        }
        let table = self.servers.clusters.get(&cluster)?;
        let able = |id: u64| table.row(id).is_some_and(|r| !r.learner && self.serves(r.ordinal) == Some((cluster, id)));
        let kept = table.leader.filter(|id| able(*id));
        kept.or_else(|| table.rows.iter().map(|r| r.id).find(|id| able(*id)))
    }

    /// Whether a majority of the latched cluster's voters still have their data, and a node to run on.
    pub fn can_recover(&self) -> bool {
        let Some(table) = self.latched.and_then(|id| self.servers.clusters.get(&id)) else { return true };
        let whole = |r: &&servers::Row| {
            let held = r.disk.and_then(|d| self.servers.disks.get(&d)).and_then(|d| d.member);
            let node = self.kube.pods.get(&r.ordinal).is_none_or(|p| p.node_lost.is_none());
            // A claim that is being deleted lasts as long as its pod, and that pod never starts.
            let doomed = self.kube.claims.get(&r.ordinal).is_some_and(|c| c.terminating)
                && self.kube.pods.get(&r.ordinal).is_some_and(|p| !p.started && !p.kind.starts());
            let starts = r.disk.is_none_or(|d| !self.rotten.contains(&d));
            !r.learner && node && !doomed && starts && held == self.latched.map(|c| (c, r.id))
        };
        table.rows.iter().filter(whole).count() > table.voters() / 2
    }

    pub fn finished(&self) -> bool {
        self.requests.iter().all(|r| r.phase.finished())
    }

    pub fn ask(&mut self, verb: keepstone_operator_plan::operation::Verb) {
        let n = self.requests.len();
        self.requests.push(Request {
            name: format!("request-{n}").into(),
            uid: Uid(format!("request-{n}").into()),
            created: keepstone_operator_plan::ids::Time(self.now),
            scheduled: None,
            verb,
            phase: Phase::Pending,
        });
    }
}
