//! Plain HTTP beside gRPC: health, readiness, versions, metrics. Bodies, headers and status codes are etcd's, to the
//! line feed: probes, load balancers and people's scripts compare them.
//!
//! Nothing here changes state.

mod access;
mod answers;
mod card;
mod health;
mod probe;
mod vars;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;

pub use card::{repair_router, router as card_router};
pub use probe::Probe;

use super::context::Context;
use crate::{metrics, version};
use access::Rules;
use answers::{answer, get_only, json, not_found};

type Member = Arc<dyn Probe>;

/// What clients find at a client URL, without the JSON gateway. Wrap it in [`with_access_rules`].
pub fn client_router(ctx: &Arc<Context>) -> Router {
    client_routes(ctx.clone())
}

/// `--listen-metrics-urls`: metrics and health; the member's card comes beside them.
pub fn metrics_router(ctx: &Arc<Context>) -> Router {
    metrics_routes(ctx.clone()).fallback(not_found)
}

/// What tools ask a peer URL for.
pub fn peer_router(ctx: &Arc<Context>) -> Router {
    peer_routes(ctx.clone())
}

/// Puts `--host-whitelist`, `--cors` and the old gateway prefix before a client URL's routes.
pub fn with_access_rules(ctx: &Arc<Context>, router: Router) -> Router {
    access::guard(Rules { hosts: ctx.config.host_whitelist.clone(), origins: ctx.config.cors.clone() }, router)
}

fn client_routes(member: Member) -> Router {
    let (versions, vars) = (member.clone(), member.clone());
    metrics_routes(member)
        .route("/version", any(move |request| version_of(versions.clone(), request)))
        .route("/debug/vars", any(move |request| vars_of(vars.clone(), request)))
        .fallback(not_found)
}

fn metrics_routes(member: Member) -> Router {
    let metrics = member.clone();
    health::routes(member).route("/metrics", any(move || async move { metrics_of(metrics.as_ref()) }))
}

fn peer_routes(member: Member) -> Router {
    let versions = member.clone();
    Router::new()
        .route("/version", any(move |request| version_of(versions.clone(), request)))
        .route("/members", any(move |request| members_of(member.clone(), request)))
        .fallback(not_found)
}

async fn version_of(member: Member, request: Request) -> Response {
    if let Some(refused) = get_only(&request) {
        return refused;
    }
    let cluster = member.cluster_version();
    let storage = if cluster.is_some() { version::ETCD_STORAGE } else { "unknown" };
    let cluster = cluster.as_deref().unwrap_or("not_decided");
    let etcd = version::ETCD;
    json(format!(r#"{{"etcdserver":"{etcd}","etcdcluster":"{cluster}","storage":"{storage}"}}"#))
}

async fn vars_of(member: Member, request: Request) -> Response {
    get_only(&request).unwrap_or_else(|| vars::answer(&member.metrics().observed()))
}

async fn members_of(member: Member, request: Request) -> Response {
    if let Some(refused) = get_only(&request) {
        return refused;
    }
    let rows = member.members();
    let mut body = serde_json::to_string(&rows).expect("strings and numbers are JSON");
    body.push('\n');
    let mut response = json(body);
    let cluster = format!("{:x}", member.cluster_id());
    if let Ok(value) = cluster.parse() {
        response.headers_mut().insert("x-etcd-cluster-id", value);
    }
    response
}

fn metrics_of(member: &dyn Probe) -> Response {
    answer(::http::StatusCode::OK, metrics::CONTENT_TYPE, Body::from(member.metrics().render()))
}
