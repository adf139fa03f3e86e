//! Raft's messages to the other members: openraft's calls as messages of the peer protocol.
//!
//! Knows nothing of addresses and connections; a peer that has gone silent is given up here, so that a connection on
//! which nothing arrives any more is not waited for.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use keepstone_failpoint::points;
use keepstone_proto::keepstonepb::{peer_answer, peer_message};
use keepstone_state::MemberId;
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, OptionalSend};
use prost::Message;
use tokio::time::Instant;

use super::missed::Missed;
use super::snapshot;
use super::state_machine::SnapshotHandle;
use super::types::{TypeConfig, Vote};
use crate::cluster::Leadership;
use crate::core::Core;
use crate::peer::{PeerError, Transport, wire};

/// How long entries that were sent may go unanswered. Long enough for a slow disk; a dead connection is found sooner by
/// whoever keeps it.
const SILENCE: Duration = Duration::from_secs(5);

/// Pause after a stream that could not be opened. openraft's own comes with the first entries, which a peer that refuses
/// to talk, or is not there, never asks for.
const REOPEN: Duration = Duration::from_millis(100);

type Failure = RPCError<TypeConfig>;

/// The way to the others.
#[derive(Clone)]
pub struct Peers {
    core: Arc<Core>,
    transport: Arc<dyn Transport>,
    leadership: Leadership,
    missed: Missed,
}

impl Peers {
    /// Every answer is told to `leadership`; `missed` is the log's.
    pub fn new(core: Arc<Core>, transport: Arc<dyn Transport>, leadership: Leadership, missed: Missed) -> Self {
        Self { core, transport, leadership, missed }
    }
}

/// One peer.
pub struct Peer {
    target: u64,
    way: Peers,
    heartbeats: Punctual,
}

/// Whether heartbeats to one peer follow each other in time, as etcd looks at it: a leader that is late by more than
/// another interval is overloaded.
#[derive(Debug, Default)]
struct Punctual {
    last: Option<Instant>,
}

impl Punctual {
    /// One is sent at `now`. Whether it is late.
    fn is_late(&mut self, now: Instant, interval: Duration) -> bool {
        self.last.replace(now).is_some_and(|last| now - last > 2 * interval)
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        Peer { target, way: self.clone(), heartbeats: Punctual::default() }
    }
}

fn malformed(error: std::io::Error) -> Failure {
    RPCError::Network(NetworkError::new(&error))
}

impl Peer {
    fn failure(&self, error: PeerError, action: RPCTypes, timeout: Duration) -> Failure {
        match error {
            PeerError::Timeout { .. } => RPCError::Timeout(Timeout {
                action,
                id: self.way.core.identity.member_id.0,
                target: self.target,
                timeout,
            }),
            PeerError::NotSent { .. }
            | PeerError::Unreachable { .. }
            | PeerError::Refused { .. }
            | PeerError::Removed { .. } => RPCError::Unreachable(Unreachable::new(&AnyError::new(&error))),
            PeerError::Failed { .. } => RPCError::Network(NetworkError::new(&AnyError::new(&error))),
        }
    }

    async fn call(
        &self,
        message: peer_message::Kind,
        action: RPCTypes,
        option: &RPCOption,
    ) -> Result<peer_answer::Kind, Failure> {
        let limit = option.soft_ttl();
        let to = MemberId(self.target);
        let answer = tokio::time::timeout(limit, self.way.transport.call(to, wire::message(message))).await;
        let answer = answer.unwrap_or(Err(PeerError::Timeout { to }));
        let answer = answer.map_err(|error| self.failure(error, action, limit))?;
        self.way.leadership.heard(to);
        wire::read_answer(answer).map_err(malformed)
    }
}

fn unexpected() -> Failure {
    malformed(super::codec::corrupt("answer of a peer: it answers something else"))
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let message = peer_message::Kind::Append(wire::put_append(&rpc));
        match self.call(message, RPCTypes::AppendEntries, &option).await? {
            peer_answer::Kind::Append(answer) => wire::take_append_answer(&answer).map_err(malformed),
            _ => Err(unexpected()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>, Failure>>
    where
        S: futures_util::Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let to = MemberId(self.target);
            let session = Arc::new(Session::default());
            let (noted, missed) = (session.clone(), self.way.missed.clone());
            // openraft sends each heartbeat on a stream of its own; entries come on one without a known end.
            let is_heartbeat = input.size_hint() == (1, Some(1));
            if is_heartbeat && self.heartbeats.is_late(Instant::now(), option.hard_ttl()) {
                self.way.core.metrics.server.heartbeat_failures.inc();
            }
            let messages = input.scan((), move |(), request| {
                points::RAFT_BEFORE_LEADER_SEND.hit();
                std::future::ready(noted.message(&request, &missed))
            });
            let limit = option.soft_ttl().max(SILENCE);
            let replicating = self.way.transport.replicate(to, messages.boxed());
            let answers = tokio::time::timeout(limit, replicating).await.unwrap_or(Err(PeerError::Timeout { to }));
            let answers = match answers {
                Ok(answers) => answers,
                Err(error) => {
                    tokio::time::sleep(REOPEN).await;
                    return Err(self.failure(error, RPCTypes::AppendEntries, limit));
                }
            };
            let this = &*self;
            let state = Some((answers, 0));
            let outcomes = stream::unfold(state, move |state| {
                let session = session.clone();
                async move {
                    let (mut answers, answered) = state?;
                    let answer = next_within(&mut answers, &session.sent, answered, limit).await;
                    if answer.is_none() && session.purged.load(Ordering::Relaxed) {
                        let why = "the entries to send were purged";
                        return Some((Err(RPCError::Network(NetworkError::from_string(why))), None));
                    }
                    let outcome = match answer? {
                        Ok(bytes) => {
                            this.way.leadership.heard(to);
                            wire::take_stream_answer(bytes).map_err(malformed)
                        }
                        Err(Silent) => Err(this.failure(PeerError::Timeout { to }, RPCTypes::AppendEntries, limit)),
                    };
                    let next = matches!(outcome, Ok(Ok(_))).then_some((answers, answered + 1));
                    Some((outcome, next))
                }
            });
            Ok(outcomes.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        match self.call(peer_message::Kind::Vote(wire::put_vote(&rpc)), RPCTypes::Vote, &option).await? {
            peer_answer::Kind::Vote(answer) => wire::take_vote_answer(&answer).map_err(malformed),
            _ => Err(unexpected()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        match self.call(peer_message::Kind::PreVote(wire::put_vote(&rpc)), RPCTypes::Vote, &option).await? {
            peer_answer::Kind::Vote(answer) => wire::take_vote_answer(&answer).map_err(malformed),
            _ => Err(unexpected()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotHandle::Ticket(ticket) = snapshot.snapshot else {
            return Err(StreamingError::Closed(ReplicationClosed::new("the snapshot is not for sending")));
        };
        let to = MemberId(self.target);
        points::SNAPSHOT_BEFORE_SEND.hit();
        let sent = snapshot::send(&self.way.core, &*self.way.transport, to, vote, ticket, cancel).await;
        if sent.is_ok() {
            self.way.leadership.heard(to);
        }
        sent
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        let message = peer_message::Kind::TransferLeader(wire::put_transfer(&request));
        match self.call(message, RPCTypes::TransferLeader, &option).await? {
            peer_answer::Kind::TransferLeader(answer) if answer.accepted => Ok(Ok(())),
            peer_answer::Kind::TransferLeader(answer) => {
                Err(RPCError::Network(NetworkError::from_string(answer.why_not)))
            }
            _ => Err(unexpected()),
        }
    }
}

/// What is known of one stream of entries.
#[derive(Default)]
struct Session {
    sent: AtomicU64,
    /// It has ended because its next entries are not in the log any more.
    purged: AtomicBool,
}

impl Session {
    /// What is sent of a request; the end of the stream if the log had no entries for it.
    fn message(&self, request: &AppendEntriesRequest<TypeConfig>, missed: &Missed) -> Option<Bytes> {
        let next = request.prev_log_id.map_or(0, |prev| prev.index() + 1);
        if request.entries.is_empty() && missed.take(next) {
            self.purged.store(true, Ordering::Relaxed);
            return None;
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        Some(Bytes::from(wire::put_append(request).encode_to_vec()))
    }
}

/// Something was sent, and nothing came back for too long.
struct Silent;

/// The next answer. `None` when the stream has ended; as long as nothing is owed, it may take any time.
async fn next_within(
    answers: &mut crate::peer::Answers,
    sent: &AtomicU64,
    answered: u64,
    limit: Duration,
) -> Option<Result<Bytes, Silent>> {
    loop {
        let owed = sent.load(Ordering::Relaxed) > answered;
        match tokio::time::timeout(limit, answers.next()).await {
            Ok(Some(Ok(bytes))) => return Some(Ok(bytes)),
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a stream of log entries broke off");
                return Some(Err(Silent));
            }
            Ok(None) => return None,
            Err(_) if owed => return Some(Err(Silent)),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_late_after_more_than_two_intervals() {
        let (began, interval) = (Instant::now(), Duration::from_millis(100));
        let mut heartbeats = Punctual::default();
        let late = [0, 100, 300, 501, 600].map(|ms| heartbeats.is_late(began + Duration::from_millis(ms), interval));
        assert_eq!(late, [false, false, false, true, false]);
    }
}
