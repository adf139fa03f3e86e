//! A member among others: who it is, how it found its cluster, who leads, who belongs to it.
//!
//! What is replicated of that is in the state's member table; nothing here decides anything that the log has not.

pub mod changes;
pub mod establish;
pub mod fence;
pub mod found;
pub mod gate;
pub mod handover;
pub mod join;
pub mod leadership;
pub mod passport;
pub mod permit;
pub mod plan;
pub mod reception;
pub mod reconcile;
pub mod repair;
pub mod survive;

pub use leadership::Leadership;
pub use passport::Passport;
