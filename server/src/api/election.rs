//! The Election service: who holds the oldest key of a name leads it, and the key's value is what it proclaims.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::request_op::Request as Op;
use keepstone_proto::etcdserverpb::watch_create_request::FilterType;
use keepstone_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use keepstone_proto::mvccpb::EventType;
use keepstone_proto::v3electionpb::election_server::Election;
use keepstone_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::kv::unexpected;
use super::lock::recipe::{self, Recipes};
use super::lock::{InQueue, delete};
use super::watch::Responses;

/// Leaders that an observer was not sent yet.
const LEADERS_AHEAD: usize = 4;

type Leaders = mpsc::Sender<Result<LeaderResponse, Status>>;

/// etcd's Election service.
#[derive(Clone)]
pub struct ElectionService {
    recipes: Recipes,
}

fn missing_leader() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

impl ElectionService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { recipes: Recipes::new(&ctx) }
    }

    /// Waits until the caller leads.
    pub async fn campaign(&self, request: CampaignRequest) -> Result<CampaignResponse, Status> {
        let recipes = &self.recipes;
        let lease = recipes.session(request.lease).await?;
        let key = recipe::own_key(&request.name, lease);
        let put = recipe::put(&key, request.value.clone(), lease);
        let get = recipe::op(Op::RequestRange(recipe::get(&key)));
        let queued = recipes.txn(recipe::created_at(&key, 0), vec![put], vec![get]).await?;
        let mut rev = queued.header.as_ref().map_or(0, |header| header.revision);
        let mut value = request.value.clone();
        if !queued.succeeded {
            let own = recipe::range_answer(&queued, 0).and_then(|range| range.kvs.first()).ok_or_else(unexpected)?;
            (rev, value) = (own.create_revision(), own.value_bytes());
        }
        let leader = LeaderKey { name: request.name.clone(), key: key.clone().into(), rev, lease };
        let place = InQueue::new(recipes, &key, rev);
        if value != request.value {
            // Dropped on failure, the place resigns.
            self.proclaim_as(&leader, request.value).await?;
        }
        let waited = recipes.wait_for_deletes(&recipe::prefix(&request.name), rev - 1).await;
        place.keep();
        waited?;
        Ok(CampaignResponse { header: queued.header, leader: Some(leader) })
    }

    async fn proclaim_as(&self, leader: &LeaderKey, value: Bytes) -> Result<Option<ResponseHeader>, Status> {
        let put = recipe::put(&leader.key, value, leader.lease);
        let proclaimed = self.recipes.txn(recipe::created_at(&leader.key, leader.rev), vec![put], Vec::new()).await?;
        if proclaimed.succeeded { Ok(proclaimed.header) } else { Err(not_leader()) }
    }

    pub async fn proclaim(&self, request: ProclaimRequest) -> Result<ProclaimResponse, Status> {
        let mut leader = request.leader.ok_or_else(missing_leader)?;
        leader.lease = self.recipes.session(leader.lease).await?;
        let header = self.proclaim_as(&leader, request.value).await?;
        Ok(ProclaimResponse { header })
    }

    pub async fn resign(&self, request: ResignRequest) -> Result<ResignResponse, Status> {
        let leader = request.leader.ok_or_else(missing_leader)?;
        let resigned = self
            .recipes
            .txn(recipe::created_at(&leader.key, leader.rev), vec![delete(&leader.key)], Vec::new())
            .await?;
        Ok(ResignResponse { header: resigned.header })
    }

    pub async fn leader(&self, request: LeaderRequest) -> Result<LeaderResponse, Status> {
        let found = self.recipes.range(recipe::first_created(&recipe::prefix(&request.name))).await?;
        let kv = found.kvs.into_iter().next().ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(LeaderResponse { header: found.header, kv: Some(kv) })
    }

    /// Every leader and what it proclaims, from now on. Ends when the member can't watch any more.
    pub fn observe(&self, request: &LeaderRequest) -> ReceiverStream<Result<LeaderResponse, Status>> {
        let (tx, rx) = mpsc::channel(LEADERS_AHEAD);
        let (recipes, prefix) = (self.recipes.clone(), recipe::prefix(&request.name));
        tokio::spawn(async move {
            tokio::select! {
                _ = observe(&recipes, &prefix, &tx) => {}
                () = tx.closed() => {}
            }
        });
        ReceiverStream::new(rx)
    }
}

/// Sends leader after leader; `None` when one side is gone.
async fn observe(recipes: &Recipes, prefix: &[u8], leaders: &Leaders) -> Option<()> {
    loop {
        let found = recipes.range(recipe::first_created(prefix)).await.ok()?;
        let header = found.header?;
        let (header, kv) = match found.kvs.into_iter().next() {
            Some(kv) => (header, kv),
            None => first_put(recipes, prefix, header.revision).await?,
        };
        let (key, next) = (kv.key_bytes(), header.revision + 1);
        leaders.send(Ok(LeaderResponse { header: Some(header), kv: Some(kv) })).await.ok()?;
        follow(recipes, &key, next, leaders).await?;
    }
}

/// Watch responses until one says that the watch is over.
async fn next(responses: &mut Responses) -> Option<WatchResponse> {
    let response = responses.next().await?.ok()?;
    (!response.canceled).then_some(response)
}

/// The first key of a prefix without any.
async fn first_put(recipes: &Recipes, prefix: &[u8], from: i64) -> Option<(ResponseHeader, KeyValue)> {
    let mut responses = recipes.watch(prefix, true, from, &[FilterType::Nodelete]);
    loop {
        let response = next(&mut responses).await?;
        if let Some(put) = response.events.first() {
            let (mut header, kv) = (response.header?, put.kv());
            header.revision = kv.mod_revision();
            return Some((header, kv));
        }
    }
}

/// Sends what a leader proclaims until its key is gone.
async fn follow(recipes: &Recipes, key: &[u8], from: i64, leaders: &Leaders) -> Option<()> {
    let mut responses = recipes.watch(key, false, from, &[]);
    loop {
        let response = next(&mut responses).await?;
        for event in &response.events {
            if event.type_() == EventType::Delete {
                return Some(());
            }
            leaders.send(Ok(LeaderResponse { header: response.header, kv: Some(event.kv()) })).await.ok()?;
        }
    }
}

#[tonic::async_trait]
impl Election for ElectionService {
    type ObserveStream = ReceiverStream<Result<LeaderResponse, Status>>;

    async fn campaign(&self, request: Request<CampaignRequest>) -> Result<Response<CampaignResponse>, Status> {
        self.campaign(request.into_inner()).await.map(Response::new)
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimResponse>, Status> {
        self.proclaim(request.into_inner()).await.map(Response::new)
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        self.leader(request.into_inner()).await.map(Response::new)
    }

    async fn observe(&self, request: Request<LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        Ok(Response::new(self.observe(request.get_ref())))
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        self.resign(request.into_inner()).await.map(Response::new)
    }
}
