//! One pass's look at the world: what was observed, with the judgements that every decision shares.
//!
//! A member is well when it says so itself, now, under the cluster's ID and its own, and agrees on who leads; nothing
//! else counts, no condition of a pod and nothing that status remembers. Members are told apart by ID and peer URL, never
//! by their place in a list.

use std::collections::BTreeMap;

use crate::act::{Act, Alarm};
use crate::condition::Reason;
use crate::desired::Desired;
use crate::ids::{MemberId, Ordinal, Seconds, Time};
use crate::next::Next;
use crate::observed::{Claim, Member, Observed, Pod, Status, Verdict, Workload};
use crate::operation::{Intent, Operation};

pub(crate) struct View<'a> {
    pub o: &'a Observed,
    pub d: &'a Desired,
    pub now: Time,
    pub workload: Option<&'a Workload>,
    pub pods: &'a BTreeMap<Ordinal, Pod>,
    pub claims: &'a BTreeMap<Ordinal, Claim>,
    pub table: Option<&'a [Member]>,
    /// Who leads, as most recently told.
    pub leader: Option<MemberId>,
}

/// How many of so many voters are a majority.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Why a member has to make way for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its data is gone or damaged: nothing brings it back.
    Data,
    /// It has failed to start for so long that its data, or its node, must be taken for lost.
    Hopeless,
    /// It is well, but its claim has been deleted: its next restart is its last.
    Doomed,
}

impl<'a> View<'a> {
    /// None where the API server did not tell what there is: then nothing may be decided.
    pub fn new(o: &'a Observed, d: &'a Desired, now: Time) -> Option<View<'a>> {
        let leader = o.answers.values().filter(|s| s.leader.is_some()).max_by_key(|s| s.term).and_then(|s| s.leader);
        Some(View {
            o,
            d,
            now,
            workload: o.workload.known()?.as_ref(),
            pods: o.pods.known()?,
            claims: o.claims.known()?,
            table: o.table.known().map(Vec::as_slice),
            leader,
        })
    }

    /// What people know a place by.
    pub fn pod(&self, ordinal: Ordinal) -> String {
        format!("{}-{ordinal}", self.o.cluster.name)
    }

    pub fn operation(&self) -> Option<&'a Operation> {
        self.o.cluster.operation.as_ref()
    }

    pub fn replicas(&self) -> u32 {
        self.workload.map_or(0, |w| w.replicas)
    }

    pub fn members(&self) -> &'a [Member] {
        self.table.unwrap_or_default()
    }

    pub fn member(&self, id: MemberId) -> Option<&'a Member> {
        self.members().iter().find(|m| m.id == id)
    }

    pub fn member_at(&self, ordinal: Ordinal) -> Option<&'a Member> {
        self.members().iter().find(|m| m.ordinal == Some(ordinal))
    }

    pub fn learners(&self) -> usize {
        self.members().iter().filter(|m| m.learner).count()
    }

    pub fn voters(&self) -> usize {
        self.members().len() - self.learners()
    }

    /// One past the highest place that a member has.
    pub fn span(&self) -> u32 {
        self.members().iter().filter_map(|m| m.ordinal).max().map_or(0, |o| o.0 + 1)
    }

    /// What the member at a place answered, if it is the one in the table and of this cluster.
    pub fn status(&self, ordinal: Ordinal) -> Option<&'a Status> {
        let status = self.o.answers.get(&ordinal)?;
        let ours = self.o.cluster.cluster_id == Some(status.cluster_id);
        let known = self.table.is_none() || self.member_at(ordinal).is_some_and(|m| m.id == status.member_id);
        (ours && known).then_some(status)
    }

    /// Answers, follows the leader that all follow, is not about to end, and its data is not damaged.
    pub fn well(&self, ordinal: Ordinal) -> bool {
        let stays = self.pods.get(&ordinal).is_some_and(|p| !p.terminating);
        stays
            && self
                .status(ordinal)
                .is_some_and(|s| s.leader.is_some() && s.leader == self.leader && !self.corrupt(s.member_id))
    }

    /// Voters that are well, but the one at `except`.
    pub fn well_voters(&self, except: Option<Ordinal>) -> Vec<&'a Member> {
        let counts = |m: &&Member| !m.learner && m.ordinal.is_some_and(|o| Some(o) != except && self.well(o));
        self.members().iter().filter(counts).collect()
    }

    /// Every member is a voter, well, and at its place, and nothing else is there.
    pub fn all_well(&self) -> bool {
        let n = self.members().len();
        n > 0
            && self.voters() == n
            && self.well_voters(None).len() == n
            && self.span() as usize == n
            && self.replicas() as usize == n
            && self.pods.len() == n
            && self.workload.is_some_and(|w| w.settled)
    }

    /// Whether the rest are a majority when the member at a place is down for a while.
    pub fn spare(&self, ordinal: Ordinal) -> bool {
        self.well_voters(Some(ordinal)).len() >= quorum(self.voters())
    }

    /// Whether the rest are a majority once the member at a place is out of the table, and can vote it out.
    pub fn removable(&self, ordinal: Ordinal) -> bool {
        if self.member_at(ordinal).is_some_and(|m| m.learner) {
            return self.table.is_some();
        }
        let rest = self.well_voters(Some(ordinal)).len();
        let all = self.well_voters(None).len();
        self.voters() > 1 && rest >= quorum(self.voters() - 1) && all >= quorum(self.voters())
    }

    /// Its server does not run, as far as anybody tells. One that has lost its quorum does, and one that only we can't
    /// reach does too.
    pub fn dead(&self, ordinal: Ordinal, pod: &Pod) -> bool {
        !pod.started && !pod.ready && !self.o.answers.contains_key(&ordinal)
    }

    /// Has a pod end, and waits for that. `free`: no table has its member any more, so that a pod on a node that is gone
    /// need not be waited for.
    pub fn end(&self, ordinal: Ordinal, free: bool) -> Next {
        let Some(pod) = self.pods.get(&ordinal) else { return Next::Pass };
        let force = free && pod.stranded();
        if pod.terminating && !force {
            return Next::wait(Reason::WaitingForMembers, format!("pod {ordinal} is ending"));
        }
        Next::Act(Act::DeletePod { ordinal, uid: pod.uid.clone(), force })
    }

    /// Evidence that the member at a place can't come back, or won't. Silence alone is none.
    pub fn loss(&self, ordinal: Ordinal) -> Option<Loss> {
        let answer = self.status(ordinal);
        let claim = self.claims.get(&ordinal);
        if answer.is_some_and(|s| self.corrupt(s.member_id)) {
            return Some(Loss::Data);
        }
        if answer.is_some() {
            return claim.is_some_and(|c| c.terminating).then_some(Loss::Doomed);
        }
        let pod = self.pods.get(&ordinal);
        if pod.is_some_and(|p| p.ready) && claim.is_some_and(|c| c.terminating) {
            // It serves others, and the claim lasts as long as it does.
            return Some(Loss::Doomed);
        }
        if claim.is_none_or(|c| c.terminating) || self.replaced(ordinal) {
            return Some(Loss::Data);
        }
        let pod = pod?;
        if pod.ready {
            return None;
        }
        if matches!(pod.verdict, Some(Verdict::DataLost | Verdict::Corrupt | Verdict::Removed)) {
            return Some(Loss::Data);
        }
        let limits = &self.d.recovery;
        let long = |since: Time| self.now.since(since) >= limits.min_unhealthy;
        // What no well member runs may be the template's fault, and a new disk would not help.
        let proven = self.pods.iter().any(|(n, p)| p.template == pod.template && self.well(*n));
        let crashes = proven && pod.restarts >= limits.after_restarts && long(pod.ready_changed);
        (crashes || pod.node_lost.is_some_and(long)).then_some(Loss::Hopeless)
    }

    /// Whether another claim is where the member's was: the StatefulSet makes a blank one for one that was deleted. With
    /// a quorum the members tell this themselves, and know more.
    fn replaced(&self, ordinal: Ordinal) -> bool {
        let had = self.o.cluster.volumes.get(&ordinal).filter(|_| self.table.is_none());
        had.zip(self.claims.get(&ordinal)).is_some_and(|(had, now)| *had != now.uid)
    }

    /// Whether most voters have lost their data for good, so that no waiting brings a quorum back.
    pub fn majority_gone(&self) -> bool {
        let places = self.voting();
        let gone = places.iter().filter(|n| self.loss(**n) == Some(Loss::Data)).count();
        !places.is_empty() && places.len() - gone < quorum(places.len())
    }

    /// Places whose members vote, as was last known: a StatefulSet may be larger.
    fn voting(&self) -> Vec<Ordinal> {
        let known: Vec<Ordinal> = self.o.cluster.volumes.keys().copied().collect();
        if known.is_empty() { (0..self.replicas()).map(Ordinal).collect() } else { known }
    }

    /// No majority can be seen: there is no table, too few follow one leader to give one, and too few are ready: a member
    /// is ready while it answers with a quorum, whether or not we are let in.
    pub fn quorum_lost(&self) -> bool {
        let places = self.voting();
        let most = |like: &dyn Fn(Ordinal) -> bool| places.iter().filter(|n| like(**n)).count() >= quorum(places.len());
        let ready = |n| self.pods.get(&n).is_some_and(|p: &Pod| p.ready && !p.terminating);
        self.table.is_none() && !places.is_empty() && !most(&|n| self.well(n)) && !most(&ready)
    }

    /// The voter a leader at `from` should hand over to: the lowest that is well, of those `suits` likes if there are any.
    pub fn heir(&self, from: Ordinal, suits: impl Fn(Ordinal) -> bool) -> Option<MemberId> {
        let mut able = self.well_voters(Some(from));
        able.sort_by_key(|m| (m.ordinal.is_none_or(|o| !suits(o)), m.ordinal));
        able.first().map(|m| m.id)
    }

    /// Whose data is not what the others have. As long as there is anybody all writes are refused.
    pub fn corrupted(&self) -> impl Iterator<Item = MemberId> {
        let alarms = self.o.alarms.known().into_iter().flatten();
        alarms.filter(|(_, alarm)| *alarm == Alarm::Corrupt).map(|(id, _)| *id)
    }

    pub fn corrupt(&self, id: MemberId) -> bool {
        self.corrupted().any(|one| one == id)
    }

    pub fn leads(&self, ordinal: Ordinal) -> bool {
        self.leader.is_some() && self.member_at(ordinal).map(|m| m.id) == self.leader
    }

    /// Whether this very act was just tried, and failed.
    pub fn failed(&self, act: &Act) -> bool {
        self.o.echo.iter().any(|e| !e.done && e.act == *act)
    }

    /// Whether this very act was just done.
    pub fn done(&self, act: &Act) -> bool {
        self.o.echo.iter().any(|e| e.done && e.act == *act)
    }

    /// The act, unless it was just tried: whatever came of it, it holds up nothing else.
    pub fn once(&self, act: Act) -> Next {
        if self.failed(&act) || self.done(&act) { Next::Pass } else { Next::Act(act) }
    }

    /// Writes down what is about to begin.
    pub fn record(&self, intent: Intent, span: Seconds) -> Next {
        self.record_for(intent, span, None)
    }

    pub fn record_for(&self, intent: Intent, span: Seconds, request: Option<crate::ids::Uid>) -> Next {
        let cluster = &self.o.cluster;
        Next::Act(Act::RecordIntent(Operation {
            seq: cluster.seq + 1,
            intent,
            started: self.now,
            deadline: self.now.after(span),
            generation: cluster.generation,
            request,
        }))
    }

    /// Writes down that the operation goes on as something else, for whoever asked for it.
    pub fn turn(&self, operation: &Operation, intent: Intent, span: Seconds) -> Next {
        self.record_for(intent, span, operation.request.clone())
    }

    pub fn overdue(&self, operation: &Operation) -> bool {
        self.now > operation.deadline
    }
}
