//! What makes a member visible once it runs: the founding entry, the data directories its founders came with, its own
//! name and client URLs, the cluster version.

use std::time::Duration;

use bytes::Bytes;
use keepstone_failpoint::points;
use keepstone_proto::etcdserverpb::InternalRaftRequest;
use keepstone_proto::keepstonepb::{ClusterInit, Member, MemberBind};
use keepstone_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use keepstone_state::{Error, MemberId};

use super::found::Founders;
use super::passport::Passport;
use crate::api::context::Context;
use crate::config::ListenUrl;
use crate::version;

/// Pause before something that was refused is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Waits for a leader and publishes this member. Tries until it is done: a cluster without a quorum is waited for, as
/// etcd does.
///
/// # Errors
/// The member stops, or the cluster is another one than this member's.
pub async fn establish(ctx: &Context, founders: Option<&Founders>, passport: &Passport) -> anyhow::Result<()> {
    let mut members = ctx.core.members_changed();
    loop {
        members.borrow_and_update();
        match publish(ctx, founders, passport).await {
            Ok(true) => return Ok(()),
            Ok(false) => drop(tokio::time::timeout(RETRY, members.changed()).await),
            Err(error @ (Error::Stopped | Error::IncarnationMismatch | Error::ClusterInitialized)) => {
                anyhow::bail!("publishing this member: {error}");
            }
            Err(error) => {
                tracing::warn!(%error, "publishing this member; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn propose(ctx: &Context, request: InternalRaftRequest) -> Result<(), Error> {
    ctx.proposer.propose(request).await.map(drop)
}

/// Does what is left to do; false if somebody else has to do something first.
async fn publish(ctx: &Context, founders: Option<&Founders>, passport: &Passport) -> Result<bool, Error> {
    ctx.reads.wait().await?;
    let me = ctx.core.identity.member_id;
    let founded = ctx.core.state.read().members().cluster_id().is_some();
    if !founded {
        // One entry is enough, and it has to be the first.
        let Some(founders) = founders.filter(|_| ctx.leadership.leads()) else { return Ok(false) };
        found(ctx, founders).await?;
    }
    let permit = if founders.is_some() { passport.permit.clone() } else { Bytes::new() };
    bind(ctx, passport, permit).await?;
    if ctx.core.state.read().members().get(me).is_none() {
        return Ok(false);
    }
    attributes(ctx).await?;
    if ctx.core.state.read().members().version() != Some(version::ETCD_CLUSTER) {
        let set = ClusterVersionSetRequest { ver: version::ETCD_CLUSTER.to_owned() };
        propose(ctx, InternalRaftRequest { cluster_version_set: Some(set), ..Default::default() }).await?;
    }
    Ok(true)
}

async fn found(ctx: &Context, founders: &Founders) -> Result<(), Error> {
    let member = |(id, founder): (&MemberId, &super::found::Founder)| Member {
        id: id.0,
        name: String::new(),
        peer_urls: founder.peer_urls.clone(),
        client_urls: Vec::new(),
        is_learner: false,
    };
    let init = ClusterInit {
        cluster_id: founders.identity.cluster_id,
        token: ctx.config.initial_cluster_token.clone(),
        members: founders.members.iter().map(member).collect(),
        former_ids: Vec::new(),
    };
    propose(ctx, InternalRaftRequest { cluster_init: Some(init), ..Default::default() }).await
}

/// Binds this member and, as far as they are known, its fellow founders to their data directories.
async fn bind(ctx: &Context, passport: &Passport, permit: Bytes) -> Result<(), Error> {
    let own = (ctx.core.identity.member_id, passport.incarnation);
    let known = passport.founders.iter().map(|(id, incarnation)| (*id, *incarnation));
    for (id, incarnation) in known.chain([own]) {
        let unbound = {
            let state = ctx.core.state.read();
            state.members().get(id).is_some() && state.members().incarnation(id).is_none()
        };
        if unbound {
            let bind =
                MemberBind { member_id: id.0, incarnation: incarnation.to_vec().into(), permit_nonce: permit.clone() };
            match propose(ctx, InternalRaftRequest { member_bind: Some(bind), ..Default::default() }).await {
                // It has claimed its ID by another way meanwhile: the log knows better.
                Err(Error::IncarnationMismatch) if id != own.0 => {}
                bound => bound?,
            }
        }
    }
    Ok(())
}

fn client_urls(ctx: &Context) -> Vec<String> {
    ctx.config.advertise_client_urls.iter().map(ListenUrl::to_string).collect()
}

fn is_published(ctx: &Context) -> bool {
    let state = ctx.core.state.read();
    let known = state.members().get(ctx.core.identity.member_id);
    known.is_some_and(|member| member.name == ctx.config.name && member.client_urls == client_urls(ctx))
}

async fn attributes(ctx: &Context) -> Result<(), Error> {
    if is_published(ctx) {
        return Ok(());
    }
    points::BEFORE_PUBLISHING.hit();
    let member_attributes = Some(Attributes { name: ctx.config.name.clone(), client_urls: client_urls(ctx) });
    let set = ClusterMemberAttrSetRequest { member_id: ctx.core.identity.member_id.0, member_attributes };
    propose(ctx, InternalRaftRequest { cluster_member_attr_set: Some(set), ..Default::default() }).await
}
