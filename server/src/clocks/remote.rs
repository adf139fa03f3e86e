//! Renewals and times of leases, wherever the leader is: here, or at the other end of a peer's connection.

use std::time::Duration;

use futures_util::future::join_all;
use keepstone_proto::keepstonepb::{
    LeaseTime, LeaseTimeAnswer, RenewLeases, RenewLeasesAnswer, peer_answer, peer_message,
};
use keepstone_state::{Error, LeaseId, MemberId};
use tokio::time::Instant;
use tonic::Status;

use super::lease::{self, Renewal};
use crate::api::context::Context;
use crate::api::error::status;
use crate::peer::wire;

/// Pause before a leader is looked for again, unless it changes first.
const RETRY: Duration = Duration::from_millis(50);
/// An answer that stands for a lease which would have to be waited for.
const ASK_AGAIN: i64 = -1;

/// Waits for a leader: `None` if it is this member.
async fn leader(ctx: &Context, began: Instant) -> Result<Option<MemberId>, Status> {
    let mut views = ctx.leadership.watch();
    let known = views.wait_for(|view| view.leader.is_some());
    let view = tokio::time::timeout_at(began + ctx.config.request_timeout(), known).await;
    match view {
        Ok(Ok(view)) => Ok(view.leader.filter(|leader| *leader != ctx.core.identity.member_id)),
        Ok(Err(_)) => Err(status(&Error::Stopped)),
        Err(_) => Err(status(&ctx.leadership.timeout(began))),
    }
}

/// Rests a moment, as long as the caller's time is not over.
async fn rest(ctx: &Context, began: Instant) -> Result<(), Status> {
    if began.elapsed() > ctx.config.request_timeout() {
        return Err(status(&ctx.leadership.timeout(began)));
    }
    let mut views = ctx.leadership.watch();
    drop(tokio::time::timeout(RETRY, views.changed()).await);
    Ok(())
}

fn refused(error: &str) -> Status {
    status(&Error::from_text(error).unwrap_or(Error::Timeout))
}

/// Starts the time of leases anew, as far as that can be done at once.
///
/// # Errors
/// There is no leader, or it can't be asked.
pub async fn renew_all(ctx: &Context, ids: &[LeaseId]) -> Result<Vec<Renewal>, Status> {
    let began = Instant::now();
    loop {
        let renewals = match leader(ctx, began).await? {
            None => here(ctx, ids).await?,
            Some(leader) => match there(ctx, leader, ids, false).await? {
                Some(renewals) => renewals,
                None => {
                    rest(ctx, began).await?;
                    continue;
                }
            },
        };
        return Ok(renewals);
    }
}

async fn here(ctx: &Context, ids: &[LeaseId]) -> Result<Vec<Renewal>, Status> {
    ctx.linearizable().await?;
    let mut renewals: Vec<Renewal> = ids.iter().map(|id| ctx.core.leases.renew(*id)).collect();
    let noted = ids.iter().zip(&renewals).filter(|(_, renewal)| matches!(renewal, Renewal::ClearFirst));
    let to_clear: Vec<(LeaseId, i64)> = noted.map(|(id, _)| (*id, 0)).collect();
    if !to_clear.is_empty() {
        lease::checkpoint(ctx, &to_clear).await?;
        for (id, renewal) in ids.iter().zip(&mut renewals) {
            if matches!(renewal, Renewal::ClearFirst) {
                *renewal = ctx.core.leases.renew(*id);
            }
        }
    }
    Ok(renewals)
}

/// `None` if the one asked does not lead or could not be asked: a renewal may be repeated.
async fn there(ctx: &Context, leader: MemberId, ids: &[LeaseId], wait: bool) -> Result<Option<Vec<Renewal>>, Status> {
    let message = RenewLeases { ids: ids.iter().map(|id| id.0).collect(), wait };
    let answer = ctx.transport.call(leader, wire::message(peer_message::Kind::RenewLeases(message))).await;
    let Ok(Ok(peer_answer::Kind::RenewLeases(answer))) = answer.map(wire::read_answer) else { return Ok(None) };
    if answer.error == Error::NotLeader.to_string() {
        return Ok(None);
    }
    if !answer.error.is_empty() || answer.ttls.len() != ids.len() {
        return Err(refused(&answer.error));
    }
    let renewal = |ttl| match ttl {
        ASK_AGAIN => Renewal::AskAgain,
        ..=0 => Renewal::Unknown,
        ttl => Renewal::For(ttl),
    };
    Ok(Some(answer.ttls.into_iter().map(renewal).collect()))
}

/// Renews a lease that something stands in the way of. Returns its time in seconds, 0 if it is not there.
///
/// # Errors
/// There is no leader, or it can't be asked.
pub async fn insist(ctx: &Context, id: LeaseId, mut renewal: Renewal) -> Result<i64, Status> {
    let began = Instant::now();
    loop {
        match renewal {
            Renewal::For(ttl) => return Ok(ttl),
            Renewal::Unknown => return Ok(0),
            Renewal::Later(changed) => drop(changed.await),
            Renewal::ClearFirst => lease::checkpoint(ctx, &[(id, 0)]).await?,
            Renewal::NotLeading => rest(ctx, began).await?,
            Renewal::AskAgain => {}
        }
        renewal = match leader(ctx, began).await? {
            None => here(ctx, &[id]).await?.pop().unwrap_or(Renewal::Unknown),
            Some(leader) => match there(ctx, leader, &[id], true).await?.and_then(|mut renewals| renewals.pop()) {
                Some(renewal) => renewal,
                None => Renewal::NotLeading,
            },
        };
    }
}

/// The leader's side of a follower's renewals.
pub async fn renew(ctx: &Context, renew: RenewLeases) -> RenewLeasesAnswer {
    let ids: Vec<LeaseId> = renew.ids.into_iter().map(LeaseId).collect();
    let outcome = async {
        if !ctx.leadership.leads() {
            return Err(status(&Error::NotLeader));
        }
        let renewals = here(ctx, &ids).await?;
        let ttls = ids.iter().zip(renewals).map(|(id, renewal)| async move {
            match renewal {
                Renewal::For(ttl) => Ok(ttl),
                Renewal::Unknown => Ok(0),
                Renewal::NotLeading if !ctx.leadership.leads() => Err(status(&Error::NotLeader)),
                later if renew.wait => insist(ctx, *id, later).await,
                _ => Ok(ASK_AGAIN),
            }
        });
        join_all(ttls).await.into_iter().collect::<Result<Vec<_>, _>>()
    };
    match outcome.await {
        Ok(ttls) => RenewLeasesAnswer { ttls, ..Default::default() },
        Err(refusal) => RenewLeasesAnswer { error: refusal.message().to_owned(), ..Default::default() },
    }
}

/// The seconds left of a lease and those it was granted for; `None` if it is not there. Call it after a read was made
/// linearizable.
///
/// # Errors
/// There is no leader, or it can't be asked.
pub async fn time_left(ctx: &Context, id: LeaseId) -> Result<Option<(i64, i64)>, Status> {
    let began = Instant::now();
    loop {
        let Some(leader) = leader(ctx, began).await? else {
            if let Some(found) = time_here(ctx, id) {
                return Ok(found);
            }
            rest(ctx, began).await?;
            continue;
        };
        let message = wire::message(peer_message::Kind::LeaseTime(LeaseTime { id: id.0 }));
        match ctx.transport.call(leader, message).await.map(wire::read_answer) {
            Ok(Ok(peer_answer::Kind::LeaseTime(answer))) if answer.error.is_empty() => {
                return Ok((answer.ttl >= 0).then_some((answer.ttl, answer.granted_ttl)));
            }
            Ok(Ok(peer_answer::Kind::LeaseTime(answer))) if answer.error != Error::NotLeader.to_string() => {
                return Err(refused(&answer.error));
            }
            _ => rest(ctx, began).await?,
        }
    }
}

/// `None` while this member's clock does not run.
fn time_here(ctx: &Context, id: LeaseId) -> Option<Option<(i64, i64)>> {
    let state = ctx.core.state.read();
    if state.leases().get(id).is_none() {
        return Some(None);
    }
    let (left, granted) = ctx.core.leases.remaining(id)?;
    Some(Some((i64::try_from(left.as_secs()).unwrap_or(i64::MAX), granted)))
}

/// The leader's side of a follower's question.
pub async fn time(ctx: &Context, asked: LeaseTime) -> LeaseTimeAnswer {
    let refuse = |error: Error| LeaseTimeAnswer { error: error.to_string(), ..Default::default() };
    if !ctx.leadership.leads() {
        return refuse(Error::NotLeader);
    }
    if let Err(error) = ctx.reads.wait().await {
        return refuse(error);
    }
    match time_here(ctx, LeaseId(asked.id)) {
        Some(Some((ttl, granted_ttl))) => LeaseTimeAnswer { ttl, granted_ttl, ..Default::default() },
        Some(None) => LeaseTimeAnswer { ttl: -1, ..Default::default() },
        None => refuse(Error::NotLeader),
    }
}
