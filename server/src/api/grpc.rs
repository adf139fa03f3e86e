//! gRPC requests find their service here, are counted, and leave with the codes a Go server would send.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use keepstone_state::Error;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower_service::Service;

use super::error::status;
use super::range::{Format, Large};
use super::unary::{Method, Unary};
use super::until_stop::{self, UntilStop};
use crate::cluster::Leadership;
use crate::metrics::{GrpcMethod, GrpcMethods, IntCounter, Kind, Metrics};

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Call = Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// All services of one listener.
pub struct Grpc {
    unary: Option<Arc<Unary>>,
    services: HashMap<&'static str, Call>,
    methods: GrpcMethods,
    stopping: watch::Receiver<bool>,
    /// A service whose calls are no client's.
    uncounted: Option<&'static str>,
    /// Asked for clients that want no answer from a member without a leader.
    leadership: Option<Leadership>,
    /// Where clients and their bytes are counted.
    clients: Option<Arc<Metrics>>,
}

impl Grpc {
    /// `stopping` turns true when the member is about to stop.
    pub fn new(methods: GrpcMethods, stopping: watch::Receiver<bool>) -> Self {
        Self {
            unary: None,
            services: HashMap::new(),
            methods,
            stopping,
            uncounted: None,
            leadership: None,
            clients: None,
        }
    }

    /// Takes the short way for the calls that have one.
    #[must_use]
    pub fn with_unary(mut self, unary: Unary) -> Self {
        self.unary = Some(Arc::new(unary));
        self
    }

    /// The short way for a request, if there is one. A call that would be refused for want of a leader has none.
    pub fn unary<B>(&self, request: &Request<B>) -> Option<(Arc<Unary>, Method)> {
        let found = self.unary.clone().zip(Method::of(request))?;
        if wants_leader(request.headers()) && self.leadership.as_ref().is_some_and(|l| l.leader().is_none()) {
            return None;
        }
        Some(found)
    }

    /// Adds a generated server.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let call = move |request| -> Answer {
            let answer = service.clone().call(request);
            Box::pin(async move { answer.await.unwrap_or_else(|never| match never {}) })
        };
        self.services.insert(S::NAME, Box::new(call));
        self
    }

    /// Calls that want a leader are refused or ended while there is none.
    #[must_use]
    pub fn with_leadership(mut self, leadership: Leadership) -> Self {
        self.leadership = Some(leadership);
        self
    }

    /// Counts the clients and their bytes.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.clients = Some(metrics);
        self
    }

    /// Adds a generated server whose calls are not counted.
    #[must_use]
    pub fn with_uncounted<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.uncounted = Some(S::NAME);
        self.with(service)
    }

    /// Answers one request. Unknown services and methods get Go's own words.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.answer(request, true).await
    }

    /// As [`Self::call`], for a caller in this process: a [`Large`] answer stays in the response's extensions.
    pub async fn call_within(&self, request: Request<Body>) -> Response<Body> {
        self.answer(request, false).await
    }

    async fn answer(&self, request: Request<Body>, to_client: bool) -> Response<Body> {
        let path = request.uri().path();
        let (service, method) = path.strip_prefix('/').and_then(|p| p.split_once('/')).unwrap_or(("", ""));
        let Some(call) = self.services.get(service) else {
            return Status::unimplemented(format!("unknown service {service}")).into_http();
        };
        let Some(counters) = self.methods.get(path) else {
            if self.uncounted == Some(service) {
                return call(request).await;
            }
            return Status::unimplemented(format!("unknown method {method} for service {service}")).into_http();
        };
        let endless = counters.kind != Kind::Unary && until_stop::is_endless(path);
        let began = counters.started();
        let leadership = self.leadership.as_ref().filter(|_| wants_leader(request.headers()));
        if leadership.is_some_and(|leadership| leadership.leader().is_none()) {
            let refused = status(&Error::NoLeader);
            counters.handled_since(refused.code(), began);
            return refused.into_http();
        }
        let stream = counters.kind != Kind::Unary;
        let request = match self.clients.as_ref().filter(|_| to_client) {
            Some(metrics) => {
                metrics.clients.count(stream, version_of(request.headers()));
                let received = metrics.network.client_received.clone();
                request.map(|body| weighed(body, received))
            }
            None => request,
        };
        let mut response = call(request).await;
        if let Some(status) = too_large_as_go_says(response.headers()) {
            response = status.into_http();
        }
        if to_client && let Some(body) = response.extensions_mut().remove::<Large>().and_then(|l| l.body(Format::Grpc))
        {
            *response.body_mut() = Body::new(body);
        }
        let code = response.headers().get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()));
        match code {
            Some(code) => {
                counters.handled_since(code, began);
                response
            }
            None => response.map(|body| {
                let leader = leadership.map(Leadership::watch);
                let body = if endless { Body::new(UntilStop::new(body, self.stopping.clone(), leader)) } else { body };
                let body = Body::new(Counted::new(body, counters.clone(), began));
                match self.clients.as_ref().filter(|_| to_client) {
                    Some(metrics) => weighed(body, metrics.network.client_sent.clone()),
                    None => body,
                }
            }),
        }
    }
}

/// The version that a client names of itself.
pub fn version_of(headers: &HeaderMap) -> Option<&str> {
    headers.get("client-api-version").and_then(|value| value.to_str().ok())
}

/// Whether a client asked for a leader: clientv3's `WithRequireLeader`.
fn wants_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value.as_bytes() == b"true")
}

/// tonic refuses a message over the limit as `OutOfRange` in its own words; clients know grpc-go's
/// `ResourceExhausted`.
fn too_large_as_go_says(headers: &HeaderMap) -> Option<Status> {
    if headers.get("grpc-status").map(HeaderValue::as_bytes) != Some(b"11") {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    let rest = status.message().strip_prefix("Error, decoded message length too large: found ")?;
    let (found, limit) = rest.strip_suffix(" bytes")?.split_once(" bytes, the limit is: ")?;
    let message = format!("grpc: received message larger than max ({found} vs. {limit})");
    Some(Status::resource_exhausted(message))
}

/// The body, with its bytes counted as they pass.
pub fn weighed(body: Body, bytes: IntCounter) -> Body {
    Body::new(Weighed { body, bytes })
}

/// See [`weighed`].
struct Weighed {
    body: Body,
    bytes: IntCounter,
}

impl http_body::Body for Weighed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.bytes.inc_by(data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body that counts how its call ended. One that is dropped before its trailers was cancelled.
pub struct Counted {
    body: Body,
    counters: Option<(Arc<GrpcMethod>, Option<Instant>)>,
}

impl Counted {
    pub fn new(body: Body, counters: Arc<GrpcMethod>, began: Option<Instant>) -> Self {
        Self { body, counters: Some((counters, began)) }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            let trailers = match frame {
                Some(Ok(frame)) => frame.trailers_ref(),
                Some(Err(_)) | None => None,
            };
            if let Some(status) = trailers.and_then(|t| t.get("grpc-status"))
                && let Some((counters, began)) = self.counters.take()
            {
                counters.handled_since(Code::from_bytes(status.as_bytes()), began);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((counters, began)) = self.counters.take() {
            counters.handled_since(Code::Cancelled, began);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_over_the_limit_is_refused_in_grpc_gos_words() {
        let tonics = "Error, decoded message length too large: found 2097153 bytes, the limit is: 2097152 bytes";
        let response: Response<Body> = Status::out_of_range(tonics).into_http();
        let status = too_large_as_go_says(response.headers()).expect("recognised");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "grpc: received message larger than max (2097153 vs. 2097152)");
        let other: Response<Body> =
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted").into_http();
        assert!(too_large_as_go_says(other.headers()).is_none());
    }
}
