//! The Election service.

use std::sync::Arc;

use super::context::Context;

/// etcd's Election service.
#[derive(Clone)]
pub struct ElectionService {
    ctx: Arc<Context>,
}

impl ElectionService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }
}
