//! What only a leader's clock decides: when a lease has expired, what is left of it, how much history to keep, who of the
//! members is corrupt.
//!
//! Each decision ends as a proposal: nothing here changes the state. Time is monotonic: a clock that is set changes
//! nothing.

pub mod auto_compaction;
pub mod corruption;
pub mod expiry;
pub mod lease;
pub mod remote;

use std::sync::Arc;

pub use lease::LeaseClock;

use crate::api::context::Context;

/// Starts all clocks on the current runtime. They end with the member.
pub fn start(ctx: &Arc<Context>) {
    lease::start(ctx);
    auto_compaction::start(ctx);
    corruption::start(ctx);
}
