//! The moment at which a received state becomes the member's.
//!
//! On disk the order is: everything of the new store is synced; a mark says that it counts (from here on a restart opens
//! it); the log follows; the old store is deleted. In memory it is one step under the state's lock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use keepstone_failpoint::points;
use keepstone_store::Closing;

use super::blocking;
use super::staging::Staged;
use crate::core::Core;
use crate::metrics::IntGauge;
use crate::raft::codec::Applied;

/// How often it is looked whether anybody still reads the store that was replaced.
const CLOSE_EVERY: Duration = Duration::from_millis(20);

/// 1 for as long as it is there.
struct InProgress<'a>(&'a IntGauge);

impl<'a> InProgress<'a> {
    fn begin(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Installs what was received, unless the member has got as far by itself. Returns what is applied now, if it did. Blocks.
///
/// # Errors
/// When it can't be made durable: the member has to stop.
pub fn install(core: &Arc<Core>, mut staged: Staged) -> io::Result<Option<Applied>> {
    let last = staged.applied.log_id.ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
    if last.index() <= core.applied_index() {
        tracing::warn!(index = last.index(), "a snapshot that is no newer than the state was not installed");
        return Ok(None);
    }
    let (home, number) = (staged.home.clone(), staged.number);
    let failed = |error| io::Error::other(format!("installing a snapshot: {error}"));
    let _applying = InProgress::begin(&core.metrics.server.snapshot_applies);
    points::RAFT_BEFORE_APPLY_SNAP.hit();
    home.commit(number, &last).map_err(failed)?;
    let Some(parts) = staged.take() else { return Ok(None) };
    points::APPLY_BEFORE_OPEN_SNAPSHOT.hit();
    let replaced = core.replace(parts.state, parts.records, &staged.applied);
    points::APPLY_AFTER_OPEN_SNAPSHOT.hit();
    points::RAFT_AFTER_APPLY_SNAP.hit();
    home.follow(number, &last).map_err(failed)?;
    points::RAFT_AFTER_WAL_RELEASE.hit();
    tracing::info!(index = last.index(), revision = core.revision(), "installed a snapshot");
    let (mut replaced, mut closing) = (Some(replaced), None);
    blocking::detach_until(CLOSE_EVERY, move || {
        if let Some((state, records)) = replaced.take() {
            drop(state);
            closing = Some(records.free());
        }
        let closed = closing.as_mut().is_none_or(Closing::try_close);
        if closed {
            home.retire();
        }
        closed
    });
    Ok(Some(staged.applied.clone()))
}
