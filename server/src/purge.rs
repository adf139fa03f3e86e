//! Drops the head of the log once a flushed checkpoint covers it.

use std::sync::Arc;

use keepstone_wal::Wal;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;

use crate::config::Config;
use crate::core::Core;
use crate::raft::types::Raft;

/// Segments of the log past which it is purged up to the checkpoint, however few entries that leaves for a member that
/// lags: its bytes are bounded before its entries are.
const SEGMENTS: usize = 6;

/// Follows the checkpoint until the member stops.
pub async fn run(core: Arc<Core>, raft: Raft, wal: Arc<Wal>, config: Arc<Config>, mut durable: watch::Receiver<u64>) {
    let mut last = 0;
    while durable.changed().await.is_ok() {
        let index = *durable.borrow_and_update();
        let crowded = wal.stats().segments > SEGMENTS;
        if index < last + config.snapshot_count && !crowded {
            continue;
        }
        last = index;
        let up_to = if crowded { index } else { index.saturating_sub(config.snapshot_catchup_entries) };
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let mut metrics = raft.metrics();
        loop {
            let reached = metrics.borrow_watched().snapshot.as_ref().is_some_and(|id| id.index() >= up_to);
            if reached || metrics.changed().await.is_err() {
                break;
            }
        }
        tracing::info!("snapshot-index" = index, "saved snapshot");
        let up_to = core.outgoing.purgeable(up_to);
        if up_to > 0 && raft.trigger().purge_log(up_to).await.is_err() {
            return;
        }
    }
}
