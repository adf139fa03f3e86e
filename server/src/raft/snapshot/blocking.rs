//! Where the snapshot code does slow work: reading, writing and syncing a store.
//!
//! The one place, so that a simulator which must not depend on threads has it done on the spot.

use std::cell::Cell;

thread_local! {
    static INLINE: Cell<bool> = const { Cell::new(false) };
}

/// From now on work that begins on this thread is done on it, before the call returns.
pub fn run_inline() {
    INLINE.set(true);
}

/// The work panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("etcdserver: server stopped")]
pub struct Stopped;

/// Runs `work` off the serving threads.
///
/// # Errors
/// [`Stopped`].
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stopped> {
    if INLINE.get() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Stopped)
}

/// Has `work` done at some time; nobody waits for it.
pub fn detach(work: impl FnOnce() + Send + 'static) {
    if INLINE.get() {
        work();
    } else if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(work) {
        tracing::warn!(%error, "no thread to clean up after a snapshot; the next start does it");
    }
}
