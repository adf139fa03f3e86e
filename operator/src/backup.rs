//! Backups: a Job with the operator's own image streams a member's snapshot into a store, checks it, and tells what it wrote
//! in its termination message. Another fetches one again, for a cluster that is founded from it, or removes one.
//!
//! [`job`] makes the Jobs, as pure as all objects; [`agent`] is what runs in them. An agent knows no API server: it has no
//! token, and no more secrets than the store's and those that members ask for.

pub mod agent;
pub mod job;
pub mod store;
pub mod task;

pub use job::{Agent, discard, restore, take};
pub use task::{Report, Task};
