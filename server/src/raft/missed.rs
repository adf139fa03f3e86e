//! Entries that replication asks for after they were purged, which is no failure of the disk.
//!
//! openraft 0.10.0-alpha.37 asks so: a peer for which it has decided on a snapshot is still sent the newest commit, and
//! when the answer to that fails, the order from before the snapshot is taken up once more. A log that refuses to read
//! them ends the member. So it reads none, and the message that openraft makes of that fails instead of being sent:
//! then it decides anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Told by the log, asked by the network. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Missed(Arc<Mutex<BTreeSet<u64>>>);

impl Missed {
    /// Entries from `index` on were asked for, and `index` is purged.
    pub(super) fn at(&self, index: u64) {
        self.0.lock().insert(index);
    }

    /// Whether entries from `index` on were missed since this was last asked.
    pub(super) fn take(&self, index: u64) -> bool {
        self.0.lock().remove(&index)
    }
}

#[cfg(test)]
mod tests {
    use keepstone_wal::testing::SimDisk;
    use keepstone_wal::{LogPos, Options, Wal};
    use openraft::RaftLogReader as _;

    use super::*;
    use crate::raft::codec;
    use crate::raft::log_store::LogStore;
    use crate::raft::types::Payload;

    /// A log of the entries 1 to 9, of which those up to 5 are purged.
    fn log() -> LogStore {
        let disk = Arc::new(SimDisk::new());
        let (wal, _) = Wal::open_inline("/log".as_ref(), Options::default(), disk).expect("a new log");
        wal.save_meta("a test".into(), Box::new(drop)).expect("queued");
        let data = codec::encode_payload(&Payload::Blank);
        let entries: Vec<_> =
            (1..10).map(|index| keepstone_wal::Entry { index, term: 1, data: data.clone() }).collect();
        wal.append(entries, Box::new(drop)).expect("queued");
        wal.purge(LogPos { index: 5, term: 1 }, Box::new(drop)).expect("queued");
        while wal.step().expect("no fault was injected") {}
        LogStore::new(Arc::new(wal)).expect("no vote, and nothing committed")
    }

    #[tokio::test]
    async fn replication_that_asks_for_purged_entries_does_not_end_the_member() {
        let mut log = log();
        let missed = log.missed();
        assert!(log.limited_get_log_entries(3, 8).await.expect("no failure").is_empty());
        assert!(!missed.take(4));
        assert!(missed.take(3));
        assert!(!missed.take(3), "once for each time it was asked for");
        assert_eq!(log.limited_get_log_entries(6, 10).await.expect("there").len(), 4);
    }
}
