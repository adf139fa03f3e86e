//! The shell around the pure state: committed entries in, effects out to the record store and the watch hub,
//! answers back to the callers. The only writer of the state.
//!
//! A whole run of committed entries is applied under one lock, so that readers and watchers see either none
//! or all of a batch, and one wake-up answers all its callers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use keepstone_failpoint::points;
use keepstone_state::{Effects, Foresight, Records, Revision, reads_values};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::time::Instant;

use super::codec::{self, Applied};
use super::snapshot::{self, Outgoing, Staged, Ticket};
use super::synced::Synced;
use super::tally::{self, Tally};
use super::types::{Entry, LogId, Payload, Replies, StoredMembership, TypeConfig};
use crate::audit::Audit;
use crate::core::Core;

/// Entries applied under one hold of the state's lock at most: what a reader may have to wait for.
const RUN_ENTRIES: usize = 64;

/// How long runs are applied one after the other before other tasks of the thread get a turn: a heartbeat, a signal.
const TURN: Duration = Duration::from_millis(5);
/// How often a run that waits for the checkpoint looks whether it may go.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

type Item = EntryResponder<TypeConfig>;

/// openraft's view of the state.
pub struct StateMachine {
    core: Arc<Core>,
    applied: Applied,
    synced: Synced,
    audit: Option<Audit>,
}

impl StateMachine {
    /// `applied` is what the record store's last checkpoint says: the log is replayed from there. Nothing is applied
    /// before it is on this member's own disk.
    pub fn new(core: Arc<Core>, applied: Applied, synced: Synced) -> Self {
        Self { core, applied, synced, audit: None }
    }

    /// Everything that is applied goes to this copy first.
    #[must_use]
    pub fn audited(self, audit: Option<Audit>) -> Self {
        Self { audit, ..self }
    }

    async fn copy_out(&self, audit: Audit, entries: Vec<Entry>) -> io::Result<()> {
        let membership = self.applied.membership.clone();
        let added = snapshot::blocking::run(move || audit.add(&entries, &membership)).await;
        added.map_err(io::Error::other)?.map_err(|error| {
            self.core.fail(&error.to_string());
            io::Error::other(error)
        })
    }

    /// Proposals are held back while the checkpoint is too far behind. Whatever else brings entries, a replayed log or a
    /// leader, is held back here.
    async fn wait_for_checkpoint(&self) {
        while self.core.records.is_over_dirty_limit() && !self.core.has_failed() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Which values of earlier runs this one may read; none for the usual run of plain puts.
    fn foresee(&self, run: &[Item]) -> Vec<Revision> {
        let requests = || {
            let proposals = run.iter().filter_map(|(entry, _)| match &entry.payload {
                Payload::Normal(proposal) => Some(proposal),
                Payload::Blank | Payload::Membership(_) => None,
            });
            proposals.flat_map(|proposal| proposal.requests.iter())
        };
        if !requests().any(|request| reads_values(&request.decoded)) {
            return Vec::new();
        }
        let state = self.core.state.read();
        let mut foresight = Foresight::new(&state);
        requests().for_each(|request| foresight.add(&request.decoded));
        foresight.places()
    }

    /// Applies a run under one hold of the state's lock. `records` has the values that the run may read in memory.
    fn apply_run(&mut self, run: Vec<Item>, records: &dyn Records) -> io::Result<()> {
        let mut effects = Effects::default();
        let mut tally = Tally::default();
        let mut answers = Vec::with_capacity(run.len());
        let mut state = self.core.state.write();
        for (entry, responder) in run {
            let log_id = entry.log_id();
            let began = std::time::Instant::now();
            let replies = match &entry.payload {
                Payload::Normal(proposal) => {
                    let apply = |request: &super::types::Request| {
                        state.apply(log_id.index(), codec::term_of(&log_id), &request.decoded, records, &mut effects)
                    };
                    proposal.requests.iter().map(apply).collect::<Result<Vec<_>, _>>().unwrap_or_else(|e| stop(&e))
                }
                Payload::Membership(membership) => {
                    self.applied.membership = StoredMembership::new(Some(log_id), membership.clone());
                    self.core.raft_members_are(&self.applied);
                    Vec::new()
                }
                Payload::Blank => Vec::new(),
            };
            replies.iter().flatten().for_each(|reply| tally.add(reply));
            self.applied.log_id = Some(log_id);
            let proposal = match entry.payload {
                Payload::Normal(proposal) => Some((proposal, began.elapsed())),
                Payload::Blank | Payload::Membership(_) => None,
            };
            answers.push((responder, proposal, Replies(replies)));
        }
        tally.report(&self.core.metrics.mvcc, &effects);
        self.core.publish(&state, effects, &self.applied);
        drop(state);
        for (responder, proposal, replies) in answers {
            if let Some((proposal, took)) = &proposal {
                tally::timed(&self.core.metrics, proposal, &replies.0, *took);
            }
            match (responder, proposal) {
                (Some(responder), _) => responder.send(replies),
                (None, Some((proposal, _))) => self.core.awaiting.settle(&proposal, replies.0),
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// What a snapshot taken now would cover: the last flushed checkpoint, no more.
    fn checkpointed(&self) -> openraft::alias::SnapshotMetaOf<TypeConfig> {
        let durable = self.core.durable();
        openraft::SnapshotMeta { last_log_id: durable.log_id, last_membership: durable.membership }
    }
}

/// The store failed in the middle of a request: the state is half changed and nobody may see it. The process ends here,
/// with the state's lock held; the log has all that was acknowledged.
fn stop(error: &keepstone_state::RecordError) -> ! {
    tracing::error!(%error, "the store failed while a log entry was applied: the member stops");
    if let Some(log) = crate::logging::control() {
        log.flush(Duration::from_secs(1));
    }
    std::process::exit(1);
}

/// Where a test may stop an entry: before the run it belongs to is applied, and nobody's lock is held.
fn point_of(payload: &Payload) -> &'static keepstone_failpoint::Point {
    match payload {
        Payload::Membership(_) => &points::BEFORE_APPLY_ONE_CONF_CHANGE,
        Payload::Normal(_) | Payload::Blank => &points::BEFORE_APPLY_ONE_ENTRY_NORMAL,
    }
}

/// What Raft hands around for a snapshot. Never a file built ahead.
pub enum SnapshotHandle {
    /// A name for the last flushed checkpoint: it lets the log be purged.
    Checkpoint,
    /// To be sent.
    Ticket(Ticket),
    /// Received, checked, to be installed.
    Received(Box<Staged>),
}

type OurSnapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>;

impl RaftSnapshotBuilder<TypeConfig> for SnapshotMetaBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<OurSnapshot, io::Error> {
        Ok(OurSnapshot { meta: self.meta.clone(), snapshot: SnapshotHandle::Checkpoint })
    }
}

/// Hands out the handle it was made with.
pub struct SnapshotMetaBuilder {
    meta: openraft::alias::SnapshotMetaOf<TypeConfig>,
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotMetaBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<Item, io::Error>> + Unpin + OptionalSend,
    {
        let mut turn = Instant::now();
        while let Some(first) = entries.next().await {
            let mut run = vec![first?];
            while run.len() < RUN_ENTRIES {
                let Some(Some(next)) = entries.next().now_or_never() else { break };
                run.push(next?);
            }
            if let Some((last, _)) = run.last() {
                self.synced.wait_for(last.index()).await?;
            }
            self.wait_for_checkpoint().await;
            if keepstone_failpoint::is_on() {
                run.iter().for_each(|(entry, _)| point_of(&entry.payload).hit());
            }
            if let Some(audit) = self.audit.clone() {
                let entries = run.iter().map(|(entry, _)| entry.clone()).collect();
                self.copy_out(audit, entries).await?;
            }
            let places = self.foresee(&run);
            if places.is_empty() {
                let records = self.core.records.clone();
                self.apply_run(run, &*records)?;
            } else {
                let ahead = self.core.values.ahead(places).await.map_err(|error| {
                    self.core.fail(&error.to_string());
                    io::Error::other(error)
                })?;
                self.apply_run(run, &ahead)?;
            }
            points::RAFT_BEFORE_ADVANCE.hit();
            if turn.elapsed() >= TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotMetaBuilder { meta: self.checkpointed() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::alias::SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let SnapshotHandle::Received(staged) = snapshot else {
            // The handle of our own checkpoint is never newer than what is applied.
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("snapshot up to {meta} came from no peer")));
        };
        let core = self.core.clone();
        let install = move || snapshot::install(&core, *staged);
        if let Some(applied) = snapshot::blocking::run(install).await.map_err(io::Error::other)?? {
            self.applied = applied;
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<OurSnapshot>, io::Error> {
        let ticket = Outgoing::ticket(&self.core);
        let Applied { log_id, membership } = ticket.covers.clone();
        let meta = openraft::SnapshotMeta { last_log_id: log_id, last_membership: membership };
        Ok(log_id.is_some().then_some(OurSnapshot { meta, snapshot: SnapshotHandle::Ticket(ticket) }))
    }
}

#[cfg(test)]
mod tests;
