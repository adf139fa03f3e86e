//! Where the snapshot code does slow work: reading, writing and syncing a store.
//!
//! The one place, so that a simulator which must not depend on threads has it done as tasks.

use std::time::Duration;

use crate::host;

/// The work panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("etcdserver: server stopped")]
pub struct Stopped;

/// Runs `work` off the serving threads.
///
/// # Errors
/// [`Stopped`].
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stopped> {
    host::spawn_blocking(work).await.map_err(|_| Stopped)
}

/// Has `work` done at some time; nobody waits for it.
pub fn detach(work: impl FnOnce() + Send + 'static) {
    let mut work = Some(work);
    detach_until(Duration::ZERO, move || {
        if let Some(work) = work.take() {
            work();
        }
        true
    });
}

/// Has `work` tried until it says that it is done, with `rest` between two tries; nobody waits for it.
pub fn detach_until(rest: Duration, mut work: impl FnMut() -> bool + Send + 'static) {
    if host::here().is_some() {
        host::spawn(async move {
            while !work() {
                tokio::time::sleep(rest).await;
            }
        });
        return;
    }
    let thread = std::thread::Builder::new().name("snapshot".to_owned());
    let working = move || {
        while !work() {
            std::thread::sleep(rest);
        }
    };
    if let Err(error) = thread.spawn(working) {
        tracing::warn!(%error, "no thread to clean up after a snapshot; the next start does it");
    }
}
