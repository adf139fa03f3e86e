//! The log's bounds and switches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::WalError;
use crate::group;
use crate::pacing::Pacing;
use crate::record;
use crate::sector::SECTOR;

/// The smallest segment: state restated at its head (three blobs of [`record::MAX_BLOB`]) and some entries must fit.
const MIN_SEGMENT: u64 = 16 * 1024;
/// Offsets inside a segment are kept in 32 bits.
const MAX_SEGMENT: u64 = 1 << 30;

/// Everything a log may be told. `Options::default()` is what production uses.
#[derive(Clone)]
pub struct Options {
    /// Bytes of a segment file; a multiple of 512 in 16 KiB..=1 GiB. Default 64 MiB. May differ from what the
    /// directory's older segments have. Bounds an entry: see [`Options::max_entry_bytes`].
    pub segment_bytes: u64,
    /// `false` honours `--unsafe-no-fsync`: callbacks are answered after the write alone. Default true.
    pub fsync: bool,
    /// When to wait a little before a sync.
    pub pacing: Pacing,
    /// Bytes of the newest entries kept in memory. Default 64 MiB. Unwritten entries stay whatever this says; they are
    /// bounded by `queue_bytes`.
    pub cache_bytes: usize,
    /// Bytes queued or being written past which `append` blocks (inline: refuses). Default 64 MiB. A single append that
    /// is larger is taken when nothing else is queued.
    pub queue_bytes: usize,
    /// Bytes after which a group is written even if more is queued. Default 1 MiB; one entry may be larger.
    pub group_bytes: usize,
    /// Purged segments kept for reuse; more are removed. Default 2.
    pub spare_segments: usize,
    /// Called after each group, on the writer's thread; must not block.
    pub on_sync: Option<Arc<dyn Fn(SyncReport) + Send + Sync>>,
    /// Inline mode: called when something has begun to wait for a step. The log is locked meanwhile.
    pub on_queued: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// One written group, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct SyncReport {
    /// Bytes written, padding included.
    pub bytes: usize,
    /// What the write took; zero in inline mode.
    pub write: Duration,
    /// What fdatasync took; zero in inline mode and with `fsync: false`.
    pub sync: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            fsync: true,
            pacing: Pacing::default(),
            cache_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            group_bytes: 1 << 20,
            spare_segments: 2,
            on_sync: None,
            on_queued: None,
        }
    }
}

impl Options {
    /// The largest payload of one entry, bytes: what a fresh segment holds after its header and restated state.
    pub fn max_entry_bytes(&self) -> usize {
        let data = group::capacity(self.segment_bytes / SECTOR as u64, true);
        data - record::MAX_RESTATED - record::ENTRY_OVERHEAD
    }

    pub(crate) fn check(&self) -> Result<(), WalError> {
        let size = self.segment_bytes;
        if !(MIN_SEGMENT..=MAX_SEGMENT).contains(&size) || !size.is_multiple_of(SECTOR as u64) {
            return Err(WalError::Option(format!(
                "segment_bytes {size} is not a multiple of {SECTOR} in {MIN_SEGMENT}..={MAX_SEGMENT}"
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes", &self.segment_bytes)
            .field("fsync", &self.fsync)
            .field("pacing", &self.pacing)
            .field("cache_bytes", &self.cache_bytes)
            .field("queue_bytes", &self.queue_bytes)
            .field("group_bytes", &self.group_bytes)
            .field("spare_segments", &self.spare_segments)
            .finish_non_exhaustive()
    }
}
