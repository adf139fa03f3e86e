//! What an act does, and what none may bring about.

use keepstone_operator_plan::act::{Act, Alarm, Outcome, Permit, PermitKind};
use keepstone_operator_plan::ids::{ClusterId, MemberId, Ordinal, Uid};
use keepstone_operator_plan::observed::{Observed, Phase, Pod};
use keepstone_operator_plan::operation::{Intent, Operation};

use crate::kube::{Kind, Workload, claim_uid, pod_uid, workload_uid};
use crate::servers::{DiskId, Row};
use crate::{Fill, World};

/// Whether it was carried out, or refused: for a precondition that no longer holds, or by the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Yes,
    No,
}

/// What must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

pub(crate) type Answer = Result<Done, Broken>;

pub(crate) fn broken(what: impl Into<String>) -> Answer {
    Err(Broken(what.into()))
}

pub(crate) fn when(holds: bool) -> Answer {
    Ok(if holds { Done::Yes } else { Done::No })
}

impl World {
    /// Carries out an act that was decided on what was `seen`. With `fresh` nothing has happened since, so that even what
    /// a later failure would excuse is looked at.
    ///
    /// # Errors
    /// What the act broke.
    pub fn act(&mut self, act: &Act, seen: &Observed, fresh: bool) -> Answer {
        let answer = match act {
            Act::RecordIntent(operation) => self.record(operation),
            Act::CloseIntent { seq } => {
                let same = self.operation.as_ref().is_some_and(|o| o.seq == *seq);
                if same {
                    self.operation = None;
                }
                when(same)
            }
            Act::Latch { from, to } => self.latch(*from, *to),
            Act::OpenClientService { open } => self.open_service(*open),
            Act::ApplyBudget { min_available } => {
                self.budget = *min_available;
                when(true)
            }
            Act::ApplyWorkload { replicas, template, storage } => self.apply(*replicas, Kind::of(template), *storage),
            Act::SetReplicas { uid, from, to } => self.scale(uid, *from, *to),
            Act::DeleteWorkload { uid, orphan } => self.delete_workload(uid, *orphan),
            Act::GrantPermit(permit) => {
                if self.latched.is_some() && permit.kind != PermitKind::ForceNew {
                    return broken("a permit to found, while there is a cluster");
                }
                let there = self.fills.get(&permit.nonce).is_some_and(|f| f.phase == Phase::Succeeded);
                if matches!(permit.kind, PermitKind::FoundFrom(_)) && !there {
                    return broken("a permit to found from a backup that is not in place");
                }
                self.survivor_saved(permit)?;
                if self.permit.is_none() {
                    self.permit = Some(permit.clone());
                }
                when(true)
            }
            Act::RevokePermit { nonce } => {
                self.permit.take_if(|p| p.nonce == *nonce);
                when(true)
            }
            Act::SetFence(places) => {
                self.fenced = places.iter().map(|n| n.0).collect();
                when(true)
            }
            Act::DeletePod { ordinal, uid, force } => self.delete_pod(*ordinal, uid, *force, seen, fresh),
            Act::DeleteClaim { ordinal, uid } => self.delete_claim(ordinal.0, uid, fresh),
            Act::MarkClaimLeft { ordinal, member, .. } => {
                if let Some(claim) = self.kube.claims.get_mut(&ordinal.0) {
                    claim.left = Some(*member);
                }
                when(true)
            }
            Act::MemberAdd { ordinal } => self.member_add(ordinal.0),
            Act::MemberPromote { id } => self.member_promote(*id),
            Act::MemberRemove { id } => self.member_remove(*id, fresh),
            Act::MoveLeader { to, .. } => self.move_leader(*to),
            Act::Save { claim, .. } => {
                if let Some(disk) = self.servers.disks.keys().find(|d| claim_uid(**d) == *claim) {
                    self.saved.insert(*disk, self.now);
                }
                when(true)
            }
            Act::Fill(permit) => self.fill(permit),
            Act::FinishRequest { uid, outcome } => {
                let phase = if *outcome == Outcome::Succeeded { Phase::Succeeded } else { Phase::Failed };
                self.requests.iter_mut().filter(|r| r.uid == *uid).for_each(|r| r.phase = phase);
                when(true)
            }
            Act::GrowClaim { ordinal, uid, bytes } => self.grow(ordinal.0, uid, *bytes),
            Act::Compact { .. } | Act::Defragment { .. } | Act::Disarm { .. } => self.maintain(act, fresh),
            other => return broken(format!("nothing here asks for {other:?}")),
        };
        self.check()?;
        answer
    }

    /// What must hold at any time, whoever did what.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Broken> {
        if let Some((id, _)) = self.servers.clusters.iter().find(|(_, t)| t.learners() > 1) {
            return Err(Broken(format!("two learners in cluster {id}")));
        }
        let alive: Vec<_> = self.servers.clusters.keys().filter(|id| self.has_quorum(**id)).collect();
        if alive.len() > 1 {
            return Err(Broken(format!("clusters {alive:?} serve side by side")));
        }
        if self.open && self.latched.is_none() {
            return Err(Broken("clients are let in, and no cluster is latched".into()));
        }
        if let Some(alive) = alive.first().filter(|id| self.open && Some(***id) != self.latched) {
            return Err(Broken(format!("clients are let in to cluster {alive}, which is not the latched one")));
        }
        Ok(())
    }

    pub(crate) fn intent(&self) -> Option<&Intent> {
        self.operation.as_ref().map(|o| &o.intent)
    }

    fn record(&mut self, operation: &Operation) -> Answer {
        let next = operation.seq == self.seq + 1;
        if next {
            self.seq = operation.seq;
            self.operation = Some(operation.clone());
        }
        when(next)
    }

    fn latch(&mut self, from: Option<ClusterId>, to: Option<ClusterId>) -> Answer {
        if self.latched != from.map(|c| c.0) {
            return when(false);
        }
        match (from, to) {
            (None, Some(to)) => {
                let members = self.servers.clusters.get(&to.0).map_or(0, |t| t.rows.len());
                if members != 1 {
                    return broken(format!("a cluster of {members} members was latched"));
                }
            }
            (Some(lost), _) => {
                let never_served = to.is_none() && !self.opened.contains(&lost.0);
                if !never_served && !matches!(self.intent(), Some(Intent::RecoverQuorum(_) | Intent::Restore(_))) {
                    return broken("another cluster was latched, and nobody had given up the first");
                }
                self.given_up.insert(lost.0);
            }
            (None, None) => {}
        }
        self.latched = to.map(|c| c.0);
        when(true)
    }

    fn open_service(&mut self, open: bool) -> Answer {
        if open && self.permit.is_some() {
            return broken("clients are let in while there is a permit");
        }
        self.open = open;
        self.opened.extend(self.latched.filter(|_| open));
        when(true)
    }

    fn delete_workload(&mut self, uid: &Uid, orphan: bool) -> Answer {
        if self.kube.workload.as_ref().is_none_or(|w| workload_uid(w.made) != *uid) {
            return when(false);
        }
        if !orphan && !self.deleting {
            return broken("the StatefulSet is deleted with its pods, and nobody deleted the cluster");
        }
        self.kube.workload = None;
        self.collecting = !orphan;
        when(true)
    }

    fn grow(&mut self, n: u32, uid: &Uid, bytes: u64) -> Answer {
        let Some(claim) = self.kube.claims.get_mut(&n).filter(|c| claim_uid(c.disk) == *uid) else {
            return when(false);
        };
        if bytes < claim.request {
            return broken(format!("the claim at {n} is to shrink"));
        }
        claim.request = bytes;
        when(true)
    }

    fn apply(&mut self, replicas: u32, kind: Kind, storage: u64) -> Answer {
        if let Some(w) = &mut self.kube.workload {
            let same = w.replicas == replicas;
            if same {
                w.kind = kind;
            }
            return when(same);
        }
        if let Some(n) = self.voter_from(replicas) {
            return broken(format!("the StatefulSet is made anew too small for member {n}"));
        }
        self.kube.workloads_made += 1;
        self.kube.workload = Some(Workload { made: self.kube.workloads_made, replicas, kind, storage });
        when(true)
    }

    /// A place from `n` on whose member is in the table of the latched cluster.
    fn voter_from(&self, n: u32) -> Option<u32> {
        let table = self.latched.and_then(|c| self.servers.clusters.get(&c))?;
        let asleep = matches!(self.intent(), Some(Intent::Hibernate { .. } | Intent::Restore(_)));
        let held = |r: &&Row| r.disk.is_some_and(|d| self.servers.disks.contains_key(&d));
        table.rows.iter().filter(held).map(|r| r.ordinal).find(|o| *o >= n && !asleep)
    }

    fn scale(&mut self, uid: &Uid, from: u32, to: u32) -> Answer {
        let Some(w) = self.kube.workload.as_ref().filter(|w| workload_uid(w.made) == *uid && w.replicas == from) else {
            return when(false);
        };
        let up = to > w.replicas;
        if let Some(n) = self.voter_from(to).filter(|_| !up) {
            return broken(format!("the pod of member {n} is scaled away"));
        }
        if let Some(w) = &mut self.kube.workload {
            w.replicas = to;
        }
        when(true)
    }

    fn delete_pod(&mut self, place: Ordinal, uid: &Uid, force: bool, seen: &Observed, fresh: bool) -> Answer {
        let n = place.0;
        let Some(pod) = self.kube.pods.get(&n).filter(|p| pod_uid(n, p.made) == *uid) else { return when(false) };
        // The object's resource version goes with every deletion.
        let known = seen.pods.known().and_then(|p| p.get(&place));
        let same =
            |p: &Pod| (p.terminating, p.started, p.ready_changed.0) == (pod.terminating, pod.started, pod.changed);
        if !known.is_some_and(same) {
            return when(false);
        }
        if !pod.terminating && fresh {
            self.may_go_down(n)?;
        }
        let takes = !pod.terminating
            && !self.deleting
            && self.votes(n)
            && !matches!(self.intent(), Some(Intent::RecoverQuorum(_)));
        if takes {
            // Whatever anybody knew: what we took down ourselves we have to remember.
            let held = |down: &&u32| **down != n && self.bound(**down).is_some_and(|r| !r.learner);
            if let Some(down) = self.downed.iter().find(held) {
                return broken(format!("member {n} is taken down, and {down} was before it, by an operator"));
            }
            self.downed.insert(n);
        }
        if force {
            if self.bound(n).is_some() && !matches!(self.intent(), Some(Intent::RecoverQuorum(_) | Intent::Restore(_)))
            {
                return broken(format!("pod {n} was forced while its member is in the table"));
            }
            let disk = self.kube.end(n);
            self.scrap(disk);
        } else {
            self.end_soon(n);
        }
        when(true)
    }

    /// Whether a voter of the latched cluster serves there.
    fn votes(&self, n: u32) -> bool {
        let Some((cluster, id)) = self.serves(n).filter(|(c, _)| Some(*c) == self.latched) else { return false };
        self.servers.clusters[&cluster].row(id).is_some_and(|r| !r.learner)
    }

    /// The row of the latched cluster that the disk at a place is bound to.
    fn bound(&self, n: u32) -> Option<&Row> {
        let disk = self.kube.disk(n)?;
        self.servers.clusters.get(&self.latched?)?.rows.iter().find(|r| r.disk == Some(disk))
    }

    fn may_go_down(&self, n: u32) -> Result<(), Broken> {
        let Some(cluster) = self.latched.filter(|_| !self.deleting) else { return Ok(()) };
        let Some((_, id)) = self.serves(n).filter(|(c, _)| *c == cluster) else { return Ok(()) };
        let table = &self.servers.clusters[&cluster];
        if table.row(id).is_none_or(|r| r.learner) || matches!(self.intent(), Some(Intent::RecoverQuorum(_))) {
            return Ok(());
        }
        let up = |r: &Row| {
            let stays = self.kube.pods.get(&r.ordinal).is_some_and(|p| !p.terminating);
            stays && self.serves(r.ordinal) == Some((cluster, r.id))
        };
        if let Some(down) = table.rows.iter().find(|r| !r.learner && r.id != id && !up(r)) {
            return Err(Broken(format!("member {n} is taken down while {} is", down.ordinal)));
        }
        if !matches!(self.intent(), Some(Intent::Roll(_))) {
            return Err(Broken(format!("member {n} is taken down without a record")));
        }
        Ok(())
    }

    fn delete_claim(&mut self, n: u32, uid: &Uid, fresh: bool) -> Answer {
        if self.kube.disk(n).is_none_or(|d| claim_uid(d) != *uid) {
            return when(false);
        }
        if fresh && self.deleting && self.keep_claims {
            return broken(format!("the claim at {n} is deleted with the cluster, and was to be kept"));
        }
        let goes = self.deleting && self.kube.workload.is_none();
        if self.bound(n).is_some() && !goes && !matches!(self.intent(), Some(Intent::Restore(_))) {
            return broken(format!("the claim at {n} is deleted before its member is out of the table"));
        }
        self.was_saved(n, uid)?;
        let disk = self.kube.delete_claim(n);
        self.scrap(disk);
        when(true)
    }

    fn fill(&mut self, permit: &Permit) -> Answer {
        let n = permit.ordinal.0;
        let Some(disk) = self.kube.disk(n).filter(|d| claim_uid(*d) == permit.claim) else { return when(false) };
        if self.kube.pods.get(&n).is_some_and(|p| p.started) || self.servers.disks[&disk].member.is_some() {
            return broken("a backup is put into a directory that a server has opened");
        }
        self.fills.entry(permit.nonce).or_insert(Fill { disk, phase: Phase::Running });
        when(true)
    }

    /// Nobody goes on from a survivor whose data was not saved first.
    fn survivor_saved(&self, permit: &Permit) -> Result<(), Broken> {
        let disk = self.kube.disk(permit.ordinal.0).filter(|disk| claim_uid(*disk) == permit.claim);
        if permit.kind == PermitKind::ForceNew && disk.is_some_and(|disk| !self.saved.contains_key(&disk)) {
            return Err(Broken(format!("{} goes on alone before its data was saved", permit.ordinal)));
        }
        Ok(())
    }

    /// What is given up is saved before it is deleted, as far as it could be.
    fn was_saved(&self, n: u32, uid: &Uid) -> Result<(), Broken> {
        let Some(disk) = self.kube.disk(n).filter(|_| !self.deleting) else { return Ok(()) };
        let (claims, all) = match self.intent() {
            Some(Intent::RecoverQuorum(it)) => (&it.claims, true),
            Some(Intent::Restore(it)) if it.save => (&it.claims, false),
            _ => return Ok(()),
        };
        let had = self.servers.disks.get(&disk).is_some_and(|d| d.member.is_some());
        let kept = |d: &DiskId| claims.values().any(|claim| claim_uid(*d) == *claim);
        let tried = self.saved.contains_key(&disk) || self.tried.contains(&disk);
        if had && claims.values().any(|claim| claim == uid) && !(tried && (all || self.saved.keys().any(kept))) {
            return Err(Broken(format!("the claim at {n} is deleted before it was saved")));
        }
        Ok(())
    }

    fn member_add(&mut self, n: u32) -> Answer {
        let Some(cluster) = self.latched.filter(|c| self.has_quorum(*c)) else { return when(false) };
        let Some(table) = self.servers.clusters.get_mut(&cluster) else { return when(false) };
        if table.at(n).is_some() {
            return when(true);
        }
        table.added += 1;
        table.rows.push(Row { id: table.added, ordinal: n, learner: true, caught_up: false, disk: None });
        when(true)
    }

    fn member_promote(&mut self, id: MemberId) -> Answer {
        let Some(cluster) = self.latched.filter(|c| self.has_quorum(*c)) else { return when(false) };
        let ready = self.servers.clusters[&cluster]
            .row(id.0)
            .is_some_and(|r| r.caught_up && self.serves(r.ordinal) == Some((cluster, id.0)));
        let rows = self.servers.clusters.get_mut(&cluster).map(|t| t.rows.iter_mut());
        if let Some(row) = rows.into_iter().flatten().find(|r| ready && r.id == id.0) {
            row.learner = false;
        }
        when(ready)
    }

    fn member_remove(&mut self, id: MemberId, fresh: bool) -> Answer {
        let Some(cluster) = self.latched.filter(|c| self.has_quorum(*c)) else { return when(false) };
        let Some(row) = self.servers.clusters[&cluster].row(id.0).cloned() else { return when(true) };
        let whole = self.serves(row.ordinal) == Some((cluster, row.id))
            && self.kube.claims.get(&row.ordinal).is_some_and(|c| !c.terminating)
            && !self.alarms.contains(&(row.id, Alarm::Corrupt));
        let asked = self.operation.as_ref().is_some_and(|o| o.request.is_some());
        if fresh && whole && !row.learner && !asked && matches!(self.intent(), Some(Intent::ReplaceMember(_))) {
            return broken(format!("member {} is replaced, and nothing ails it", row.ordinal));
        }
        if let Some(table) = self.servers.clusters.get_mut(&cluster) {
            table.rows.retain(|r| r.id != id.0);
        }
        if fresh && !self.has_quorum(cluster) {
            return broken(format!("removing member {} cost the quorum", row.ordinal));
        }
        when(true)
    }

    fn move_leader(&mut self, to: MemberId) -> Answer {
        let Some(cluster) = self.latched.filter(|c| self.has_quorum(*c)) else { return when(false) };
        let able = self.servers.clusters[&cluster]
            .row(to.0)
            .is_some_and(|r| !r.learner && self.serves(r.ordinal) == Some((cluster, to.0)));
        if let Some(table) = self.servers.clusters.get_mut(&cluster).filter(|_| able) {
            table.leader = Some(to.0);
        }
        when(able)
    }
}
