//! What other members ask of this one: Raft's messages, and what only a leader can decide or answer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use keepstone_failpoint::points;
use keepstone_proto::etcdserverpb::InternalRaftRequest;
use keepstone_proto::keepstonepb::{
    Propose, ProposeAnswer, ReadIndexAnswer, SnapshotProgressAnswer, TransferLeaderAnswer, peer_answer, peer_message,
};
use keepstone_state::MemberId;
use openraft::ReadPolicy;
use prost::Message;

use super::{Inbox, wire};
use crate::api::context::Context;
use crate::cluster::{changes, repair};
use crate::raft::types::Request;

/// The inbox of a member that runs.
pub struct MemberInbox {
    ctx: Arc<Context>,
}

impl MemberInbox {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Inbox for MemberInbox {
    fn call(&self, from: MemberId, message: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let ctx = self.ctx.clone();
        async move {
            ctx.leadership.heard(from);
            let message = wire::read_message(message).map_err(text)?;
            answer(&ctx, message).await.map(wire::answer)
        }
        .boxed()
    }

    fn replicate(
        &self,
        from: MemberId,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, String>> {
        let leadership = self.ctx.leadership.clone();
        let ctx = self.ctx.clone();
        // What can't be read or is not wanted now ends the stream; the sender starts another one.
        let readable = messages.map(wire::take_append_bytes).take_while(move |read: &io::Result<wire::Append>| {
            let fine = read.as_ref().map_err(|error| tracing::error!(%error, "a peer's entries can't be read"));
            std::future::ready(fine.is_ok_and(|append| append.entries.is_empty() || !repair::is_held(&ctx)))
        });
        let requests = readable.filter_map(move |read| {
            leadership.heard(from);
            std::future::ready(read.ok())
        });
        let outcomes = self.ctx.raft.stream_append(requests);
        let answers = outcomes.map(|outcome| {
            points::RAFT_BEFORE_FOLLOWER_SEND.hit();
            outcome.map(|outcome| wire::put_stream_answer(&outcome)).map_err(text)
        });
        answers.boxed()
    }

    fn snapshot(
        &self,
        from: MemberId,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let ctx = self.ctx.clone();
        async move {
            ctx.leadership.heard(from);
            let receiving = ctx.core.metrics.network.snapshots_from(from.0).begin();
            let received = ctx.snapshots.receive(header, pieces).await.map_err(|error| {
                tracing::info!(%error, "a snapshot was not received");
                error.to_string()
            });
            if received.is_ok() {
                receiving.succeeded();
            }
            received
        }
        .boxed()
    }
}

async fn answer(ctx: &Arc<Context>, message: peer_message::Kind) -> Result<peer_answer::Kind, String> {
    use {peer_answer::Kind as A, peer_message::Kind as M};
    Ok(match message {
        M::Vote(vote) => {
            let answer = ctx.raft.vote(wire::take_vote(&vote).map_err(text)?).await.map_err(text)?;
            A::Vote(wire::put_vote_answer(&answer))
        }
        M::PreVote(vote) => {
            let answer = ctx.raft.pre_vote(wire::take_vote(&vote).map_err(text)?).await.map_err(text)?;
            A::Vote(wire::put_vote_answer(&answer))
        }
        M::Append(append) => {
            let append = wire::take_append(append).map_err(text)?;
            if !append.entries.is_empty() && repair::is_held(ctx) {
                return Err("this member waits to be repaired".to_owned());
            }
            let answer = ctx.raft.append_entries(append).await.map_err(text)?;
            A::Append(wire::put_append_answer(&answer))
        }
        M::TransferLeader(transfer) => {
            let request = wire::take_transfer(&transfer).map_err(text)?;
            let outcome = ctx.raft.handle_transfer_leader(request).await.map_err(text)?;
            let why_not = outcome.as_ref().err().map(text).unwrap_or_default();
            A::TransferLeader(TransferLeaderAnswer { accepted: outcome.is_ok(), why_not })
        }
        M::ReadIndex(_) => {
            let confirmed = ctx.raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
            let index = confirmed.ok().map(|confirmed| confirmed.read_log_id().index());
            A::ReadIndex(ReadIndexAnswer { index })
        }
        M::Propose(propose) => A::Propose(ProposeAnswer { taken: take(ctx, propose).await? }),
        M::RenewLeases(renew) => A::RenewLeases(crate::clocks::remote::renew(ctx, renew).await),
        M::LeaseTime(time) => A::LeaseTime(crate::clocks::remote::time(ctx, time).await),
        M::ClusterCall(call) => A::ClusterCall(changes::answer(ctx, call).await),
        M::SnapshotProgress(asked) => {
            let state = ctx.snapshots.progress(&asked.id).await.map_err(text)?;
            A::SnapshotProgress(SnapshotProgressAnswer { state })
        }
        M::RepairHold(asked) => A::RepairHold(repair::hold(ctx, asked).await?),
        M::Repair(asked) => A::Repair(repair::answer(ctx, asked).await),
        M::HashAt(asked) => A::HashAt(crate::clocks::corruption::answer(ctx, asked).await),
    })
}

/// Gives a follower's requests to the log; whether they were taken. The follower answers its clients when it applies
/// them.
async fn take(ctx: &Context, propose: Propose) -> Result<bool, String> {
    if ctx.core.records.is_over_dirty_limit() {
        return Ok(false);
    }
    let read = |encoded: Bytes| {
        let decoded = InternalRaftRequest::decode(encoded.clone()).map_err(text)?;
        Ok::<_, String>(Request { encoded, decoded: Box::new(decoded) })
    };
    let requests: Vec<Request> = propose.requests.into_iter().map(read).collect::<Result<_, _>>()?;
    ctx.route.take(requests).await.map_err(|_stopped| "Raft has stopped".to_owned())
}
