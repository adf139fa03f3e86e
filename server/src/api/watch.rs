//! The Watch service: one stream of requests in, one stream of responses out.
//!
//! Responses are made as bytes ([`Feeder`]) and go to HTTP/2 as they are; only what the member itself watches is decoded.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream;
use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use keepstone_proto::etcdserverpb::watch_server::{Watch, WatchServer};
use keepstone_proto::etcdserverpb::{WatchRequest, WatchResponse};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::server::NamedService;
use tonic::{Status, codegen::BoxFuture};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::context::Context;
use crate::lanes;
use crate::watch::{self, Feeder, Requests, Settings};

/// Bytes that a message may be larger than the request limit: what gRPC itself allows on top.
pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

const PATH: &str = "/etcdserverpb.Watch/Watch";

/// etcd's Watch service.
#[derive(Clone)]
pub struct WatchService {
    ctx: Arc<Context>,
}

impl WatchService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    /// Starts a call of the member's own.
    pub fn open(&self, requests: Requests) -> Responses {
        Responses { feeder: Some(self.feeder(requests)), chunk: Bytes::new() }
    }

    fn feeder(&self, requests: Requests) -> Feeder {
        let config = &self.ctx.config;
        let settings = Settings {
            progress_interval: config.watch_progress_notify_interval.max(Duration::from_millis(100)),
            fragment_bytes: config.max_request_bytes + GRPC_OVERHEAD_BYTES,
        };
        let core = self.ctx.core.clone();
        let local = core.watch.local(lanes::here().unwrap_or(0)).clone();
        Feeder::new(core, &local, settings, requests)
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = Responses;

    async fn watch(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Ok(tonic::Response::new(self.open(Box::pin(request.into_inner()))))
    }
}

/// A call's responses, decoded. Ends after an error.
pub struct Responses {
    feeder: Option<Feeder>,
    chunk: Bytes,
}

impl Stream for Responses {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if self.chunk.is_empty() {
            let Some(feeder) = &mut self.feeder else { return Poll::Ready(None) };
            match std::task::ready!(feeder.poll_chunk(task)) {
                Ok(chunk) => self.chunk = chunk,
                Err(status) => {
                    self.feeder = None;
                    return Poll::Ready(Some(Err(status)));
                }
            }
        }
        let (message, len) = watch::first_message(&self.chunk).expect("a chunk is made of whole messages");
        let response = WatchResponse::decode(message).map_err(|error| Status::internal(error.to_string()));
        self.chunk.advance(len);
        Poll::Ready(Some(response))
    }
}

/// The service's door for gRPC.
#[derive(Clone)]
pub struct WatchDoor {
    service: WatchService,
    /// Bytes of a request.
    limit: usize,
    /// For requests that are not plain: it has the words to refuse them.
    tonic: WatchServer<WatchService>,
}

impl WatchDoor {
    /// `limit` bounds the bytes of a request.
    pub fn new(service: WatchService, limit: usize) -> Self {
        let tonic = WatchServer::new(service.clone()).max_decoding_message_size(limit);
        Self { service, limit, tonic }
    }
}

impl NamedService for WatchDoor {
    const NAME: &'static str = <WatchServer<WatchService> as NamedService>::NAME;
}

impl Service<Request<Body>> for WatchDoor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, BoxFuture<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let encoding = request.headers().get("grpc-encoding");
        if request.uri().path() != PATH || encoding.is_some_and(|encoding| encoding != "identity") {
            return Either::Right(self.tonic.call(request));
        }
        let decoder = ProstCodec::<WatchResponse, WatchRequest>::default().decoder();
        let requests = Streaming::new_request(decoder, request.into_body(), None, Some(self.limit));
        let feeder = self.service.feeder(Box::pin(requests));
        let mut response = Response::new(Body::new(Answer { feeder: Some(feeder) }));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Either::Left(ready(Ok(response)))
    }
}

/// The responses as a body: chunks, and trailers if the call fails.
struct Answer {
    feeder: Option<Feeder>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(feeder) = &mut self.feeder else { return Poll::Ready(None) };
        let frame = match std::task::ready!(feeder.poll_chunk(task)) {
            Ok(chunk) => Ok(Frame::data(chunk)),
            Err(status) => {
                self.feeder = None;
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
            }
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.feeder.is_none()
    }
}
