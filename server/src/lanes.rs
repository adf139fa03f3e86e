//! Answers travel to the thread whose connection asked, many at a time.
//!
//! Waking a task from another thread costs several times what a wake on its own thread does, so whoever
//! finishes a batch sends each connection thread one message with all its answers;
//! that thread's lane task then completes them locally. A caller without a lane is answered directly.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

thread_local! {
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The lane of the calling thread, if it is a connection thread's.
pub fn here() -> Option<usize> {
    HERE.get()
}

/// A pending answer of one request.
pub struct Waiter<T> {
    lane: Option<usize>,
    tx: oneshot::Sender<T>,
}

impl<T> Waiter<T> {
    /// Registers the caller's thread as the place to answer.
    pub fn new() -> (Self, oneshot::Receiver<T>) {
        let (tx, rx) = oneshot::channel();
        (Self { lane: HERE.get(), tx }, rx)
    }

    /// Whether nobody waits any longer.
    pub fn is_gone(&self) -> bool {
        self.tx.is_closed()
    }
}

type Parcel = Box<dyn FnOnce() + Send>;

/// The lanes of all connection threads. Each holds at most what is in flight, which the proposer bounds.
#[derive(Clone, Default)]
pub struct Lanes {
    lanes: Arc<[mpsc::UnboundedSender<Parcel>]>,
}

/// One lane's receiving end, to be run on its thread.
pub struct Lane {
    number: usize,
    rx: mpsc::UnboundedReceiver<Parcel>,
}

impl Lanes {
    pub fn new(count: usize) -> (Self, Vec<Lane>) {
        let (txs, lanes): (Vec<_>, Vec<_>) = (0..count)
            .map(|number| {
                let (tx, rx) = mpsc::unbounded_channel();
                (tx, Lane { number, rx })
            })
            .unzip();
        (Self { lanes: txs.into() }, lanes)
    }

    /// Completes every waiter with its answer. A waiter that has gone away is skipped.
    pub fn deliver<T: Send + 'static>(&self, answers: impl IntoIterator<Item = (Waiter<T>, T)>) {
        let mut by_lane: Vec<Vec<(oneshot::Sender<T>, T)>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for (waiter, answer) in answers {
            match waiter.lane.and_then(|n| by_lane.get_mut(n)) {
                Some(lane) => lane.push((waiter.tx, answer)),
                None => drop(waiter.tx.send(answer)),
            }
        }
        for (lane, parcel) in self.lanes.iter().zip(by_lane) {
            if !parcel.is_empty() {
                let complete = move || parcel.into_iter().for_each(|(tx, answer)| drop(tx.send(answer)));
                // The lane is gone only when its thread has stopped, and its waiters with it.
                drop(lane.send(Box::new(complete)));
            }
        }
    }
}

impl Lane {
    /// Serves this lane until all [`Lanes`] are dropped. Call on the lane's own thread.
    pub async fn run(mut self) {
        HERE.set(Some(self.number));
        while let Some(complete) = self.rx.recv().await {
            complete();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_reach_waiters_with_and_without_a_lane() {
        let (lanes, mut ends) = Lanes::new(2);
        let (outside, outside_rx) = Waiter::new();
        tokio::spawn(ends.remove(1).run());
        tokio::task::yield_now().await;
        let (inside, inside_rx) = Waiter::new();
        assert_eq!(inside.lane, Some(1));
        lanes.deliver([(outside, 1), (inside, 2)]);
        assert_eq!((outside_rx.await, inside_rx.await), (Ok(1), Ok(2)));
        HERE.set(None);
    }
}
