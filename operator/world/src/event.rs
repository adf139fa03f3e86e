//! What happens in the world by itself, and what goes wrong in it.

use std::collections::BTreeSet;

use keepstone_operator_plan::ids::Nonce;
use keepstone_operator_plan::observed::Phase;

use crate::kube::{claim_uid, pod_uid};
use crate::servers::{Disk, Start};
use crate::{Fill, World};

/// What controllers, kubelets and servers do sooner or later, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The StatefulSet makes what a place lacks.
    Create(u32),
    /// The StatefulSet ends a pod above its size.
    Drop(u32),
    /// A pod that was being ended is gone.
    End(u32),
    Start(u32),
    CatchUp(u32),
    /// A backup is on its volume.
    Filled(Nonce),
    /// A volume becomes as large as its claim asks.
    Grow(u32),
}

/// What may go wrong, or be changed by people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Somebody deletes a pod, or a node is drained.
    PodDeleted(u32),
    /// The server ends, and is started again in its pod.
    Crashed(u32),
    /// The disk comes back empty.
    Wiped(u32),
    /// Somebody deletes a claim.
    ClaimDeleted(u32),
    NodeLost(u32),
    NodeBack(u32),
    /// Somebody scales the StatefulSet.
    Scaled(u32),
    /// Somebody deletes the StatefulSet and leaves its pods.
    WorkloadOrphaned,
    Size(u32),
    Config(u8),
    Minor(u8),
    Hibernate(bool),
    /// A backup could not be put onto its volume.
    FillFailed,
    /// The node is shut down in order, and its pods end as it does.
    ShutDown(u32),
    /// What is on the disk ends every server that reads it.
    Rotten(u32),
    /// A member's data differs from the others'.
    Corrupt(u32),
    /// Stores fill up; with `true` compaction makes room again.
    Full(u32, bool),
    /// Somebody deletes keys, and takes back what members complained of.
    Relieved,
    Storage(u64),
    Paused(bool),
    /// The spec gets something into it that can't be read.
    Garbled(bool),
    /// Somebody deletes the `EtcdCluster`. `true`: the claims are to be kept.
    Deleted(bool),
    /// Time passes: seconds.
    Later(u64),
}

impl World {
    pub fn events(&self) -> Vec<Event> {
        let mut all = Vec::new();
        let places: BTreeSet<u32> = (0..self.kube.replicas())
            .chain(self.kube.pods.keys().copied())
            .chain(self.kube.claims.keys().copied())
            .collect();
        for n in places {
            if self.kube.lacks(n) {
                all.push(Event::Create(n));
            }
            let Some(pod) = self.kube.pods.get(&n) else { continue };
            let surplus = self.kube.workload.is_some() && n >= self.kube.replicas();
            if (surplus || self.kube.workload.is_none() && self.collecting) && !pod.terminating {
                all.push(Event::Drop(n));
            }
            let replaced = pod.over && n < self.kube.replicas();
            if (pod.terminating || replaced) && pod.node_lost.is_none() {
                all.push(Event::End(n));
            }
            if self.startable(n).is_some_and(|s| !matches!(s, Start::Wait | Start::DataLost | Start::Removed)) {
                all.push(Event::Start(n));
            }
            if self.catching_up(n) {
                all.push(Event::CatchUp(n));
            }
        }
        let there = |f: &Fill| f.phase == Phase::Running && self.servers.disks.contains_key(&f.disk);
        all.extend(self.fills.iter().filter(|(_, f)| there(f)).map(|(nonce, _)| Event::Filled(*nonce)));
        let small = self.kube.claims.iter().filter(|(_, c)| c.capacity < c.request && !c.terminating);
        all.extend(small.map(|(n, _)| Event::Grow(*n)));
        all
    }

    /// What the server at a place would do if it started now; none where nothing can start, or it runs.
    pub fn startable(&self, n: u32) -> Option<Start> {
        let pod = self.kube.pods.get(&n)?;
        if pod.over || self.kube.disk(n).is_some_and(|d| self.rotten.contains(&d)) {
            return None;
        }
        // A permit opens the fence for the one it names.
        let fenced = self.fenced.contains(&n) && !self.permitted(n);
        if pod.started || pod.terminating || pod.node_lost.is_some() || !pod.kind.starts() || fenced {
            return None;
        }
        Some(self.start_of(n))
    }

    /// Whether there is a permit that names the pod at a place, and its claim.
    fn permitted(&self, n: u32) -> bool {
        let (Some(pod), Some(disk), Some(permit)) = (self.kube.pods.get(&n), self.kube.disk(n), &self.permit) else {
            return false;
        };
        permit.claim == claim_uid(disk) && permit.pod.as_ref().is_none_or(|uid| *uid == pod_uid(n, pod.made))
    }

    pub(crate) fn start_of(&self, n: u32) -> Start {
        let Some(disk) = self.kube.disk(n).filter(|_| self.kube.pods.contains_key(&n)) else { return Start::Wait };
        let permit = self.permit.as_ref().filter(|p| p.claim == claim_uid(disk));
        self.servers.start(n, disk, permit, self.permitted(n), |cluster| self.has_quorum(cluster))
    }

    fn catching_up(&self, n: u32) -> bool {
        let Some((cluster, id)) = self.serves(n) else { return false };
        let behind = self.servers.clusters[&cluster].row(id).is_some_and(|r| r.learner && !r.caught_up);
        behind && self.has_quorum(cluster)
    }

    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Create(n) => {
                if let Some(disk) = self.kube.create(n, self.now) {
                    self.servers.disks.insert(disk, Disk::default());
                }
            }
            Event::Drop(n) => self.end_soon(n),
            Event::End(n) => {
                let disk = self.kube.end(n);
                self.scrap(disk);
            }
            Event::Start(n) => self.start(n),
            Event::CatchUp(n) => {
                let Some((cluster, id)) = self.serves(n) else { return };
                let rows = self.servers.clusters.get_mut(&cluster).map(|t| t.rows.iter_mut());
                if let Some(row) = rows.into_iter().flatten().find(|r| r.id == id) {
                    row.caught_up = true;
                }
            }
            Event::Filled(nonce) => {
                if let Some(fill) = self.fills.get_mut(&nonce) {
                    fill.phase = Phase::Succeeded;
                }
            }
            Event::Grow(n) => {
                if let Some(claim) = self.kube.claims.get_mut(&n) {
                    claim.capacity = claim.request;
                }
            }
        }
    }

    fn start(&mut self, n: u32) {
        let (Some(start), Some(disk)) = (self.startable(n), self.kube.disk(n)) else { return };
        self.servers.carry_out(n, disk, start);
        let now = self.now;
        if let Some(pod) = self.kube.pods.get_mut(&n) {
            (pod.started, pod.changed) = (true, now);
        }
        if self.serves(n).is_some() {
            self.downed.remove(&n);
        }
    }

    pub(crate) fn end_soon(&mut self, n: u32) {
        if let Some(pod) = self.kube.pods.get_mut(&n) {
            pod.terminating = true;
        }
    }

    pub(crate) fn scrap(&mut self, disk: Option<crate::servers::DiskId>) {
        if let Some(disk) = disk {
            self.servers.disks.remove(&disk);
            self.stores.remove(&disk);
            self.rotten.remove(&disk);
        }
    }

    /// Whether the fault would change anything.
    pub fn possible(&self, fault: Fault) -> bool {
        let pod = |n| self.kube.pods.get(&n);
        match fault {
            Fault::PodDeleted(n) => pod(n).is_some_and(|p| !p.terminating),
            Fault::ShutDown(n) => pod(n).is_some_and(|p| !p.terminating && !p.over && p.node_lost.is_none()),
            Fault::Rotten(n) => self.kube.disk(n).is_some_and(|d| !self.rotten.contains(&d)),
            Fault::Corrupt(n) => self.alarms.is_empty() && self.serves(n).is_some_and(|(c, _)| self.latched == Some(c)),
            Fault::Full(n, _) => self.alarms.is_empty() && self.serves(n).is_some_and(|(c, _)| self.latched == Some(c)),
            Fault::Relieved => true,
            Fault::Storage(to) => self.storage < to,
            Fault::Paused(to) => self.paused != to,
            Fault::Garbled(to) => self.garbled != to,
            Fault::Deleted(_) => !self.deleting,
            Fault::Crashed(n) => pod(n).is_some_and(|p| p.started && !p.terminating && p.node_lost.is_none()),
            Fault::Wiped(n) => {
                self.kube.disk(n).and_then(|d| self.servers.disks.get(&d)).is_some_and(|d| d.member.is_some())
            }
            Fault::ClaimDeleted(n) => self.kube.claims.get(&n).is_some_and(|c| !c.terminating),
            Fault::NodeLost(n) => pod(n).is_some_and(|p| p.node_lost.is_none()),
            Fault::NodeBack(n) => pod(n).is_some_and(|p| p.node_lost.is_some()),
            Fault::Scaled(to) => self.kube.workload.as_ref().is_some_and(|w| w.replicas != to && w.replicas > 0),
            Fault::WorkloadOrphaned => self.kube.workload.is_some(),
            Fault::Size(to) => self.spec.size != to,
            Fault::Config(to) => self.spec.kind.config != to,
            Fault::Minor(to) => self.spec.kind.minor != to,
            Fault::Hibernate(to) => self.spec.hibernate != to,
            Fault::FillFailed => self.fills.values().any(|f| f.phase == Phase::Running),
            Fault::Later(_) => true,
        }
    }

    pub fn suffer(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::PodDeleted(n) => self.end_soon(n),
            Fault::Crashed(n) => self.stop(n),
            Fault::ShutDown(n) => {
                self.stop(n);
                if let Some(pod) = self.kube.pods.get_mut(&n) {
                    pod.over = true;
                }
            }
            Fault::Rotten(n) => {
                self.rotten.extend(self.kube.disk(n));
                self.stop(n);
            }
            Fault::Corrupt(n) => self.corrupt(n),
            Fault::Full(n, room) => self.fill_up(n, room),
            Fault::Relieved => self.relieve(),
            Fault::Storage(to) => {
                self.storage = to;
                self.generation += 1;
            }
            Fault::Paused(to) => {
                self.paused = to;
                self.generation += 1;
            }
            Fault::Garbled(to) => {
                self.garbled = to;
                self.generation += 1;
            }
            Fault::Deleted(keep) => (self.deleting, self.keep_claims) = (true, keep),
            Fault::Wiped(n) => {
                if let Some(disk) = self.kube.disk(n) {
                    self.servers.disks.insert(disk, Disk::default());
                }
                self.stop(n);
            }
            Fault::ClaimDeleted(n) => {
                let disk = self.kube.delete_claim(n);
                self.scrap(disk);
            }
            // Kubernetes ends pods of a node that is gone, and waits for a kubelet that is not there.
            Fault::NodeLost(n) => {
                if let Some(pod) = self.kube.pods.get_mut(&n) {
                    (pod.node_lost, pod.terminating, pod.started, pod.changed) = (Some(now), true, false, now);
                }
            }
            Fault::NodeBack(n) => {
                if let Some(pod) = self.kube.pods.get_mut(&n) {
                    pod.node_lost = None;
                }
            }
            Fault::Scaled(to) => {
                if let Some(w) = &mut self.kube.workload {
                    w.replicas = to;
                }
            }
            Fault::WorkloadOrphaned => self.kube.workload = None,
            Fault::Size(to) => self.edit(|s| s.size = to),
            Fault::Config(to) => self.edit(|s| s.kind.config = to),
            Fault::Minor(to) => self.edit(|s| s.kind.minor = to),
            Fault::Hibernate(to) => self.edit(|s| s.hibernate = to),
            Fault::FillFailed => {
                let running = self.fills.values_mut().filter(|f| f.phase == Phase::Running);
                running.for_each(|f| f.phase = Phase::Failed);
            }
            Fault::Later(seconds) => self.now += seconds,
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut crate::Spec)) {
        change(&mut self.spec);
        self.generation += 1;
    }

    fn stop(&mut self, n: u32) {
        let now = self.now;
        if let Some(pod) = self.kube.pods.get_mut(&n).filter(|p| p.started) {
            (pod.started, pod.changed) = (false, now);
        }
    }
}
