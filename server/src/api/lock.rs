//! The Lock service.

use std::sync::Arc;

use super::context::Context;

/// etcd's Lock service.
#[derive(Clone)]
pub struct LockService {
    ctx: Arc<Context>,
}

impl LockService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }
}
