//! gRPC health checking: the whole server, asked for by the empty name, is what can be asked for.

use std::pin::Pin;

use futures_util::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Always serving: a listener only opens once the member does.
#[derive(Clone)]
pub struct HealthService;

pub fn server() -> HealthServer<HealthService> {
    HealthServer::new(HealthService)
}

fn answer(service: &str) -> Option<HealthCheckResponse> {
    service.is_empty().then_some(HealthCheckResponse { status: ServingStatus::Serving as i32 })
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        answer(&request.into_inner().service).map(Response::new).ok_or_else(|| Status::not_found("unknown service"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        use futures_util::StreamExt;

        let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 };
        let now = answer(&request.into_inner().service).unwrap_or(unknown);
        let never = futures_util::stream::pending();
        Ok(Response::new(Box::pin(futures_util::stream::once(async move { Ok(now) }).chain(never))))
    }
}
