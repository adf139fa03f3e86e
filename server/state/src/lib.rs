//! The replicated state machine. Pure: no tokio, no clock, no randomness, no IO of its own.

mod types;

pub use types::{Effects, LeaseId, MemberId, Record, RecordError, Records, Revision, TableWrite};
