//! The leader's in-memory expiry of leases.

use std::sync::Arc;

use keepstone_state::LeaseChange;

use crate::api::context::Context;

/// When each lease ends, as long as this member leads.
pub struct LeaseClock {}

impl LeaseClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {})
    }

    /// What a run of entries changed. Called under the state's write lock.
    pub fn applied(&self, _changes: &[LeaseChange]) {}
}

pub(super) fn start(_ctx: &Arc<Context>) {}
