//! Checkpointed state on disk.
//!
//! The Raft log is the durability; this is where the applied state rests between two checkpoints, and where values are
//! read from that are not in memory. A [`Store`] is a small ordered map on disk with sled behind it. The [`RecordStore`]
//! packs records of consecutive revisions into chunks and keeps them there. `docs/format-store.md` has the bytes.
//!
//! Nothing here acknowledges a client, knows the meaning of a key, or has a thread of its own.

mod adopt;
mod cache;
mod checkpoint;
mod chunk;
mod directory;
mod dirty;
mod disk_store;
mod error;
mod heap;
mod keys;
mod record_store;
mod rewrite;
mod scan;
mod sled_store;
mod store;
pub mod testing;

pub use adopt::{Closing, Replaced, Still};
pub use disk_store::{DiskOptions, DiskStore};
pub use error::StoreError;
pub use record_store::{Opened, Options, RecordStore, Sizes};
pub use rewrite::Rewritten;
pub use sled_store::{SledOptions, SledStore, disk_bytes};
pub use store::{Batch, Near, Store, Visit};
