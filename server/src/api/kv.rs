//! The KV service: checks a request, sends writes through the log and answers reads from local state.
//!
//! The unary calls are plain methods on decoded messages, so that another transport can call them in batches.

use std::sync::Arc;
use std::time::Instant;

use keepstone_proto::etcdserverpb::kv_server::Kv;
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use keepstone_state::{Reply, check};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::error::status;
use super::range::Answered;
use super::{quota, range, range_stream};

/// etcd's KV service.
#[derive(Clone)]
pub struct KvService {
    ctx: Arc<Context>,
}

/// An answer of another kind than the request asks for: the state machine's contract is broken.
pub fn unexpected() -> Status {
    Status::internal("the state machine answered another kind of request")
}

impl KvService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    fn fill(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.ctx.header(revision));
    }

    pub async fn range(&self, request: RangeRequest) -> Result<Answered, Status> {
        check::check_range(&request).map_err(|error| status(&error))?;
        if !request.serializable {
            self.ctx.linearizable().await?;
        }
        self.ctx.check_fence()?;
        self.ctx.core.metrics.mvcc.ranges.inc();
        let began = Instant::now();
        let answer = range::answer(&self.ctx.core, &self.ctx.lists, request).await;
        self.ctx.core.metrics.server.range_took(answer.is_ok(), began.elapsed().as_secs_f64());
        let mut answer = answer?;
        if let Answered::Small(response) = &mut answer {
            self.fill(&mut response.header);
        }
        Ok(answer)
    }

    /// A Range whose answer is wanted as a message: for callers that ask for few keys.
    pub async fn range_message(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        match self.range(request).await? {
            Answered::Small(response) => Ok(response),
            Answered::Large(large) => large.message().await,
        }
    }

    pub async fn put(&self, put: PutRequest) -> Result<PutResponse, Status> {
        check::check_put(&put).map_err(|error| status(&error))?;
        let request = Box::new(InternalRaftRequest { put: Some(put), ..Default::default() });
        quota::admit(&self.ctx, &request).await?;
        match self.ctx.propose(request).await? {
            Reply::Put(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            _ => Err(unexpected()),
        }
    }

    pub async fn delete_range(&self, delete: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
        check::check_delete(&delete).map_err(|error| status(&error))?;
        let request = Box::new(InternalRaftRequest { delete_range: Some(delete), ..Default::default() });
        match self.ctx.propose(request).await? {
            Reply::DeleteRange(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            _ => Err(unexpected()),
        }
    }

    pub async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        check::check_txn(&txn, self.ctx.config.max_txn_ops).map_err(|error| status(&error))?;
        let mut response = if is_read_only(&txn) { self.read_txn(&txn).await? } else { self.write_txn(txn).await? };
        self.fill(&mut response.header);
        Ok(response)
    }

    async fn read_txn(&self, txn: &TxnRequest) -> Result<TxnResponse, Status> {
        if !is_serializable(txn) {
            self.ctx.linearizable().await?;
        }
        self.ctx.check_fence()?;
        range::read_txn(&self.ctx.core, txn).await
    }

    async fn write_txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        let request = Box::new(InternalRaftRequest { txn: Some(txn), ..Default::default() });
        quota::admit(&self.ctx, &request).await?;
        match self.ctx.propose(request).await? {
            Reply::Txn(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    pub async fn compact(&self, compaction: CompactionRequest) -> Result<CompactionResponse, Status> {
        let (revision, physical) = (compaction.revision, compaction.physical);
        let request = Box::new(InternalRaftRequest { compaction: Some(compaction), ..Default::default() });
        match self.ctx.propose(request).await? {
            Reply::Compaction(mut response) => {
                if physical {
                    self.ctx.core.compactor.finished(revision).await;
                }
                self.fill(&mut response.header);
                Ok(response)
            }
            _ => Err(unexpected()),
        }
    }
}

#[tonic::async_trait]
impl Kv for KvService {
    type RangeStreamStream = ReceiverStream<Result<RangeStreamResponse, Status>>;

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        match self.range(request.into_inner()).await? {
            Answered::Small(response) => Ok(Response::new(response)),
            Answered::Large(large) => {
                let mut response = Response::new(RangeResponse::default());
                response.extensions_mut().insert(large);
                Ok(response)
            }
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.put(request.into_inner()).await.map(Response::new)
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.delete_range(request.into_inner()).await.map(Response::new)
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.txn(request.into_inner()).await.map(Response::new)
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.compact(request.into_inner()).await.map(Response::new)
    }

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        let stream = range_stream::open(self.ctx.clone(), request.into_inner()).await?;
        Ok(Response::new(stream))
    }
}

/// Whether both branches hold ranges only. A nested txn makes it a write, whatever it holds.
fn is_read_only(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether a read-only txn may be answered without asking the leader.
fn is_serializable(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| !matches!(&op.request, Some(Op::RequestRange(range)) if !range.serializable))
}
