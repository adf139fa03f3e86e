//! Adding, removing and promoting members: etcd's checks, on what the leader knows, and then the log.
//!
//! A follower sends the call to its leader. The answer comes when the table has it; a removal and a promotion also wait
//! until Raft has followed, because that is what their caller relies on.

use std::time::Duration;

use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmRequest, InternalRaftRequest};
use keepstone_proto::keepstonepb::cluster_call::Kind;
use keepstone_proto::keepstonepb::{ClusterCall, ClusterCallAnswer, Member, MemberAdd, peer_answer, peer_message};
use keepstone_state::{Error, MemberId};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::plan::Row;
use super::reconcile;
use crate::api::context::Context;
use crate::peer::{PeerError, wire};

/// How long a voter must have been in contact to count as active, as in etcd.
const HEALTHY_FOR: Duration = Duration::from_secs(5);
/// How often it is looked whether Raft has followed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A learner may be promoted when it has this part of the leader's log, in percent, as in etcd.
const READY_PERCENT: u64 = 90;

/// Changes of the member table are decided one at a time: what one is allowed on, such as who is left to go on from,
/// must not be what another takes away.
#[derive(Debug, Default)]
pub struct Turn {
    /// Whether the last change may still be on its way through the log.
    unsettled: Mutex<bool>,
}

/// Carries out a call of the Cluster service, here or on the leader. Returns the members afterwards.
///
/// # Errors
/// etcd's.
pub async fn change(ctx: &Context, call: Kind) -> Result<Vec<Member>, Error> {
    let began = Instant::now();
    let limit = ctx.config.request_timeout();
    let attempt = async {
        let mut again = false;
        loop {
            let mut views = ctx.leadership.watch();
            let leader = views.borrow_and_update().leader;
            let answer = match leader {
                Some(leader) if leader == ctx.core.identity.member_id => decide(ctx, &call).await.map_err(No::Error),
                Some(leader) => ask(ctx, leader, &call).await,
                None => Err(No::Error(Error::NotLeader)),
            };
            match answer {
                Ok(members) => return Ok(members),
                Err(No::Error(Error::NotLeader)) => again = true,
                Err(no) if again && was_removed(ctx, &call, no).await => return Ok(members(ctx)),
                Err(No::Error(error)) => return Err(error),
                Err(No::Stranger) => return Err(Error::TimeoutDueToConnectionLost),
            }
            // The next leader, or the same one once it can tell that it is.
            drop(tokio::time::timeout(LOOK_EVERY * 5, views.changed()).await);
        }
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err(ctx.leadership.timeout(began)))
}

/// Why a call was not carried out.
#[derive(Clone, Copy, Debug)]
enum No {
    Error(Error),
    /// The leader does not talk to this member: Raft has done without it, and that is committed.
    Stranger,
}

async fn ask(ctx: &Context, leader: MemberId, call: &Kind) -> Result<Vec<Member>, No> {
    let message = peer_message::Kind::ClusterCall(ClusterCall { kind: Some(call.clone()) });
    let answer = ctx.transport.call(leader, wire::message(message)).await;
    match answer.map(wire::read_answer) {
        Ok(Ok(peer_answer::Kind::ClusterCall(answer))) if answer.error.is_empty() => Ok(answer.members),
        Ok(Ok(peer_answer::Kind::ClusterCall(answer))) => {
            Err(No::Error(Error::from_text(&answer.error).unwrap_or(Error::Timeout)))
        }
        Err(PeerError::Removed { .. }) => Err(No::Stranger),
        // Whether it took place is not known: the caller may look, and ask again.
        Ok(_) | Err(_) => Err(No::Error(Error::TimeoutDueToConnectionLost)),
    }
}

/// The leader's side of [`change`].
pub async fn answer(ctx: &Context, call: ClusterCall) -> ClusterCallAnswer {
    let Some(kind) = call.kind else {
        return ClusterCallAnswer { error: Error::NotCapable.to_string(), ..Default::default() };
    };
    match decide(ctx, &kind).await {
        Ok(members) => ClusterCallAnswer { members, ..Default::default() },
        Err(error) => ClusterCallAnswer { error: error.to_string(), ..Default::default() },
    }
}

async fn decide(ctx: &Context, call: &Kind) -> Result<Vec<Member>, Error> {
    if !ctx.leadership.leads() {
        return Err(Error::NotLeader);
    }
    let mut unsettled = ctx.core.changing.unsettled.lock().await;
    if *unsettled {
        // The log keeps the order: once this entry, which changes nothing, is applied, an earlier one is or never will be.
        let nothing = AlarmRequest { action: AlarmAction::Get as i32, ..Default::default() };
        propose(ctx, InternalRaftRequest { alarm: Some(nothing), ..Default::default() }).await?;
        *unsettled = false;
    }
    // What earlier leaders decided has to be in the table.
    ctx.reads.wait().await?;
    let mut removed_before = false;
    let request = match call {
        Kind::Add(add) => {
            check_add(ctx, add)?;
            InternalRaftRequest { member_add: Some(add.clone()), ..Default::default() }
        }
        Kind::Remove(remove) => {
            removed_before = ctx.core.state.read().members().is_removed(MemberId(remove.id));
            if !removed_before {
                check_remove(ctx, MemberId(remove.id))?;
            }
            InternalRaftRequest { member_remove: Some(*remove), ..Default::default() }
        }
        Kind::Promote(promote) => {
            if let Err(error) = check_promote(ctx, MemberId(promote.id)) {
                ctx.core.metrics.server.promotion_failed(&error.to_string());
                return Err(error);
            }
            InternalRaftRequest { member_promote: Some(*promote), ..Default::default() }
        }
    };
    if !removed_before {
        *unsettled = true;
        propose(ctx, request).await?;
        *unsettled = false;
    }
    drop(unsettled);
    match call {
        Kind::Add(_) => {}
        Kind::Remove(remove) => gone(ctx, MemberId(remove.id)).await?,
        Kind::Promote(promote) => {
            ctx.core.metrics.server.learner_promotions.inc();
            votes(ctx, MemberId(promote.id)).await;
        }
    }
    if removed_before { Err(Error::MemberNotFound) } else { Ok(members(ctx)) }
}

fn members(ctx: &Context) -> Vec<Member> {
    ctx.core.state.read().members().iter().cloned().collect()
}

/// Whether a later leader's `no` says no more than that an earlier one had removed whom `call` removes, and that Raft has
/// done without it.
async fn was_removed(ctx: &Context, call: &Kind, no: No) -> bool {
    let Kind::Remove(remove) = call else { return false };
    let id = MemberId(remove.id);
    let removed = || ctx.core.state.read().members().is_removed(id);
    match no {
        No::Error(Error::MemberNotFound) => removed() || ctx.reads.wait().await.is_ok() && removed(),
        No::Error(_) => false,
        No::Stranger => id == ctx.core.identity.member_id,
    }
}

async fn propose(ctx: &Context, request: InternalRaftRequest) -> Result<(), Error> {
    ctx.proposer.propose(request).await.map(drop)
}

/// Waits until Raft has done without a removed member, and that is applied: whoever is told of the removal may end the
/// member, and what is not committed then could need its vote for ever.
///
/// # Errors
/// `NotLeader` when the next leader has to see to it, `Timeout`.
async fn gone(ctx: &Context, id: MemberId) -> Result<(), Error> {
    let due = Instant::now() + ctx.config.request_timeout();
    while ctx.core.in_raft(id) || reconcile::situation(ctx).joint {
        if !ctx.leadership.leads() {
            return Err(Error::NotLeader);
        }
        if Instant::now() >= due {
            return Err(Error::Timeout);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until a promoted member votes, or this member leads no longer: the next leader goes on then.
async fn votes(ctx: &Context, id: MemberId) {
    while ctx.leadership.leads() {
        let s = reconcile::situation(ctx);
        if s.voters.contains(&id) && !s.joint {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Visible voters and how many of them have started, leaving one out.
fn started(ctx: &Context, except: Option<MemberId>) -> (usize, usize) {
    let state = ctx.core.state.read();
    let voters = state.members().iter().filter(|member| !member.is_learner && Some(MemberId(member.id)) != except);
    voters.fold((0, 0), |(all, started), member| (all + 1, started + usize::from(!member.name.is_empty())))
}

/// Visible voters that this member has been in contact with for long enough, itself included.
fn healthy(ctx: &Context) -> (usize, usize) {
    let me = ctx.core.identity.member_id;
    let state = ctx.core.state.read();
    let voters = state.members().iter().filter(|member| !member.is_learner).map(|member| MemberId(member.id));
    voters.fold((0, 0), |(all, healthy), id| {
        let long = ctx.leadership.contact_since(id).is_some_and(|since| since.elapsed() >= HEALTHY_FOR);
        (all + 1, healthy + usize::from(id == me || long))
    })
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn check_add(ctx: &Context, add: &MemberAdd) -> Result<(), Error> {
    ctx.core.state.read().members().check_add(add, ctx.config.max_learners)?;
    if !ctx.config.strict_reconfig_check {
        return Ok(());
    }
    let (all, started) = started(ctx, None);
    // Growing from one to two, a quorum of the new cluster lacks a started member: there is no other way out of one.
    let from_one = started == 1 && all == 1;
    if !add.is_learner && !from_one && started < quorum(all + 1) {
        return Err(Error::MemberNotEnoughStarted);
    }
    let (all, healthy) = healthy(ctx);
    if healthy < all { Err(Error::Unhealthy) } else { Ok(()) }
}

fn check_remove(ctx: &Context, id: MemberId) -> Result<(), Error> {
    let learner = {
        let state = ctx.core.state.read();
        state.members().get(id).ok_or(Error::MemberNotFound)?.is_learner
    };
    let s = reconcile::situation(ctx);
    // Whatever the settings: somebody has to be left who has the data, and is not about to go as well.
    let stays = |row: &&Row| row.id != id && !row.learner && s.voters.contains(&row.id);
    let heirs = s.table.iter().filter(stays).filter(|row| s.caught_up.contains(&row.id));
    if s.voters.contains(&id) && heirs.count() == 0 {
        return Err(Error::MemberNotEnoughStarted);
    }
    if !ctx.config.strict_reconfig_check || learner {
        return Ok(());
    }
    let (all, started) = started(ctx, Some(id));
    if all == 0 || started < quorum(all) {
        return Err(Error::MemberNotEnoughStarted);
    }
    // One that is down is no part of the quorum that works.
    if id != ctx.core.identity.member_id && ctx.leadership.contact_since(id).is_none() {
        return Ok(());
    }
    let (all, healthy) = healthy(ctx);
    if healthy.saturating_sub(1) < quorum(all - 1) { Err(Error::Unhealthy) } else { Ok(()) }
}

fn check_promote(ctx: &Context, id: MemberId) -> Result<(), Error> {
    {
        let state = ctx.core.state.read();
        let member = state.members().get(id).ok_or(Error::MemberNotFound)?;
        if !member.is_learner {
            return Err(Error::MemberNotLearner);
        }
    }
    if !is_ready(ctx, id) {
        return Err(Error::LearnerNotReady);
    }
    // The learner counts as one that has started.
    let (all, started) = started(ctx, None);
    let enough = !ctx.config.strict_reconfig_check || started + 1 >= quorum(all + 1);
    if enough { Ok(()) } else { Err(Error::MemberNotEnoughStarted) }
}

fn is_ready(ctx: &Context, id: MemberId) -> bool {
    let metrics = ctx.raft.metrics();
    let now = metrics.borrow_watched();
    let last = now.last_log_index.unwrap_or(0);
    let matched = now.replication.as_ref().and_then(|all| all.get(&id.0)).and_then(|m| m.as_ref()).map(|m| m.index());
    matched.is_some_and(|matched| matched * 100 >= last * READY_PERCENT)
}
