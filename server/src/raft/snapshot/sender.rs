//! Sending the state to a member that lags: from where it left off if the connection broke, at a pace that leaves the
//! machine to the requests.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use keepstone_proto::keepstonepb::{SnapshotProgress, peer_answer, peer_message};
use keepstone_state::MemberId;
use openraft::AnyError;
use openraft::error::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::blocking;
use super::content::Cursor;
use super::cut::{CutError, Next};
use super::outgoing::{Outgoing, Ticket, Using};
use super::wire::{self, Header};
use crate::core::Core;
use crate::peer::{self, PeerError, Transport};
use crate::raft::codec;
use crate::raft::types::{TypeConfig, Vote};

/// Rest after each unit of up to 1 MiB, so that a transfer takes at most about half of a core and of the disk.
const REST: Duration = Duration::from_millis(5);
/// A transfer of which nothing was taken for so long is given up.
const STALL: Duration = Duration::from_secs(30);
/// How long the receiver may take, once it has all, to check and install it: so much, and a second for each so many bytes.
const INSTALL: Duration = Duration::from_secs(60);
const INSTALL_BYTES_A_SECOND: u64 = 8 << 20;

/// What a transfer's ends tell each other.
struct Course {
    moved: Mutex<Instant>,
    /// Bytes of the whole, once it is all sent.
    all: OnceLock<u64>,
    failed: OnceLock<CutError>,
}

type Failed = StreamingError<TypeConfig>;

fn network(why: impl ToString) -> Failed {
    StreamingError::Network(NetworkError::new(&AnyError::error(why.to_string())))
}

fn refused(error: PeerError) -> Failed {
    match error {
        PeerError::Timeout { .. } | PeerError::Failed { .. } => network(error),
        PeerError::NotSent { .. }
        | PeerError::Unreachable { .. }
        | PeerError::Refused { .. }
        | PeerError::Removed { .. } => StreamingError::Unreachable(Unreachable::new(&AnyError::error(error))),
    }
}

/// Asks what the receiver has of a snapshot; without a name, whether it is there.
async fn progress(transport: &dyn Transport, to: MemberId, id: Option<wire::Id>) -> Result<Option<Cursor>, Failed> {
    let id = id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id));
    let question = peer_message::Kind::SnapshotProgress(SnapshotProgress { id });
    let asking = tokio::time::timeout(STALL, transport.call(to, peer::wire::message(question)));
    let answer = asking.await.unwrap_or(Err(PeerError::Timeout { to })).map_err(refused)?;
    match peer::wire::read_answer(answer).map_err(network)? {
        peer_answer::Kind::SnapshotProgress(answer) => wire::decode_progress(&answer.state).map_err(network),
        _ => Err(network("the answer is to something else")),
    }
}

/// Sends what `ticket` stands for, or a newer state, and returns once it is installed. For openraft's `full_snapshot`.
///
/// # Errors
/// What openraft makes of it: it tries again with another ticket, unless the replication is closed.
pub async fn send(
    core: &Arc<Core>,
    transport: &dyn Transport,
    to: MemberId,
    vote: Vote,
    ticket: Ticket,
    cancel: impl Future<Output = ReplicationClosed> + Send,
) -> Result<SnapshotResponse<TypeConfig>, Failed> {
    let sending = send_it(core, transport, to, vote, ticket);
    tokio::select! {
        closed = cancel => Err(StreamingError::Closed(closed)),
        sent = sending => sent,
    }
}

async fn send_it(
    core: &Arc<Core>,
    transport: &dyn Transport,
    to: MemberId,
    vote: Vote,
    ticket: Ticket,
) -> Result<SnapshotResponse<TypeConfig>, Failed> {
    let began = Instant::now();
    // Asked before the moment is taken: for a member that is away nothing is held back.
    let named = ticket.id();
    let mut there = progress(transport, to, named).await?;
    let (owner, ticket) = (core.clone(), Arc::new(ticket));
    let held = ticket.clone();
    let using = blocking::run(move || Outgoing::begin(&owner, &held)).await.map_err(network)?;
    let using = Arc::new(using.ok_or_else(|| network("the snapshot was given up"))?);
    let cut = using.cut.clone();
    if codec::term_of(&cut.last()) > vote.leader_id.term {
        return Err(StreamingError::Closed(ReplicationClosed::new("a later leader's entries are in the state")));
    }
    if cut.applied().membership.membership().get_node(&to.0).is_none() {
        core.outgoing.renew();
        return Err(network("the snapshot is older than the member it is for"));
    }
    if named != Some(cut.id()) {
        there = progress(transport, to, Some(cut.id())).await?;
    }
    let from = there.filter(|cursor| cut.knows(*cursor));
    let from = from.unwrap_or(Cursor::START);
    tracing::info!(
        to = format!("{:x}", to.0),
        index = cut.last().index(),
        revision = cut.revision(),
        from_revision = from.at.main,
        "sending a snapshot"
    );
    let header =
        Header { vote, applied: cut.applied().clone(), revision: cut.revision(), floor: cut.floor(), from }.encode();
    let sending = core.metrics.network.snapshots_to(to.0).begin();
    let course = Arc::new(Course { moved: Mutex::new(Instant::now()), all: OnceLock::new(), failed: OnceLock::new() });
    let pieces = pieces(core.clone(), using.clone(), from, course.clone());
    let answer = tokio::select! {
        answer = transport.snapshot(to, header, pieces) => answer.map_err(|error| failure(core, &course, error)),
        () = stall(&course) => Err(network("the receiver has stopped taking a snapshot")),
    }?;
    let theirs = codec::decode_vote(&answer).map_err(network)?;
    if theirs <= vote {
        tracing::info!(to = format!("{:x}", to.0), bytes = course.all.get(), took = ?began.elapsed(), "a snapshot was received");
        using.kept();
        sending.succeeded();
    }
    drop(ticket);
    Ok(SnapshotResponse::new(theirs))
}

/// What the transfer failed of: this side's own trouble comes first.
fn failure(core: &Core, course: &Course, error: PeerError) -> Failed {
    match course.failed.get() {
        Some(CutError::Store(why)) => {
            core.fail(&why.to_string());
            StreamingError::Closed(ReplicationClosed::new(why))
        }
        Some(why) => network(why),
        None => refused(error),
    }
}

/// Returns when the transfer stands still.
async fn stall(course: &Course) {
    loop {
        let all = course.all.get().copied();
        let patience = all.map_or(STALL, |bytes| INSTALL + Duration::from_secs(bytes / INSTALL_BYTES_A_SECOND));
        let until = *course.moved.lock() + patience;
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

struct Reading {
    core: Arc<Core>,
    using: Arc<Using>,
    course: Arc<Course>,
    at: Cursor,
    ready: VecDeque<Bytes>,
    over: bool,
}

/// The pieces after `from`, each read when it is asked for. Ends early when the state can't be read on: the receiver
/// then misses the end.
fn pieces(core: Arc<Core>, using: Arc<Using>, from: Cursor, course: Arc<Course>) -> BoxStream<'static, Bytes> {
    let reading = Reading { core, using, course, at: from, ready: VecDeque::new(), over: false };
    stream::unfold(reading, |mut reading| async move {
        let piece = reading.next().await?;
        Some((piece, reading))
    })
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Bytes> {
        *self.course.moved.lock() = Instant::now();
        if self.ready.is_empty() && !self.over {
            if self.at != Cursor::START {
                tokio::time::sleep(REST).await;
            }
            self.read().await;
            *self.course.moved.lock() = Instant::now();
        }
        self.ready.pop_front()
    }

    async fn read(&mut self) {
        let (core, cut, at) = (self.core.clone(), self.using.cut.clone(), self.at);
        let unit = match blocking::run(move || cut.next(&core, at)).await {
            Ok(Ok(Next::Elements { encoded, end })) => {
                self.at = end;
                self.using.sent(encoded.len());
                wire::elements_unit(&encoded)
            }
            Ok(Ok(Next::End(total))) => {
                self.over = true;
                let _ = self.course.all.set(total.bytes);
                wire::end_unit(&total)
            }
            Ok(Err(error)) => {
                self.over = true;
                let _ = self.course.failed.set(error);
                return;
            }
            Err(blocking::Stopped) => {
                self.over = true;
                return;
            }
        };
        self.ready.extend(wire::pieces(&unit));
    }
}
