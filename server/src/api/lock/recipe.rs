//! What locks and elections are made of: keys that live as long as their owner's lease, in the order of their
//! creation. The keys are those of Go's `concurrency` package, so that both can contend for one name.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use keepstone_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keepstone_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::response_op::Response as OpResponse;
use keepstone_proto::etcdserverpb::watch_create_request::FilterType;
use keepstone_proto::etcdserverpb::watch_request::RequestUnion;
use keepstone_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest,
};
use keepstone_proto::mvccpb::EventType;
use tonic::Status;

use crate::api::context::Context;
use crate::api::kv::KvService;
use crate::api::lease::LeaseService;
use crate::api::watch::{Responses, WatchService};

/// The TTL in seconds of the lease of a caller who names none.
const SESSION_TTL: i64 = 60;

/// The services that the recipes call.
#[derive(Clone)]
pub struct Recipes {
    pub kv: KvService,
    lease: LeaseService,
    watch: WatchService,
}

/// The status that leaves etcd: its recipes run on a client, whose errors have lost their code.
pub fn as_from_client(refused: Status) -> Status {
    if refused.message().starts_with("etcdserver: ") { Status::unknown(refused.message()) } else { refused }
}

/// The prefix of all keys that contend for `name`.
pub fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The key with which a lease contends for `name`.
pub fn own_key(name: &[u8], lease: i64) -> Vec<u8> {
    let sign = if lease < 0 { "-" } else { "" };
    [name, format!("/{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat()
}

/// The end of the range of a prefix made by [`prefix`].
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn by_creation(prefix: &[u8], order: SortOrder) -> RangeRequest {
    RangeRequest {
        key: prefix.to_vec().into(),
        range_end: prefix_end(prefix).into(),
        limit: 1,
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// The oldest key of a prefix.
pub fn first_created(prefix: &[u8]) -> RangeRequest {
    by_creation(prefix, SortOrder::Ascend)
}

pub fn get(key: &[u8]) -> RangeRequest {
    RangeRequest { key: key.to_vec().into(), ..Default::default() }
}

pub fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The condition that `key` was created at a revision; 0 for a key that is not there.
pub fn created_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.to_vec().into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

pub fn put(key: &[u8], value: Bytes, lease: i64) -> RequestOp {
    op(Op::RequestPut(PutRequest { key: key.to_vec().into(), value, lease, ..Default::default() }))
}

/// The answer to the `n`th operation of a txn, which is a Range.
pub fn range_answer(txn: &TxnResponse, n: usize) -> Option<&RangeResponse> {
    match txn.responses.get(n) {
        Some(ResponseOp { response: Some(OpResponse::ResponseRange(range)) }) => Some(range),
        _ => None,
    }
}

impl Recipes {
    pub fn new(ctx: &Arc<Context>) -> Self {
        Self {
            kv: KvService::new(ctx.clone()),
            lease: LeaseService::new(ctx.clone()),
            watch: WatchService::new(ctx.clone()),
        }
    }

    /// The caller's lease, or a new one that nobody keeps alive.
    pub async fn session(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let granted = self.lease.grant(LeaseGrantRequest { ttl: SESSION_TTL, id: 0 }).await;
        granted.map(|grant| grant.id).map_err(as_from_client)
    }

    pub async fn txn(
        &self,
        compare: Compare,
        success: Vec<RequestOp>,
        failure: Vec<RequestOp>,
    ) -> Result<TxnResponse, Status> {
        self.kv.txn(TxnRequest { compare: vec![compare], success, failure }).await.map_err(as_from_client)
    }

    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.kv.range_message(request).await.map_err(as_from_client)
    }

    /// Watches a key, or a prefix made by [`prefix`], from a revision.
    pub fn watch(&self, key: &[u8], is_prefix: bool, from: i64, filters: &[FilterType]) -> Responses {
        let create = WatchCreateRequest {
            key: key.to_vec().into(),
            range_end: if is_prefix { prefix_end(key).into() } else { Bytes::new() },
            start_revision: from,
            filters: filters.iter().map(|filter| *filter as i32).collect(),
            ..Default::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        self.watch.open(Box::pin(stream::iter([Ok(request)])))
    }

    /// Returns when no key of the prefix is left that was created at or before `created`. Waits for one key at a
    /// time, the youngest of them, so that a key's end wakes one waiter.
    pub async fn wait_for_deletes(&self, prefix: &[u8], created: i64) -> Result<(), Status> {
        loop {
            let mut older = by_creation(prefix, SortOrder::Descend);
            older.max_create_revision = created;
            let found = self.range(older).await?;
            let Some(last) = found.kvs.first() else { return Ok(()) };
            let revision = found.header.as_ref().map_or(0, |header| header.revision);
            self.wait_for_delete(last.key(), revision).await?;
        }
    }

    /// Returns when `key` was deleted at or after a revision, or that can't be told any more.
    async fn wait_for_delete(&self, key: &[u8], from: i64) -> Result<(), Status> {
        let mut responses = self.watch(key, false, from, &[FilterType::Noput]);
        while let Some(response) = responses.next().await {
            let response = response.map_err(as_from_client)?;
            let deleted = response.events.iter().any(|event| event.type_() == EventType::Delete);
            // A compaction that overtook the watch takes nothing from the lock: the keys are looked at again.
            if deleted || response.compact_revision != 0 {
                return Ok(());
            }
            if response.canceled {
                return Err(Status::unknown(response.cancel_reason));
            }
        }
        Err(Status::unknown("lost watcher waiting for delete"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_gos_concurrency_package() {
        assert_eq!(own_key(b"a", 0x694d_71dd_acfd_a245), b"a/694d71ddacfda245");
        assert_eq!(own_key(b"", 0x0f), b"/f");
        assert_eq!(own_key(b"a", -0x1f), b"a/-1f");
        let all = first_created(&prefix(b"a"));
        assert_eq!((&all.key[..], &all.range_end[..], all.limit), (&b"a/"[..], &b"a0"[..], 1));
    }

    #[test]
    fn errors_of_etcd_lose_their_code_as_its_client_loses_it() {
        let refused = as_from_client(Status::not_found("etcdserver: requested lease not found"));
        assert_eq!(
            (refused.code(), refused.message()),
            (tonic::Code::Unknown, "etcdserver: requested lease not found")
        );
        assert_eq!(as_from_client(Status::internal("else")).code(), tonic::Code::Internal);
    }
}
