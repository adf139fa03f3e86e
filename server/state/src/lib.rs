//! The replicated state machine. Pure: no tokio, no clock, no randomness, no IO of its own.
//!
//! [`State::apply`] takes one replicated request after another and gives back what a client is told and what is to be
//! stored; the same requests make the same state on every member. It holds which revision of a key was current when,
//! leases, alarms and members, but no values: those reach it through [`Records`]. Bounds: 2^24 changes a request and
//! keys a lease, revisions and versions below 2^52.

mod alarm;
mod apply;
pub mod check;
mod compare;
mod error;
mod foresee;
mod hash;
mod head;
mod index;
mod keys;
mod kv;
mod lease;
mod members;
pub mod quota;
pub mod range;
mod reply;
mod restore;
mod sorted;
mod state;
mod tables;
mod tree;
mod txn;
mod types;
mod view;

pub use alarm::Alarms;
pub use check::{check_delete, check_put, check_range, check_txn};
pub use error::{Code, Error};
pub use foresee::{Foresight, MAX_PLACES, reads_values};
pub use hash::{HashKv, HashPlan, stored_key};
pub use index::{Scan, Tally};
pub use keys::Keys;
pub use kv::MAX_CHANGES;
pub use lease::{Lease, Leases, MAX_KEYS, MAX_TTL};
pub use members::{Members, shown};
pub use range::{Fetch, Plan};
pub use reply::Reply;
pub use restore::{Restore, RestoreError};
pub use state::State;
pub use tables::{BadRow, Row};
pub use txn::{is_read_only, is_serializable};
pub use types::{Effects, LeaseChange, LeaseId, MemberId, Record, RecordError, Records, Revision, TableWrite};
