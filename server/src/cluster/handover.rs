//! Giving leadership to another member: asked for by a client, or because this one is about to stop.

use std::time::Duration;

use keepstone_state::{Error, MemberId};

use super::reconcile::situation;
use crate::api::context::Context;

/// How often a transfer that was refused is tried again: the other one's log may be a moment behind.
const RETRY: Duration = Duration::from_millis(50);

/// Hands leadership to a voter and waits until it leads.
///
/// # Errors
/// This member does not lead, the other is no voter, or it does not lead within `limit`.
pub async fn transfer(ctx: &Context, to: MemberId, limit: Duration) -> Result<(), Error> {
    if !ctx.leadership.leads() {
        return Err(Error::NotLeader);
    }
    if !situation(ctx).voters.contains(&to) {
        return Err(Error::BadLeaderTransferee);
    }
    if to == ctx.core.identity.member_id {
        return Ok(());
    }
    let mut views = ctx.leadership.watch();
    let arrived = async {
        loop {
            if views.borrow_and_update().leader == Some(to) {
                return Ok(());
            }
            if ctx.leadership.leads() {
                ctx.raft.trigger().transfer_leader(to.0).await.map_err(|_| Error::Stopped)?;
            }
            if tokio::time::timeout(RETRY, views.changed()).await.is_ok_and(|changed| changed.is_err()) {
                return Err(Error::Stopped);
            }
        }
    };
    tokio::time::timeout(limit, arrived).await.unwrap_or(Err(Error::Timeout))
}

/// Lets another voter lead, if this member does and there is one that is ready. What a member does before it stops.
pub async fn step_aside(ctx: &Context) {
    if !ctx.leadership.leads() {
        return;
    }
    let s = situation(ctx);
    let Some(heir) = s.voters.iter().find(|id| **id != s.me && s.caught_up.contains(id)) else { return };
    match transfer(ctx, *heir, ctx.config.election_timeout).await {
        Ok(()) => tracing::info!(to = format!("{:x}", heir.0), "another member leads now"),
        Err(error) => tracing::warn!(%error, "leadership could not be handed over"),
    }
}
