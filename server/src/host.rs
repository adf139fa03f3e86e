//! The machine that a task runs on: where tasks, their clock and their randomness come from.
//!
//! A process is one machine, and everything here goes straight to tokio and the system then. The simulator runs several
//! members, each on a [`Host`] of its own, in one process on one thread: it decides when their tasks may go on, how fast
//! their clocks go, and what their dice show. A member starts its tasks here, never with `tokio::spawn`, or the simulator
//! could neither stop nor kill them.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand_10::Rng as _;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

/// A simulated machine.
pub trait Host: Send + Sync {
    /// Whether a task of this machine may go on now. Otherwise the host keeps the waker and wakes it when it may.
    fn admits(&self, task: &Waker) -> bool;
    /// A task was started here; it ends with the machine.
    fn started(&self, task: AbortHandle);
    /// What this machine's clock shows. Never goes back.
    fn now(&self) -> Instant;
    /// When, by the one true clock, this machine's clock will show `local`.
    fn when(&self, local: Instant) -> Instant;
    /// The next 64 random bits.
    fn random(&self) -> u64;
}

thread_local! {
    static HERE: RefCell<Option<Arc<dyn Host>>> = const { RefCell::new(None) };
}

/// The simulated machine that the calling task runs on; none outside the simulator.
pub fn here() -> Option<Arc<dyn Host>> {
    HERE.with_borrow(Clone::clone)
}

/// Starts a task on the caller's machine.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match here() {
        None => tokio::spawn(future),
        Some(host) => spawn_on(host, future),
    }
}

/// Starts a task on a simulated machine.
pub fn spawn_on<F>(host: Arc<dyn Host>, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let task = tokio::spawn(Hosted { host: host.clone(), future: Box::pin(future) });
    host.started(task.abort_handle());
    task
}

/// Runs what blocks on a thread of its own; in the simulator, where nothing blocks, as a task.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match here() {
        None => tokio::task::spawn_blocking(work),
        Some(host) => spawn_on(host, async move { work() }),
    }
}

/// The time on the caller's machine.
pub fn now() -> Instant {
    here().map_or_else(Instant::now, |host| host.now())
}

/// The moment at which the clock of the caller's machine will show `local`.
pub fn when(local: Instant) -> Instant {
    here().map_or(local, |host| host.when(local))
}

/// The moment at which `duration` will have passed on the caller's machine.
pub fn after(duration: Duration) -> Instant {
    when(now() + duration)
}

/// 64 random bits.
pub fn random() -> u64 {
    here().map_or_else(|| rand_10::rng().next_u64(), |host| host.random())
}

/// A task of a simulated machine.
struct Hosted<F> {
    host: Arc<dyn Host>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Hosted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.host.admits(cx.waker()) {
            return Poll::Pending;
        }
        let _inside = Inside::enter(self.host.clone());
        self.future.as_mut().poll(cx)
    }
}

/// Marks the running task's machine until it is dropped.
struct Inside(Option<Arc<dyn Host>>);

impl Inside {
    fn enter(host: Arc<dyn Host>) -> Self {
        Self(HERE.replace(Some(host)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}
