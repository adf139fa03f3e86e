//! The Lease service: grants and revokes go through the log, renewals stay in the leader's memory.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, ReadyChunks};
use futures_util::{FutureExt, Stream, StreamExt};
use keepstone_proto::etcdserverpb::lease_server::Lease;
use keepstone_proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};
use keepstone_state::{Error, LeaseId, Reply};
use tonic::{Request, Response, Status, Streaming};

use super::context::Context;
use super::kv::unexpected;
use super::quota;
use crate::clocks::lease::{self, Renewal};
use crate::clocks::remote;

/// Renewals of one stream that share a confirmation of leadership.
const RENEWALS_AT_ONCE: usize = 256;
/// Renewals of one stream that may wait for the log; past it no further request is read.
const WAITING_RENEWALS: usize = 1024;
/// Tries to find an ID that no lease has. One is enough but for a broken source of randomness.
const ID_TRIES: usize = 16;

/// etcd's Lease service.
#[derive(Clone)]
pub struct LeaseService {
    ctx: Arc<Context>,
}

impl LeaseService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    fn fill(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.ctx.header(revision));
    }

    /// Grants a lease; the server picks the ID if the request names none.
    pub async fn grant(&self, mut grant: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
        grant.ttl = grant.ttl.max(lease::min_ttl(&self.ctx.config));
        let own_choice = grant.id == 0;
        let mut tries = if own_choice { ID_TRIES } else { 1 };
        loop {
            if own_choice {
                grant.id = random_id();
            }
            let request = InternalRaftRequest { lease_grant: Some(grant), ..Default::default() };
            quota::admit(&self.ctx, &request).await?;
            tries -= 1;
            match self.ctx.propose(request).await {
                Ok(Reply::LeaseGrant(mut response)) => {
                    self.fill(&mut response.header);
                    return Ok(response);
                }
                Ok(_) => return Err(unexpected()),
                Err(refused) if tries > 0 && refused.message() == Error::LeaseExists.to_string() => {}
                Err(refused) => return Err(refused),
            }
        }
    }

    pub async fn revoke(&self, revoke: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Status> {
        let request = InternalRaftRequest { lease_revoke: Some(revoke), ..Default::default() };
        match self.ctx.propose(request).await? {
            Reply::LeaseRevoke(mut response) => {
                self.fill(&mut response.header);
                Ok(response)
            }
            _ => Err(unexpected()),
        }
    }

    /// A lease's time and keys; a TTL of -1 for one that is not there.
    pub async fn time_to_live(&self, request: LeaseTimeToLiveRequest) -> Result<LeaseTimeToLiveResponse, Status> {
        self.ctx.linearizable().await?;
        let id = LeaseId(request.id);
        let mut response = LeaseTimeToLiveResponse { id: id.0, ttl: -1, ..Default::default() };
        if let Some((left, granted)) = remote::time_left(&self.ctx, id).await? {
            let state = self.ctx.core.state.read();
            if let Some(lease) = state.leases().get(id) {
                response.ttl = left;
                response.granted_ttl = granted;
                if request.keys {
                    response.keys = lease.keys().map(bytes::Bytes::copy_from_slice).collect();
                }
            }
        }
        self.fill(&mut response.header);
        Ok(response)
    }

    /// All leases this member knows of, those that end first in front. Local, not linearizable.
    pub async fn leases(&self) -> LeaseLeasesResponse {
        let mut ids: Vec<LeaseId> = self.ctx.core.state.read().leases().iter().map(|(id, _)| id).collect();
        self.ctx.core.leases.sort(&mut ids);
        let leases = ids.into_iter().map(|id| LeaseStatus { id: id.0 }).collect();
        LeaseLeasesResponse { header: Some(self.ctx.header(0)), leases }
    }

    /// Answers each renewal; ends after the first error. A lease that is not there is answered with a TTL of 0.
    ///
    /// One that has ended and is not revoked yet is answered when it is; others are not held up by it.
    pub fn keep_alive_stream<S>(
        &self,
        requests: S,
    ) -> impl Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send + use<S> + 'static
    where
        S: Stream<Item = Result<LeaseKeepAliveRequest, Status>> + Send + Unpin + 'static,
    {
        let keep_alive = KeepAlive {
            ctx: self.ctx.clone(),
            requests: requests.ready_chunks(RENEWALS_AT_ONCE),
            open: true,
            answers: VecDeque::new(),
            waiting: FuturesUnordered::new(),
        };
        stream::unfold(keep_alive, |mut keep_alive| async move {
            keep_alive.next().await.map(|answer| (answer, keep_alive))
        })
    }
}

/// A positive ID. Not a secret, only unlikely to be taken.
fn random_id() -> i64 {
    let random = RandomState::new().hash_one(0_u8) & i64::MAX as u64;
    i64::try_from(random).unwrap_or(1).max(1)
}

type Answer = Result<LeaseKeepAliveResponse, Status>;

/// One keepalive stream.
struct KeepAlive<S: Stream> {
    ctx: Arc<Context>,
    requests: ReadyChunks<S>,
    open: bool,
    answers: VecDeque<Answer>,
    waiting: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl<S> KeepAlive<S>
where
    S: Stream<Item = Result<LeaseKeepAliveRequest, Status>> + Unpin,
{
    async fn next(&mut self) -> Option<Answer> {
        let answer = self.next_answer().await;
        if matches!(answer, Some(Err(_))) {
            self.open = false;
            self.answers.clear();
            self.waiting.clear();
        }
        answer
    }

    async fn next_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(answer);
            }
            tokio::select! {
                Some(answer) = self.waiting.next(), if !self.waiting.is_empty() => return Some(answer),
                requests = self.requests.next(), if self.open && self.waiting.len() < WAITING_RENEWALS => match requests {
                    Some(requests) => self.renew(requests).await,
                    None => self.open = false,
                },
                else => return None,
            }
        }
    }

    /// Renews what can be renewed at once; the rest waits beside.
    async fn renew(&mut self, requests: Vec<Result<LeaseKeepAliveRequest, Status>>) {
        // Before the renewal: a lease that was revoked at a revision is never seen renewed at a later one.
        let header = self.ctx.header(0);
        let mut ids = Vec::with_capacity(requests.len());
        let mut failed = None;
        for request in requests {
            match request {
                Ok(request) => ids.push(LeaseId(request.id)),
                Err(error) => {
                    self.ctx.core.metrics.network.received_badly("lease-keepalive", &error);
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Err(error) = self.renew_all(&header, &ids).await {
            failed = Some(error);
        }
        self.answers.extend(failed.map(Err));
    }

    async fn renew_all(&mut self, header: &ResponseHeader, ids: &[LeaseId]) -> Result<(), Status> {
        if ids.is_empty() {
            return Ok(());
        }
        let renewals = remote::renew_all(&self.ctx, ids).await?;
        for (id, renewal) in ids.iter().zip(renewals) {
            self.settle(header, *id, renewal);
        }
        Ok(())
    }

    fn settle(&mut self, header: &ResponseHeader, id: LeaseId, renewal: Renewal) {
        match renewal {
            Renewal::For(ttl) => self.answers.push_back(Ok(renewed(&self.ctx, header, id, ttl))),
            Renewal::Unknown => self.answers.push_back(Ok(renewed(&self.ctx, header, id, 0))),
            later => self.waiting.push(renew_later(self.ctx.clone(), *header, id, later).boxed()),
        }
    }
}

fn renewed(ctx: &Context, header: &ResponseHeader, id: LeaseId, ttl: i64) -> LeaseKeepAliveResponse {
    if ttl > 0 {
        ctx.core.metrics.leases.renewed.inc();
    }
    LeaseKeepAliveResponse { header: Some(*header), id: id.0, ttl }
}

/// Renews a lease that something stands in the way of.
async fn renew_later(ctx: Arc<Context>, header: ResponseHeader, id: LeaseId, renewal: Renewal) -> Answer {
    let ttl = remote::insist(&ctx, id, renewal).await?;
    Ok(renewed(&ctx, &header, id, ttl))
}

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream = BoxStream<'static, Answer>;

    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Result<Response<LeaseGrantResponse>, Status> {
        self.grant(request.into_inner()).await.map(Response::new)
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.revoke(request.into_inner()).await.map(Response::new)
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        Ok(Response::new(self.keep_alive_stream(request.into_inner()).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.time_to_live(request.into_inner()).await.map(Response::new)
    }

    async fn lease_leases(&self, _: Request<LeaseLeasesRequest>) -> Result<Response<LeaseLeasesResponse>, Status> {
        Ok(Response::new(self.leases().await))
    }
}
