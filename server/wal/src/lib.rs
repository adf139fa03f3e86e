//! The Raft log on disk: one ordered stream of records in recycled segment files, one fdatasync for everything that
//! arrived during the last one. `docs/format-wal.md` has every byte.
//!
//! It knows nothing of Raft's rules, of openraft or of an async runtime: votes, commit positions, identities and
//! entries are bytes it was handed, and answers go to callbacks.
//!
//! What it promises:
//!
//! * A callback hears `Ok` only after fdatasync covered its record and every record queued before it.
//! * What was answered `Ok` is there after a crash, in order, or [`Wal::open`] refuses. It never cuts what may have been
//!   answered, and never invents.
//! * The first failed write or sync is final: every queued and every later call answers that same failure.
//!
//! What it never does: retry a failed sync, overwrite a synced sector (but for writing the last group's very bytes
//! again at start-up), or grow its memory past the bounds in [`Options`].

mod disk;
mod error;
mod group;
mod index;
mod options;
mod pacing;
mod reader;
mod record;
mod recover;
mod replay;
mod sector;
mod segment;
mod shared;
mod wal;
mod writer;

pub mod export;
pub mod testing;

pub use disk::{Disk, File, RealDisk};
pub use error::{Failure, WalError};
pub use options::{Options, SyncReport};
pub use pacing::{Pacer, Pacing};
pub use record::{Entry, LogPos};
pub use recover::{Cut, Recovered};
pub use shared::{Done, Stats};
pub use wal::Wal;
