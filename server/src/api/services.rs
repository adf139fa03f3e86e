//! Puts the services together: what each kind of listener serves.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use keepstone_proto::etcdserverpb::auth_server::AuthServer;
use keepstone_proto::etcdserverpb::cluster_server::ClusterServer;
use keepstone_proto::etcdserverpb::kv_server::KvServer;
use keepstone_proto::etcdserverpb::lease_server::LeaseServer;
use keepstone_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use keepstone_proto::keepstonepb::peer_server::PeerServer;
use keepstone_proto::v3electionpb::election_server::ElectionServer;
use keepstone_proto::v3lockpb::lock_server::LockServer;

use tokio::sync::watch;
use tower::ServiceExt as _;

use super::auth::AuthService;
use super::cluster::ClusterService;
use super::context::Context;
use super::election::ElectionService;
use super::front::Doors;
use super::grpc::Grpc;
use super::kv::KvService;
use super::lease::LeaseService;
use super::lock::LockService;
use super::maintenance::MaintenanceService;
use super::unary::Unary;
use super::watch::{GRPC_OVERHEAD_BYTES, WatchDoor, WatchService};
use super::{gateway, http};
use crate::metrics::Metrics;
use crate::peer::MAX_MESSAGE_BYTES;
use crate::peer::service::PeerService;

/// What each kind of listener serves.
pub struct AllDoors {
    /// gRPC and HTTP on one port.
    pub client: Doors,
    /// `--listen-client-urls` beside `--listen-client-http-urls`.
    pub grpc_only: Doors,
    /// `--listen-client-http-urls`.
    pub http_only: Doors,
    /// `--listen-metrics-urls`.
    pub metrics: Doors,
}

/// Builds every service once.
pub fn doors(ctx: &Arc<Context>) -> AllDoors {
    let grpc = Arc::new(grpc(ctx));
    let mut client_http = http::client_router(ctx);
    if ctx.config.enable_grpc_gateway {
        client_http = client_http.merge(gateway::router(&grpc, ctx.config.max_request_bytes));
    }
    let client_http = http::with_access_rules(ctx, client_http);
    AllDoors {
        client: Doors { grpc: Some(grpc.clone()), http: client_http.clone() },
        grpc_only: Doors { grpc: Some(grpc), http: Router::new() },
        http_only: Doors { grpc: None, http: client_http },
        metrics: Doors { grpc: None, http: http::metrics_router(ctx) },
    }
}

/// What `--listen-peer-urls` serves. It is open before the member runs: `http` is asked once it is there, `early` from
/// the first moment on.
pub fn peer_doors(
    metrics: &Metrics,
    service: PeerService,
    early: Router,
    http: Arc<OnceLock<Router>>,
    stopping: watch::Receiver<bool>,
) -> Doors {
    let server = PeerServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let grpc = Grpc::new(metrics.grpc.clone(), stopping).with_uncounted(server);
    let late = move |request: axum::extract::Request| {
        let router = http.get().cloned();
        async move {
            match router {
                Some(router) => router.oneshot(request).await.unwrap_or_else(|never| match never {}),
                None => (StatusCode::SERVICE_UNAVAILABLE, "this member is starting\n").into_response(),
            }
        }
    };
    Doors { grpc: Some(Arc::new(grpc)), http: early.fallback(late) }
}

fn grpc(ctx: &Arc<Context>) -> Grpc {
    let limit = ctx.config.max_request_bytes + GRPC_OVERHEAD_BYTES;
    macro_rules! server {
        ($server:ident, $service:ident) => {
            $server::new($service::new(ctx.clone()))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(usize::MAX)
        };
    }
    let unary = Unary::new(KvService::new(ctx.clone()), ctx.core.metrics.clone(), limit);
    Grpc::new(ctx.core.metrics.grpc.clone(), ctx.core.stopping())
        .with_leadership(ctx.leadership.clone())
        .with_metrics(ctx.core.metrics.clone())
        .with_unary(unary)
        .with(server!(KvServer, KvService))
        .with(WatchDoor::new(WatchService::new(ctx.clone()), limit))
        .with(server!(LeaseServer, LeaseService))
        .with(server!(ClusterServer, ClusterService))
        .with(server!(MaintenanceServer, MaintenanceService))
        .with(server!(AuthServer, AuthService))
        .with(server!(LockServer, LockService))
        .with(server!(ElectionServer, ElectionService))
        .with(super::health::server())
}
