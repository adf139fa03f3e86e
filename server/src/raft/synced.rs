//! How much of this member's own log is on its disk, for those who must not get ahead of it.
//!
//! A quorum may commit what a member with a slow disk has not synced yet. Were that applied, a checkpoint could keep it,
//! and a power loss would leave a state whose log is gone: a member that can't start any more.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

/// What is known of the log.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// The index of the first entry that may not be on disk yet.
    next: u64,
    /// How often the log's end was cut off. What was asked for before the last cut says nothing of what is there now.
    cuts: u64,
    failed: bool,
}

/// Told by the log's writer; clones and [`Synced`]s share what is known.
#[derive(Clone, Debug)]
pub(super) struct Syncing(Arc<watch::Sender<Reach>>);

/// An append, or a cut, that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    syncing: Syncing,
    cuts: u64,
    next: u64,
}

/// Waits for the log.
#[derive(Clone, Debug)]
pub struct Synced(watch::Receiver<Reach>);

impl Syncing {
    /// Everything before the entry `next` is on disk.
    pub fn new(next: u64) -> Self {
        Self(Arc::new(watch::Sender::new(Reach { next, cuts: 0, failed: false })))
    }

    pub fn synced(&self) -> Synced {
        Synced(self.0.subscribe())
    }

    /// Entries up to the one before `next` are about to be written.
    pub fn appending(&self, next: u64) -> Pending {
        Pending { syncing: self.clone(), cuts: self.0.borrow().cuts, next }
    }

    /// The entries from `next` on are about to go.
    pub fn cutting(&self, next: u64) -> Pending {
        self.0.send_modify(|reach| {
            reach.next = reach.next.min(next);
            reach.cuts += 1;
        });
        self.appending(next)
    }
}

impl Pending {
    /// A sync covered it and everything before it, or there won't be one.
    pub fn ended(self, well: bool) {
        self.syncing.0.send_if_modified(|reach| {
            let further = well && self.cuts == reach.cuts && self.next > reach.next;
            if further {
                reach.next = self.next;
            }
            let fails = !well && !reach.failed;
            reach.failed |= fails;
            further || fails
        });
    }
}

impl Synced {
    /// Of a log that is said to be on disk, whatever it holds: for tests.
    pub fn all() -> Self {
        Syncing::new(u64::MAX).synced()
    }

    /// The index of the first entry that may not be on disk yet.
    pub fn next(&self) -> u64 {
        self.0.borrow().next
    }

    /// Waits until the entry `index`, and all before it, are on disk.
    ///
    /// # Errors
    /// When the log has stopped, and they never will be.
    pub async fn wait_for(&mut self, index: u64) -> io::Result<()> {
        let known = self.0.wait_for(|reach| reach.next > index || reach.failed).await;
        match known {
            Ok(reach) if reach.next > index => Ok(()),
            Ok(_) | Err(_) => Err(io::Error::other("the log has stopped")),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn waits(synced: &mut Synced, index: u64) -> bool {
        synced.wait_for(index).now_or_never().is_none()
    }

    #[test]
    fn what_was_written_before_a_cut_says_nothing_of_what_replaced_it() {
        let syncing = Syncing::new(10);
        let mut synced = syncing.synced();
        let old = syncing.appending(13);
        let cut = syncing.cutting(11);
        let new = syncing.appending(13);
        old.ended(true);
        assert!(waits(&mut synced, 10));
        cut.ended(true);
        assert!(!waits(&mut synced, 10));
        assert!(waits(&mut synced, 11));
        new.ended(true);
        assert!(!waits(&mut synced, 12));
        drop(syncing.cutting(5));
        assert!(waits(&mut synced, 5));
    }

    #[test]
    fn nobody_waits_for_a_log_that_has_stopped() {
        let syncing = Syncing::new(0);
        let mut synced = syncing.synced();
        syncing.appending(1).ended(true);
        syncing.appending(2).ended(false);
        assert!(synced.wait_for(0).now_or_never().expect("known").is_ok());
        assert!(synced.wait_for(1).now_or_never().expect("known").is_err());
    }
}
