//! The Cluster service: the member table as clients see it.
//!
//! A cluster has one member here: its table can be read and its peer URLs changed. A second member can't be added, and
//! the only one can't be removed, with the words etcd has for that.

use std::sync::Arc;

use keepstone_proto::etcdserverpb::cluster_server::Cluster;
use keepstone_proto::etcdserverpb::{
    InternalRaftRequest, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, ResponseHeader,
};
use keepstone_proto::keepstonepb::MemberUpdate;
use keepstone_state::{Error, MemberId, Reply};
use tonic::{Request, Response, Status};

use super::context::Context;
use super::error::status;
use super::kv::unexpected;
use crate::config::ListenUrl;

/// etcd's Cluster service.
#[derive(Clone)]
pub struct ClusterService {
    ctx: Arc<Context>,
}

impl ClusterService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    /// This service's headers name no revision.
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: 0, ..self.ctx.header(0) })
    }
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
        self.ctx.core.state.read().members().check_urls(&request.peer_urls, None).map_err(|error| status(&error))?;
        Err(Status::unimplemented("this version runs clusters of one member: a second can't be added"))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let id = MemberId(request.into_inner().id);
        let state = self.ctx.core.state.read();
        if state.members().is_removed(id) || state.members().get(id).is_none() {
            return Err(status(&Error::MemberNotFound));
        }
        Err(status(&Error::MemberNotEnoughStarted))
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
        if request.into_inner().linearizable {
            self.ctx.linearizable().await?;
        }
        let members = self.ctx.core.state.read().members().list();
        Ok(Response::new(MemberListResponse { header: self.header(), members }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let id = MemberId(request.into_inner().id);
        match self.ctx.core.state.read().members().get(id) {
            None => Err(status(&Error::MemberNotFound)),
            Some(_) => Err(status(&Error::MemberNotLearner)),
        }
    }
}
