//! The Cluster service: the member table as clients see it.
//!
//! What changes who belongs to the cluster is decided by the leader, in [`crate::cluster::changes`].

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use keepstone_proto::etcdserverpb;
use keepstone_proto::etcdserverpb::cluster_server::Cluster;
use keepstone_proto::etcdserverpb::{
    InternalRaftRequest, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, ResponseHeader,
};
use keepstone_proto::keepstonepb::cluster_call::Kind;
use keepstone_proto::keepstonepb::{MemberAdd, MemberPromote, MemberRemove, MemberUpdate};
use keepstone_state::{Error, Reply};
use tonic::{Request, Response, Status};

use super::context::Context;
use super::error::status;
use super::kv::unexpected;
use crate::cluster::changes;
use crate::config::ListenUrl;
use crate::data;

/// etcd's Cluster service.
#[derive(Clone)]
pub struct ClusterService {
    ctx: Arc<Context>,
}

impl ClusterService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    async fn change(&self, call: Kind) -> Result<Vec<etcdserverpb::Member>, Status> {
        self.ctx.check_learner()?;
        let members = changes::change(&self.ctx, call).await.map_err(|error| status(&error))?;
        Ok(members.into_iter().map(keepstone_state::shown).collect())
    }

    /// This service's headers name no revision.
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: 0, ..self.ctx.header(0) })
    }
}

/// An ID that no member has had, as etcd makes it of URLs, token and time.
fn fresh_id(peer_urls: &[String], token: &str) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    data::member_id(peer_urls, &format!("{token}{now}")).0
}

fn check_urls(urls: &[String]) -> Result<(), Status> {
    let fine = !urls.is_empty() && urls.iter().all(|url| ListenUrl::parse(url).is_ok());
    if fine { Ok(()) } else { Err(status(&Error::MemberBadUrls)) }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_add(&self, request: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        let request = request.into_inner();
        check_urls(&request.peer_urls)?;
        let mut peer_urls = request.peer_urls;
        peer_urls.sort();
        let id = fresh_id(&peer_urls, &self.ctx.config.initial_cluster_token);
        let add = MemberAdd { id, peer_urls, is_learner: request.is_learner, ..Default::default() };
        let members = self.change(Kind::Add(add)).await?;
        let member = members.iter().find(|member| member.id == id).cloned();
        Ok(Response::new(MemberAddResponse { header: self.header(), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let members = self.change(Kind::Remove(MemberRemove { id: request.into_inner().id })).await?;
        Ok(Response::new(MemberRemoveResponse { header: self.header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        check_urls(&request.peer_urls)?;
        let update = MemberUpdate { id: request.id, peer_urls: request.peer_urls, ..Default::default() };
        match self.ctx.propose(InternalRaftRequest { member_update: Some(update), ..Default::default() }).await? {
            Reply::MemberUpdate(mut response) => {
                response.header = self.header();
                Ok(Response::new(response))
            }
            _ => Err(unexpected()),
        }
    }

    async fn member_list(&self, request: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        // A learner answers this as any member does.
        if request.into_inner().linearizable {
            self.ctx.reads.wait().await.map_err(|error| status(&error))?;
        }
        let members = self.ctx.core.state.read().members().list();
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let members = self.change(Kind::Promote(MemberPromote { id: request.into_inner().id })).await?;
        Ok(Response::new(MemberPromoteResponse { header: self.header(), members }))
    }
}
