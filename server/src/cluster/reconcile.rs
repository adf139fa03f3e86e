//! Makes Raft's membership what the member table says, step by step, as long as this member leads. A new leader goes on
//! where the last one stopped: all it needs is in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keepstone_state::MemberId;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{ChangeMembers, EmptyNode, Instant as _, RaftMetrics};

use super::plan::{self, Row, Situation, Step};
use crate::api::context::Context;
use crate::raft::types::TypeConfig;

/// How often a leader looks whether something is left to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Entries a member may be behind and still count as caught up.
const CAUGHT_UP: u64 = 256;

/// What a step is decided on, as this member sees it now.
pub fn situation(ctx: &Context) -> Situation {
    let metrics = ctx.raft.metrics();
    let now = metrics.borrow_watched();
    let membership = now.membership_config.membership();
    let voters: BTreeSet<MemberId> = membership.voter_ids().map(MemberId).collect();
    let state = ctx.core.state.read();
    let table = state.members();
    Situation {
        me: ctx.core.identity.member_id,
        table: table
            .iter()
            .map(|member| {
                let id = MemberId(member.id);
                Row { id, learner: member.is_learner, bound: table.incarnation(id).is_some() }
            })
            .collect(),
        learners: membership.learner_ids().map(MemberId).filter(|id| !voters.contains(id)).collect(),
        joint: membership.get_joint_config().len() > 1,
        caught_up: caught_up(&now, ctx.config.election_timeout),
        voters,
    }
}

fn caught_up(now: &RaftMetrics<TypeConfig>, patience: Duration) -> BTreeSet<MemberId> {
    let last = now.last_log_index.unwrap_or(0);
    let answers = now.heartbeat.as_ref();
    let lately = |id: &u64| {
        answers.and_then(|all| all.get(id)).and_then(Option::as_ref).is_some_and(|at| at.elapsed() <= patience)
    };
    let Some(replication) = &now.replication else { return BTreeSet::new() };
    let close = |matched: Option<u64>| matched.is_some_and(|index| index + CAUGHT_UP >= last);
    let others =
        replication.iter().filter(|(id, matched)| lately(id) && close(matched.as_ref().map(|log_id| log_id.index())));
    others.map(|(id, _)| MemberId(*id)).chain([MemberId(now.id)]).collect()
}

/// Runs until the member stops.
pub async fn run(ctx: Arc<Context>) {
    let mut members = ctx.core.members_changed();
    let mut views = ctx.leadership.watch();
    loop {
        members.borrow_and_update();
        if views.has_changed().is_err() {
            return;
        }
        let pending = if ctx.leadership.leads() { step(&ctx).await } else { false };
        if pending || ctx.leadership.leads() && differs(&ctx) {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        tokio::select! {
            biased;
            changed = members.changed() => if changed.is_err() { return },
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}

/// Whether the table and Raft's membership differ in anything, be it something that has to wait.
pub fn differs(ctx: &Context) -> bool {
    let s = situation(ctx);
    let voters: BTreeSet<MemberId> = s.table.iter().filter(|row| !row.learner).map(|row| row.id).collect();
    let learners: BTreeSet<MemberId> = s.table.iter().filter(|row| row.learner).map(|row| row.id).collect();
    s.joint || s.voters != voters || s.learners != learners
}

/// Members that the table has as voters and that have no vote yet: they have not caught up, or never run. Known to every
/// member, in the order of their IDs.
pub fn pending_promotions(ctx: &Context) -> Vec<MemberId> {
    let metrics = ctx.raft.metrics();
    let now = metrics.borrow_watched();
    let voters: BTreeSet<u64> = now.membership_config.voter_ids().collect();
    let state = ctx.core.state.read();
    let voting = state.members().iter().filter(|member| !member.is_learner);
    voting.filter(|member| !voters.contains(&member.id)).map(|member| MemberId(member.id)).collect()
}

/// Takes the next step; whether there was one.
async fn step(ctx: &Context) -> bool {
    // Raft's membership is known from the log at once, the table only once it is applied: a new leader whose table is
    // behind would take back what the last one has done.
    if ctx.reads.wait().await.is_err() {
        return true;
    }
    let Some(step) = plan::next(&situation(ctx)) else { return false };
    tracing::info!(?step, "changing Raft's membership");
    let ids = |id: MemberId| BTreeSet::from([id.0]);
    let change = match step {
        Step::HandOver(to) => {
            drop(ctx.raft.trigger().transfer_leader(to.0).await);
            return true;
        }
        Step::Finish => ChangeMembers::AddVoterIds(BTreeSet::new()),
        Step::AddLearner(id) => ChangeMembers::AddNodes(BTreeMap::from([(id.0, EmptyNode {})])),
        Step::Promote(id) => ChangeMembers::AddVoterIds(ids(id)),
        Step::Remove(id) if situation(ctx).voters.contains(&id) => ChangeMembers::RemoveVoters(ids(id)),
        Step::Remove(id) => ChangeMembers::RemoveNodes(ids(id)),
    };
    if let Err(error) = ctx.raft.change_membership(change, false).await {
        tracing::warn!(?step, %error, "Raft's membership could not be changed now");
    }
    true
}
