//! A machine's disks: the log's, which tears and forgets what was not synced, and the store's, which crashes as sled does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keepstone_wal::Wal;
use keepstone_wal::testing::{Crash, SimDisk};
use parking_lot::Mutex;

use crate::dice::Dice;
use crate::home::Places;

/// Where the log is on its disk.
pub const LOG_DIR: &str = "/log";

/// How a machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process is gone; what it wrote is in the machine's memory.
    Killed,
    /// The power is gone.
    PowerLost,
}

/// What survives of a machine.
#[derive(Clone)]
pub struct Disks {
    pub log: SimDisk,
    pub stores: Places,
}

impl Disks {
    pub fn empty() -> Self {
        Self { log: SimDisk::new(), stores: Places::empty() }
    }

    /// What is found after the end. Half of the time it comes in the middle of a write, if there is anything to write.
    pub fn after(&self, end: End, wal: Option<&Wal>, dice: &mut Dice) -> Self {
        if let Some(wal) = wal
            && dice.chance(60)
        {
            self.log.die_after(dice.within(0..4));
            // The answers go to tasks that are dead.
            drop(wal.step());
        }
        let how = match end {
            End::Killed => Crash::Process,
            End::PowerLost if dice.chance(25) => Crash::LoseAll,
            End::PowerLost => Crash::Random(dice.bits()),
        };
        Self { log: self.log.crash(how), stores: self.stores.crash(dice) }
    }
}

/// How fast a log's disk is.
pub struct Pace {
    dice: Mutex<Dice>,
    /// Milliseconds that a sync takes at most.
    most: AtomicU64,
}

impl Pace {
    const USUAL: u64 = 3;

    pub fn new(dice: Dice) -> Self {
        Self { dice: Mutex::new(dice), most: AtomicU64::new(Self::USUAL) }
    }

    /// How long the next write takes.
    pub fn next(&self) -> Duration {
        let most = self.most.load(Ordering::Relaxed);
        Duration::from_micros(self.dice.lock().within(50..most * 1000))
    }

    /// From now on a sync takes up to so many milliseconds.
    pub fn slow_down(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub fn recover(&self) {
        self.slow_down(Self::USUAL);
    }
}
