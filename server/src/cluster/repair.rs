//! Repairing a member whose data differs: the leader sends it the state as it would to one that lags.
//!
//! A member takes a snapshot only if that is newer than all of its own log. So it is told to take no entries for a while;
//! the leader writes one, and sends the state after that. What is installed then, and how a crash in between ends, is the
//! snapshot's own affair. The alarm is lowered once the hashes are equal.

use std::sync::Arc;
use std::time::Duration;

use keepstone_failpoint::points;
use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, InternalRaftRequest};
use keepstone_proto::keepstonepb::{Repair, RepairAnswer, RepairHold, RepairHoldAnswer, peer_answer, peer_message};
use keepstone_state::MemberId;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::context::Context;
use crate::clocks::corruption;
use crate::host;
use crate::peer::wire;
use crate::raft::snapshot::{self, Outgoing};

/// How long a member waits for the repair it was promised, at most; with another leader it is over at once.
const HOLD: Duration = Duration::from_secs(600);
/// How long a repair may take.
const LIMIT: Duration = Duration::from_secs(1800);

/// Whether this member takes no entries. See the module's head.
#[derive(Debug, Default)]
pub struct Hold {
    /// In which term, and until when.
    promised: Mutex<Option<(u64, Instant)>>,
}

/// Whether this member takes no entries now.
pub fn is_held(ctx: &Context) -> bool {
    let Some((term, until)) = *ctx.core.hold.promised.lock() else { return false };
    Instant::now() < until && ctx.raft.metrics().borrow_watched().current_term == term
}

/// A member's answer to being told to take no entries, or to take them again.
///
/// # Errors
/// Raft has stopped.
pub async fn hold(ctx: &Context, asked: RepairHold) -> Result<RepairHoldAnswer, String> {
    let term = ctx.raft.metrics().borrow_watched().current_term;
    *ctx.core.hold.promised.lock() = asked.on.then(|| (term, Instant::now() + HOLD));
    // Asked of Raft itself, behind whatever was given to it before.
    let last = ctx.raft.with_raft_state(|state| state.log_ids.last().map_or(0, |id| id.index()));
    Ok(RepairHoldAnswer { last_index: last.await.map_err(|error| error.to_string())? })
}

/// Has a member repaired, here or on the leader. Goes on if the caller does not wait for it.
///
/// # Errors
/// Why it was not repaired.
pub async fn order(ctx: &Arc<Context>, id: MemberId) -> Result<(), String> {
    let leader = ctx.leadership.leader().ok_or("there is no leader")?;
    if leader != ctx.core.identity.member_id {
        let message = peer_message::Kind::Repair(Repair { member_id: id.0 });
        let answer = ctx.transport.call(leader, wire::message(message)).await.map_err(|error| error.to_string())?;
        return match wire::read_answer(answer).map_err(|error| error.to_string())? {
            peer_answer::Kind::Repair(answer) if answer.error.is_empty() => Ok(()),
            peer_answer::Kind::Repair(answer) => Err(answer.error),
            _ => Err("the leader answers something else".to_owned()),
        };
    }
    let ctx = ctx.clone();
    let repairing = host::spawn(async move { repair(&ctx, id).await });
    repairing.await.map_err(|_| "the member stops".to_owned())?
}

/// The leader's answer to [`order`].
pub async fn answer(ctx: &Arc<Context>, asked: Repair) -> RepairAnswer {
    if !ctx.leadership.leads() {
        return RepairAnswer { error: "the leader has changed".to_owned() };
    }
    RepairAnswer { error: order(ctx, MemberId(asked.member_id)).await.err().unwrap_or_default() }
}

/// Repairs a member and lowers its alarm. This member leads.
///
/// # Errors
/// Why it was not repaired; it is as it was, or has a whole state of the leader's and the alarm is left.
pub async fn repair(ctx: &Context, id: MemberId) -> Result<(), String> {
    if id == ctx.core.identity.member_id {
        return Err("it leads: move leadership to a member whose data is right first".to_owned());
    }
    if ctx.core.state.read().members().get(id).is_none() {
        return Err(format!("there is no member {:x}", id.0));
    }
    tracing::warn!("member-id" = format!("{:x}", id.0), "repairing a member: it gets this one's state");
    let last = told(ctx, id, true).await?;
    points::REPAIR_BEFORE_BRING.hit();
    let brought = tokio::time::timeout(LIMIT, bring(ctx, id, last)).await;
    points::REPAIR_AFTER_BRING.hit();
    let freed = told(ctx, id, false).await;
    brought.unwrap_or_else(|_| Err("it took too long".to_owned()))?;
    freed?;
    corruption::agrees(ctx, id).await?;
    if alarmed(ctx).contains(&id) {
        alarm(ctx, id, AlarmAction::Deactivate).await?;
    }
    tracing::warn!("member-id" = format!("{:x}", id.0), "repaired a member");
    Ok(())
}

async fn told(ctx: &Context, id: MemberId, on: bool) -> Result<u64, String> {
    let message = peer_message::Kind::RepairHold(RepairHold { on });
    let answer = ctx.transport.call(id, wire::message(message)).await.map_err(|error| error.to_string())?;
    match wire::read_answer(answer).map_err(|error| error.to_string())? {
        peer_answer::Kind::RepairHold(answer) => Ok(answer.last_index),
        _ => Err("the member answers something else".to_owned()),
    }
}

async fn bring(ctx: &Context, id: MemberId, last: u64) -> Result<(), String> {
    while ctx.core.applied_index() <= last {
        // An entry that changes nothing: the alarm is there, or is to be.
        alarm(ctx, id, AlarmAction::Activate).await?;
    }
    ctx.core.outgoing.renew();
    let vote = ctx.raft.metrics().borrow_watched().vote;
    let ticket = Outgoing::ticket(&ctx.core);
    let never = std::future::pending();
    let sent = snapshot::send(&ctx.core, &*ctx.transport, id, vote, ticket, never).await;
    sent.map(drop).map_err(|error| error.to_string())
}

async fn alarm(ctx: &Context, id: MemberId, action: AlarmAction) -> Result<(), String> {
    let alarm = AlarmRequest { action: action as i32, member_id: id.0, alarm: AlarmType::Corrupt as i32 };
    let request = InternalRaftRequest { alarm: Some(alarm), ..Default::default() };
    ctx.proposer.propose(request).await.map(drop).map_err(|error| error.to_string())
}

/// Members that are known to differ.
pub fn alarmed(ctx: &Context) -> Vec<MemberId> {
    let state = ctx.core.state.read();
    let alarms: Vec<AlarmMember> = state.alarms().list(AlarmType::Corrupt as i32);
    let ids = alarms.into_iter().map(|alarm| MemberId(alarm.member_id));
    ids.filter(|id| state.members().get(*id).is_some()).collect()
}
