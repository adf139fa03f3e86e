//! The Watch service: one stream of requests in, one stream of responses out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use keepstone_proto::etcdserverpb::watch_server::Watch;
use keepstone_proto::etcdserverpb::{WatchRequest, WatchResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::context::Context;
use crate::lanes;
use crate::watch::{self, Settings};

/// Bytes that a message may be larger than the request limit: what gRPC itself allows on top.
pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

/// etcd's Watch service.
#[derive(Clone)]
pub struct WatchService {
    ctx: Arc<Context>,
}

impl WatchService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    /// Starts a stream; the gateway calls this as gRPC does.
    pub fn open<S>(&self, requests: S) -> ReceiverStream<Result<WatchResponse, Status>>
    where
        S: Stream<Item = Result<WatchRequest, Status>> + Send + Unpin + 'static,
    {
        let config = &self.ctx.config;
        let settings = Settings {
            progress_interval: config.watch_progress_notify_interval.max(Duration::from_millis(100)),
            fragment_bytes: config.max_request_bytes + GRPC_OVERHEAD_BYTES,
        };
        let core = self.ctx.core.clone();
        let local = core.watch.local(lanes::here().unwrap_or(0)).clone();
        ReceiverStream::new(watch::serve(core, local, settings, requests))
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(self.open(request.into_inner())))
    }
}
