//! Puts the services together: what each kind of listener serves.

use std::sync::Arc;

use axum::Router;
use keepstone_proto::etcdserverpb::auth_server::AuthServer;
use keepstone_proto::etcdserverpb::cluster_server::ClusterServer;
use keepstone_proto::etcdserverpb::kv_server::KvServer;
use keepstone_proto::etcdserverpb::lease_server::LeaseServer;
use keepstone_proto::etcdserverpb::maintenance_server::MaintenanceServer;
use keepstone_proto::etcdserverpb::watch_server::WatchServer;
use keepstone_proto::v3electionpb::election_server::ElectionServer;
use keepstone_proto::v3lockpb::lock_server::LockServer;

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
use super::watch::{GRPC_OVERHEAD_BYTES, WatchService};
use super::{gateway, http};

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
    /// `--listen-peer-urls`.
    pub peer: Doors,
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
        peer: Doors { grpc: None, http: http::peer_router(ctx) },
    }
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
    Grpc::new(ctx.core.metrics.grpc.clone(), ctx.core.stopping())
        .with(server!(KvServer, KvService))
        .with(server!(WatchServer, WatchService))
        .with(server!(LeaseServer, LeaseService))
        .with(server!(ClusterServer, ClusterService))
        .with(server!(MaintenanceServer, MaintenanceService))
        .with(server!(AuthServer, AuthService))
        .with(server!(LockServer, LockService))
        .with(server!(ElectionServer, ElectionService))
        .with(super::health::server())
}
