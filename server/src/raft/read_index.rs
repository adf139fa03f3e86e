//! ReadIndex: a read waits until this member has confirmed who leads and has applied all that was committed then.
//!
//! Reads that arrive while a confirmation is under way share the next one. A confirmation is never shared with a
//! read that arrived after it began: that is how a stale read would get in.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use keepstone_proto::keepstonepb::{ReadIndex as Ask, peer_answer, peer_message};
use keepstone_state::{Error, MemberId};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::error::{LinearizableReadError, RaftError};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::types::Raft;
use crate::cluster::Leadership;
use crate::lanes;
use crate::peer::{Transport, wire};

/// How long a refused confirmation rests when nothing changes.
const RETRY: Duration = Duration::from_millis(50);

/// How long a leader may take to confirm that it is one.
const PATIENCE: Duration = Duration::from_secs(1);

type Outcome = Result<(), Error>;

/// Takes reads from every thread. Cheap to clone. Holds at most one entry per request in flight.
#[derive(Clone)]
pub struct ReadIndex {
    slots: Arc<[Slot]>,
    timeout: Duration,
}

/// The reads of one serving thread that wait for their confirmation to begin.
struct Slot {
    /// In the order of their arrival; `None` once nobody confirms any more.
    waiting: Mutex<Option<Vec<Reader>>>,
    arrived: Notify,
}

/// One read. Its time is kept by the batch: a timer for each would cost more than the read's share of a confirmation.
struct Reader {
    due: Instant,
    tx: oneshot::Sender<Outcome>,
}

impl ReadIndex {
    /// One [`Confirmer`] per serving thread; each has to run there, so that its answers wake tasks of its own thread.
    /// `timeout` is etcd's request timeout.
    pub fn new(threads: usize, timeout: Duration) -> (Self, Vec<Confirmer>) {
        let slot = |_| Slot { waiting: Mutex::new(Some(Vec::new())), arrived: Notify::new() };
        let slots: Arc<[Slot]> = (0..threads.max(1)).map(slot).collect();
        let confirmers = (0..slots.len()).map(|number| Confirmer { slots: slots.clone(), number }).collect();
        (Self { slots, timeout }, confirmers)
    }

    /// Returns when a read of local state is linearizable.
    ///
    /// # Errors
    /// `Timeout` when leadership can't be confirmed in time, `Stopped`.
    pub async fn wait(&self) -> Outcome {
        let (tx, outcome) = oneshot::channel();
        let slot = &self.slots[lanes::here().unwrap_or(0) % self.slots.len()];
        match &mut *slot.waiting.lock() {
            Some(waiting) => waiting.push(Reader { due: Instant::now() + self.timeout, tx }),
            None => return Err(Error::Stopped),
        }
        slot.arrived.notify_one();
        outcome.await.unwrap_or(Err(Error::Stopped))
    }
}

/// The task that asks Raft for one thread's reads, a batch at a time.
pub struct Confirmer {
    slots: Arc<[Slot]>,
    number: usize,
}

impl Confirmer {
    /// Runs until its thread stops.
    pub async fn run(self, asker: Asker) {
        self.confirm_with(|| confirm(&asker)).await;
    }

    async fn confirm_with<F: Future<Output = Outcome>>(self, confirm: impl Fn() -> F) {
        let slot = &self.slots[self.number];
        loop {
            slot.arrived.notified().await;
            // Whatever else this thread is about to read shares the round.
            tokio::task::yield_now().await;
            let mut readers = slot.waiting.lock().as_mut().map(std::mem::take).unwrap_or_default();
            let outcome = in_time(confirm(), &mut readers).await;
            for reader in readers {
                // A reader that has gone needs no answer.
                let _ = reader.tx.send(outcome);
            }
        }
    }
}

impl Drop for Confirmer {
    fn drop(&mut self) {
        // Who waits, or is about to, learns from its closed channel that nobody will answer.
        self.slots[self.number].waiting.lock().take();
    }
}

/// Waits for a confirmation, and meanwhile ends the readers whose time is up. Gives up with the last of them.
async fn in_time(confirmation: impl Future<Output = Outcome>, readers: &mut Vec<Reader>) -> Outcome {
    let mut confirmation = pin!(confirmation);
    while let Some(first) = readers.first() {
        tokio::select! {
            biased;
            outcome = &mut confirmation => return outcome,
            () = tokio::time::sleep_until(first.due) => {}
        }
        let now = Instant::now();
        let late = readers.partition_point(|reader| reader.due <= now);
        for reader in readers.drain(..late) {
            let _ = reader.tx.send(Err(Error::Timeout));
        }
        readers.retain(|reader| !reader.tx.is_closed());
    }
    Err(Error::Timeout)
}

/// Asks anew, with a request of its own each time, until leadership is confirmed: as in etcd a read waits for a leader,
/// and its own timeout ends the wait.
async fn confirm(asker: &Asker) -> Outcome {
    let mut views = asker.leadership.watch();
    loop {
        views.borrow_and_update();
        let confirmed = match asker.leadership.leader() {
            Some(leader) if leader != asker.me => asker.ask(leader).await?,
            // A leader that can't tell yet is asked all the same: what counts is the answer.
            _ => asker.confirm_here().await?,
        };
        if confirmed {
            return Ok(());
        }
        if tokio::time::timeout(RETRY, views.changed()).await.is_ok_and(|changed| changed.is_err()) {
            return Err(Error::Stopped);
        }
    }
}

/// How a confirmation is got: from this member's own Raft while it leads, else from the leader.
#[derive(Clone)]
pub struct Asker {
    pub me: MemberId,
    pub raft: Raft,
    pub leadership: Leadership,
    pub transport: Arc<dyn Transport>,
}

impl Asker {
    async fn confirm_here(&self) -> Result<bool, Error> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(true),
            Err(RaftError::Fatal(_)) => Err(Error::Stopped),
            Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_) | LinearizableReadError::QuorumNotEnough(_),
            )) => Ok(false),
        }
    }

    /// Asks the leader how far this member has to have applied, and waits for that.
    async fn ask(&self, leader: MemberId) -> Result<bool, Error> {
        let message = wire::message(peer_message::Kind::ReadIndex(Ask {}));
        let asking = tokio::time::timeout(PATIENCE, self.transport.call(leader, message)).await;
        let Ok(Ok(Ok(peer_answer::Kind::ReadIndex(answer)))) = asking.map(|answer| answer.map(wire::read_answer))
        else {
            return Ok(false);
        };
        let Some(index) = answer.index else { return Ok(false) };
        let mut applied = self.raft.data_metrics();
        while applied.borrow_watched().last_applied.as_ref().is_none_or(|id| id.index() < index) {
            applied.changed().await.map_err(|_| Error::Stopped)?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Semaphore;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn one(timeout: Duration) -> (ReadIndex, Confirmer) {
        let (reads, mut confirmers) = ReadIndex::new(1, timeout);
        (reads, confirmers.remove(0))
    }

    #[tokio::test]
    async fn reads_share_only_a_confirmation_that_began_after_them() {
        let (reads, confirmer) = one(LONG);
        let (began, allowed) = (Cell::new(0), Semaphore::new(0));
        let confirming = confirmer.confirm_with(|| async {
            began.set(began.get() + 1);
            allowed.acquire().await.expect("never closed").forget();
            Ok(())
        });
        let reading = async {
            let mut early = pin!(async { tokio::join!(reads.wait(), reads.wait()) });
            while began.get() == 0 {
                assert!(futures_util::poll!(&mut early).is_pending());
                tokio::task::yield_now().await;
            }
            let mut late = pin!(reads.wait());
            assert!(futures_util::poll!(&mut late).is_pending());
            allowed.add_permits(1);
            assert_eq!(early.await, (Ok(()), Ok(())));
            while began.get() == 1 {
                assert!(futures_util::poll!(&mut late).is_pending());
                tokio::task::yield_now().await;
            }
            assert!(futures_util::poll!(&mut late).is_pending());
            allowed.add_permits(1);
            assert_eq!(late.await, Ok(()));
            assert_eq!(began.get(), 2);
        };
        tokio::select! {
            () = confirming => unreachable!("a confirmer runs for ever"),
            () = reading => {}
        }
    }

    #[tokio::test]
    async fn a_read_that_nobody_confirms_times_out_and_the_next_one_is_asked_for() {
        let (reads, confirmer) = one(Duration::from_millis(1));
        let asked = Cell::new(0);
        let confirming = confirmer.confirm_with(|| {
            asked.set(asked.get() + 1);
            std::future::pending()
        });
        let reading = async {
            assert_eq!(reads.wait().await, Err(Error::Timeout));
            assert_eq!(reads.wait().await, Err(Error::Timeout));
            assert_eq!(asked.get(), 2);
        };
        tokio::select! {
            () = confirming => unreachable!("a confirmer runs for ever"),
            () = reading => {}
        }
    }

    #[tokio::test]
    async fn a_read_learns_that_its_confirmer_is_gone() {
        let (reads, confirmer) = one(LONG);
        let mut early = pin!(reads.wait());
        assert!(futures_util::poll!(&mut early).is_pending());
        drop(confirmer);
        assert_eq!(early.await, Err(Error::Stopped));
        assert_eq!(reads.wait().await, Err(Error::Stopped));
    }
}
