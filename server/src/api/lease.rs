//! The Lease service.

use std::sync::Arc;

use super::context::Context;

/// etcd's Lease service.
#[derive(Clone)]
pub struct LeaseService {
    ctx: Arc<Context>,
}

impl LeaseService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }
}
