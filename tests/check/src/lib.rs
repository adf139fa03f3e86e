//! Holds what clients saw against etcd's promises: every call strictly serializable, every watch complete.
//!
//! No search: each of etcd's answers names a revision, so the order of all calls is known and is only verified. The
//! revisions themselves are known from watches of the whole keyspace ([`History`]); each is replayed on a [`Model`] that
//! shares no code with the server. What a call without an answer did is told by its values: a value is written by one
//! call only.
//!
//! Time and memory grow with the history, not with its concurrency. Nothing here talks to a server: a simulator and
//! tests of real processes hand in what they have seen.

mod call;
mod history;
mod leases;
mod ledger;
mod model;
mod order;
mod reads;
mod watch;

pub use call::{Call, Op, Outcome, Time};
pub use history::{History, Revision};
pub use ledger::{Summary, check_calls};
pub use model::Model;
pub use watch::{Delivery, WatchLog, check_watch};

/// What was promised and not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// The result of a check.
pub type Checked<T = ()> = Result<T, Violation>;

/// Ends a check with a violation.
macro_rules! broken {
    ($($text:tt)*) => { return Err($crate::Violation(format!($($text)*))) };
}
pub(crate) use broken;
