//! Receiving the state from the leader. One transfer at a time: a new one, or a question about one, ends the last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use keepstone_failpoint::points;
use openraft::SnapshotMeta;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::SnapshotResponse;
use openraft::storage::Snapshot;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::blocking::{self, Stopped};
use super::content::{Cursor, Total};
use super::home::Home;
use super::staging::{Staging, StagingError};
use super::wire::{self, Header, Id, Joiner, Malformed, Unit};
use crate::core::Core;
use crate::host;
use crate::raft::codec;
use crate::raft::state_machine::SnapshotHandle;
use crate::raft::types::{LogId, Raft, TypeConfig, Vote};

/// A transfer that brings nothing for so long has ended.
const STALL: Duration = Duration::from_secs(30);
/// What was received is thrown away when its sender has not come back for so long.
const KEEP: Duration = Duration::from_secs(10 * 60);

/// Why a snapshot was not received. The text goes to the sender.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error("a snapshot broke off: {0}")]
    BrokeOff(&'static str),
    #[error("another snapshot has begun")]
    Superseded,
    #[error("a snapshot goes on where this member is not")]
    OtherPlace,
    #[error("a snapshot has entries that its leader can't know of")]
    Ahead,
    #[error("a snapshot is of cluster {0:x}")]
    OtherCluster(u64),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The receiving side of a member.
pub struct Receiver {
    core: Arc<Core>,
    raft: Raft,
    home: Arc<dyn Home>,
    /// What is being received. Held while pieces are taken in.
    staging: Mutex<Option<Staging>>,
    /// Counts transfers and questions: the newest has the floor.
    turn: watch::Sender<u64>,
}

impl Receiver {
    /// Call it on a runtime: what an earlier process has left is thrown away in time.
    pub fn new(core: Arc<Core>, raft: Raft, home: Arc<dyn Home>) -> Arc<Self> {
        let turn = watch::Sender::new(0);
        let this = Arc::new(Self { core, raft, home, staging: Mutex::default(), turn });
        this.expire_after(0);
        this
    }

    fn next_turn(&self) -> u64 {
        let mut mine = 0;
        self.turn.send_modify(|turn| {
            *turn += 1;
            mine = *turn;
        });
        mine
    }

    /// What this member has of the snapshot `id`: the answer to a sender's question. Ends a transfer under way.
    ///
    /// # Errors
    /// [`ReceiveError::Stopped`].
    pub async fn progress(self: &Arc<Self>, id: &[u8]) -> Result<Bytes, ReceiveError> {
        let turn = self.next_turn();
        let mut staging = self.staging.lock().await;
        if staging.is_none() {
            *staging = self.left_over().await?;
        }
        let cursor = staging.as_ref().filter(|staging| staging.id() == id).map(Staging::cursor);
        drop(staging);
        self.expire_after(turn);
        Ok(wire::encode_progress(cursor))
    }

    /// What an earlier process has left. Anything that can't be used counts as nothing: it is received anew.
    async fn left_over(&self) -> Result<Option<Staging>, ReceiveError> {
        let (home, options) = (self.home.clone(), self.core.records.options().clone());
        let found = blocking::run(move || Staging::resume(&home, &options)).await?;
        Ok(found.unwrap_or_else(|error| {
            tracing::info!(%error, "what was received of a snapshot can't be used");
            None
        }))
    }

    /// Throws away what was received if nobody goes on with it.
    fn expire_after(self: &Arc<Self>, turn: u64) {
        let receiver = Arc::downgrade(self);
        let mut turns = self.turn.subscribe();
        host::spawn(async move {
            let another = turns.wait_for(|now| *now != turn);
            if tokio::time::timeout(KEEP, another).await.is_ok() {
                return;
            }
            let Some(receiver) = receiver.upgrade() else { return };
            let mut staging = receiver.staging.lock().await;
            if *receiver.turn.borrow() != turn {
                return;
            }
            let (left, home) = (staging.take(), receiver.home.clone());
            let clear = move || {
                drop(left);
                home.clear()
            };
            // A member that stops leaves it to its next start.
            if let Ok(Err(error)) = blocking::run(clear).await {
                tracing::warn!(%error, "what was received of a snapshot stays until the next start");
            }
        });
    }

    /// Takes in a snapshot. Pieces that end before its end are a line that broke. Returns the vote that openraft answers
    /// with, once it is installed or was not wanted.
    ///
    /// # Errors
    /// [`ReceiveError`]; what came stays for the sender to go on with, unless it was damaged.
    pub async fn receive(
        self: &Arc<Self>,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
    ) -> Result<Bytes, ReceiveError> {
        let header = Header::decode(&header)?;
        let last = header.applied.log_id.ok_or(Malformed { part: "header", why: "it covers nothing" })?;
        let current = self.raft.metrics().borrow_watched().vote;
        if header.vote < current {
            return Ok(codec::encode_vote(&current));
        }
        if codec::term_of(&last) > header.vote.leader_id.term {
            return Err(ReceiveError::Ahead);
        }
        if last.index() <= self.core.applied_index() {
            // The answer to an earlier transfer was lost.
            return Ok(codec::encode_vote(&current));
        }
        let this = self.clone();
        // A task of its own: a call that is given up must not leave off in the middle of a step.
        let receiving = host::spawn(async move {
            let turn = this.next_turn();
            let vote = this.receive_all(turn, header, last, pieces).await;
            this.expire_after(turn);
            vote
        });
        Ok(codec::encode_vote(&receiving.await.map_err(|_| Stopped)??))
    }

    /// To the end, and installs it. Nobody is told what there is meanwhile.
    async fn receive_all(
        &self,
        turn: u64,
        header: Header,
        last: LogId,
        pieces: BoxStream<'static, Bytes>,
    ) -> Result<Vote, ReceiveError> {
        let began = Instant::now();
        let mut staging = self.staging.lock().await;
        self.prepare(&mut staging, &header, wire::id_of(&last)).await?;
        tracing::info!(index = last.index(), from_revision = header.from.at.main, "receiving a snapshot");
        let total = match self.fill(turn, &mut staging, pieces).await {
            Ok(total) => total,
            Err(error) => {
                save(&mut staging).await?;
                return Err(error);
            }
        };
        let Some(full) = staging.take() else { return Err(ReceiveError::OtherPlace) };
        let expected = header.clone();
        let staged = blocking::run(move || full.complete(&expected, &total)).await??;
        self.core.metrics.snapshots.db_save.observe(began.elapsed().as_secs_f64());
        let cluster = staged.state().and_then(|state| state.members().cluster_id());
        if let Some(other) = cluster.filter(|cluster| *cluster != self.core.identity.cluster_id) {
            return Err(ReceiveError::OtherCluster(other));
        }
        let meta = SnapshotMeta { last_log_id: Some(last), last_membership: header.applied.membership };
        let snapshot = Snapshot { meta, snapshot: SnapshotHandle::Received(Box::new(staged)) };
        let answer = self.raft.install_full_snapshot(header.vote, snapshot).await;
        let SnapshotResponse::<TypeConfig> { vote, .. } = answer.map_err(|_| Stopped)?;
        Ok(vote)
    }

    /// Has `staging` be what the sender goes on with.
    async fn prepare(&self, staging: &mut Option<Staging>, header: &Header, id: Id) -> Result<(), ReceiveError> {
        if header.from != Cursor::START {
            let there = staging.as_ref().is_some_and(|staging| staging.id() == id && staging.cursor() == header.from);
            return if there { Ok(()) } else { Err(ReceiveError::OtherPlace) };
        }
        let old = staging.take();
        let (home, options) = (self.home.clone(), self.core.records.options().clone());
        let begin = move || {
            if let Some(old) = old {
                old.discard();
            }
            Staging::begin(&home, &options, id)
        };
        *staging = Some(blocking::run(begin).await??);
        Ok(())
    }

    /// Takes in pieces up to the end.
    async fn fill(
        &self,
        turn: u64,
        staging: &mut Option<Staging>,
        mut pieces: BoxStream<'static, Bytes>,
    ) -> Result<Total, ReceiveError> {
        let mut turns = self.turn.subscribe();
        let mut joiner = Joiner::default();
        loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                _ = turns.wait_for(|now| *now != turn) => return Err(ReceiveError::Superseded),
                () = tokio::time::sleep(STALL) => return Err(ReceiveError::BrokeOff("nothing came")),
            };
            let Some(piece) = piece else { return Err(ReceiveError::BrokeOff("it ends before its end")) };
            match joiner.add(piece)? {
                Some(Unit::Elements(elements)) => take_in_unit(staging, elements).await?,
                Some(Unit::End(total)) => return Ok(total),
                None => {}
            }
        }
    }
}

/// What has come is kept through a restart, too.
async fn save(staging: &mut Option<Staging>) -> Result<(), ReceiveError> {
    if let Some(mut broken) = staging.take() {
        let save = move || broken.save().map(|()| broken);
        *staging = Some(blocking::run(save).await??);
    }
    Ok(())
}

/// Adds a unit. What can't be added makes all of it useless.
async fn take_in_unit(staging: &mut Option<Staging>, elements: Bytes) -> Result<(), ReceiveError> {
    let Some(mut filling) = staging.take() else { return Err(ReceiveError::OtherPlace) };
    let add = move || {
        points::SNAPSHOT_BEFORE_SAVE_PIECE.hit();
        match filling.add(elements) {
            Ok(()) => {
                points::SNAPSHOT_AFTER_SAVE_PIECE.hit();
                Ok(filling)
            }
            Err(error) => {
                filling.discard();
                Err(error)
            }
        }
    };
    *staging = Some(blocking::run(add).await??);
    Ok(())
}
