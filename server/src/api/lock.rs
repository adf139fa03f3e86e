//! The Lock service: a mutex of a name, held as long as its key lives.

pub(super) mod recipe;

use std::sync::Arc;

use bytes::Bytes;
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::{DeleteRangeRequest, ResponseHeader};
use keepstone_proto::v3lockpb::lock_server::Lock;
use keepstone_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::context::Context;
use super::kv::unexpected;
use recipe::{Recipes, as_from_client};

/// etcd's Lock service.
#[derive(Clone)]
pub struct LockService {
    recipes: Recipes,
}

/// A key in the queue, taken out of it if its caller goes away before its turn.
pub(super) struct InQueue {
    recipes: Recipes,
    key: Vec<u8>,
    created: i64,
    armed: bool,
}

impl InQueue {
    pub(super) fn new(recipes: &Recipes, key: &[u8], created: i64) -> Self {
        Self { recipes: recipes.clone(), key: key.to_vec(), created, armed: true }
    }

    /// The key stays.
    pub(super) fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.armed {
            let (recipes, key, created) = (self.recipes.clone(), std::mem::take(&mut self.key), self.created);
            // What can't be deleted goes with its lease.
            runtime.spawn(async move {
                drop(recipes.txn(recipe::created_at(&key, created), vec![delete(&key)], Vec::new()).await)
            });
        }
    }
}

/// The deletion of one key, as an operation of a txn.
pub(super) fn delete(key: &[u8]) -> keepstone_proto::etcdserverpb::RequestOp {
    recipe::op(Op::RequestDeleteRange(DeleteRangeRequest { key: key.to_vec().into(), ..Default::default() }))
}

impl LockService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { recipes: Recipes::new(&ctx) }
    }

    /// Waits until the lock is the caller's.
    pub async fn lock(&self, request: LockRequest) -> Result<LockResponse, Status> {
        let recipes = &self.recipes;
        let lease = recipes.session(request.lease).await?;
        let (prefix, key) = (recipe::prefix(&request.name), recipe::own_key(&request.name, lease));
        let put = recipe::put(&key, Bytes::new(), lease);
        let get = recipe::op(Op::RequestRange(recipe::get(&key)));
        let owner = recipe::op(Op::RequestRange(recipe::first_created(&prefix)));
        let queued = recipes.txn(recipe::created_at(&key, 0), vec![put, owner.clone()], vec![get, owner]).await?;
        let created = if queued.succeeded {
            queued.header.as_ref().map_or(0, |header| header.revision)
        } else {
            let own = recipe::range_answer(&queued, 0).and_then(|range| range.kvs.first());
            own.ok_or_else(unexpected)?.create_revision()
        };
        let owner = recipe::range_answer(&queued, 1).and_then(|range| range.kvs.first());
        if owner.is_none_or(|owner| owner.create_revision() == created) {
            return Ok(locked(queued.header, key));
        }
        let place = InQueue::new(recipes, &key, created);
        recipes.wait_for_deletes(&prefix, created - 1).await?;
        let own = recipes.range(recipe::get(&key)).await?;
        place.keep();
        if own.kvs.is_empty() {
            return Err(Status::unknown("mutex: session is expired"));
        }
        Ok(locked(own.header, key))
    }

    pub async fn unlock(&self, request: UnlockRequest) -> Result<UnlockResponse, Status> {
        let delete = DeleteRangeRequest { key: request.key, ..Default::default() };
        let deleted = self.recipes.kv.delete_range(delete).await.map_err(as_from_client)?;
        Ok(UnlockResponse { header: deleted.header })
    }
}

fn locked(header: Option<ResponseHeader>, key: Vec<u8>) -> LockResponse {
    LockResponse { header, key: key.into() }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        self.lock(request.into_inner()).await.map(Response::new)
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        self.unlock(request.into_inner()).await.map(Response::new)
    }
}
