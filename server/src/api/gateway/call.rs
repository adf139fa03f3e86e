//! One call: a JSON body in, the service's answer out.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::split::Values;
use super::{answer, json, timeout};
use crate::api::grpc::Grpc;
use crate::api::range::{Format, Large};

/// The longest a call without a timeout of its own may take: for ever, in practice.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A message that has a JSON form.
pub(super) trait Json: Message + Default + Send + Sync + Serialize + DeserializeOwned + 'static {}
impl<T: Message + Default + Send + Sync + Serialize + DeserializeOwned + 'static> Json for T {}

/// The way to the services. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    services: InProcess,
    /// Bytes of one JSON value.
    limit: usize,
}

impl Gate {
    pub(super) fn new(grpc: Arc<Grpc>, limit: usize) -> Self {
        Self { services: InProcess(grpc), limit }
    }

    /// One message in, one out.
    pub(super) async fn unary<Q: Json, A: Json>(self, method: &'static str, request: Request) -> Response {
        if request.method() != Method::POST {
            return answer::wrong_method();
        }
        match self.unary_inner::<Q, A>(method, request).await {
            Ok(reply) => match reply.extensions().get::<Large>().and_then(|large| large.body(Format::Json)) {
                Some(body) => answer::success(Body::new(body)),
                None => match serde_json::to_vec(reply.get_ref()) {
                    Ok(body) => answer::success(Body::from(body)),
                    Err(error) => answer::failure(&Status::internal(error.to_string())),
                },
            },
            Err(status) => answer::failure(&status),
        }
    }

    async fn unary_inner<Q: Json, A: Json>(
        self,
        method: &'static str,
        request: Request,
    ) -> Result<tonic::Response<A>, Status> {
        let (parts, body) = request.into_parts();
        let deadline = deadline(&parts.headers)?;
        let message: Q = self.only_message(body).await?;
        let call = async {
            let mut client = self.client().await?;
            let request = with_metadata(message, &parts.headers);
            client.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
        };
        timeout_at(deadline, call).await.map_err(|_| timeout::exceeded())?
    }

    /// One message in, a stream out.
    pub(super) async fn stream<Q: Json, A: Json>(self, method: &'static str, request: Request) -> Response {
        if request.method() != Method::POST {
            return answer::wrong_method();
        }
        let (parts, body) = request.into_parts();
        let message: Q = match self.only_message(body).await {
            Ok(message) => message,
            Err(status) => return answer::failure(&status),
        };
        self.answer_with_stream::<Q, A>(method, &parts.headers, futures_util::stream::iter([message])).await
    }

    /// Streams both ways. The body's values are read as the service asks for them; a broken one ends the requests,
    /// not the answers.
    pub(super) async fn streams<Q: Json, A: Json>(self, method: &'static str, request: Request) -> Response {
        if request.method() != Method::POST {
            return answer::wrong_method();
        }
        let (parts, body) = request.into_parts();
        let values = Values::new(body, self.limit);
        let messages = futures_util::stream::unfold(values, |mut values| async move {
            let text = values.next().await.ok()??;
            let message = json::decode::<Q>(&text).ok()?;
            Some((message, values))
        });
        self.answer_with_stream::<Q, A>(method, &parts.headers, messages).await
    }

    async fn answer_with_stream<Q: Json, A: Json>(
        self,
        method: &'static str,
        headers: &HeaderMap,
        messages: impl Stream<Item = Q> + Send + 'static,
    ) -> Response {
        let deadline = match deadline(headers) {
            Ok(deadline) => deadline,
            Err(status) => return answer::failure(&status),
        };
        let open = async {
            let mut client = self.client().await?;
            let request = with_metadata(messages, headers);
            let path = PathAndQuery::from_static(method);
            let mut answers = client.streaming(request, path, ProstCodec::<Q, A>::default()).await?.into_inner();
            // Status and headers go out with the first message: a call that fails before it is an error to HTTP too.
            let first = answers.message().await?;
            Ok::<_, Status>(first.map(|first| (first, answers)))
        };
        match timeout_at(deadline, open).await.unwrap_or_else(|_| Err(timeout::exceeded())) {
            Ok(Some((first, answers))) => answer::success(Body::from_stream(lines(first, answers, deadline))),
            Ok(None) => answer::nothing(),
            Err(status) => answer::stream_failure(&status),
        }
    }

    /// The one message of a body; an empty body is an empty message. What follows it is not read.
    async fn only_message<Q: Json>(&self, body: Body) -> Result<Q, Status> {
        match Values::new(body, self.limit).next().await? {
            Some(text) => json::decode(&text),
            None => Ok(Q::default()),
        }
    }

    async fn client(&self) -> Result<tonic::client::Grpc<InProcess>, Status> {
        let unlimited = usize::MAX;
        let client = tonic::client::Grpc::new(self.services.clone());
        Ok(client.max_decoding_message_size(unlimited).max_encoding_message_size(unlimited))
    }
}

/// The answers as lines, up to the deadline.
fn lines<A: Json>(first: A, rest: Streaming<A>, deadline: Instant) -> impl Stream<Item = Result<Vec<u8>, Status>> {
    let first = futures_util::stream::iter([answer::line(Ok(first))]);
    let rest = futures_util::stream::unfold(Some(rest), move |rest| async move {
        let mut rest = rest?;
        match timeout_at(deadline, rest.message()).await.unwrap_or_else(|_| Err(timeout::exceeded())) {
            Ok(Some(message)) => Some((answer::line(Ok(message)), Some(rest))),
            Ok(None) => None,
            Err(status) => Some((answer::line::<A>(Err(status)), None)),
        }
    });
    first.chain(rest)
}

fn deadline(headers: &HeaderMap) -> Result<Instant, Status> {
    Ok(Instant::now() + timeout::of(headers)?.unwrap_or(FOR_EVER).min(FOR_EVER))
}

/// What the services see of the HTTP headers: the caller's token, and every `Grpc-Metadata-…`.
fn with_metadata<T>(message: T, headers: &HeaderMap) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata: &mut MetadataMap = request.metadata_mut();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("grpc-metadata-") else { continue };
        if let (Ok(name), Ok(value)) =
            (name.parse::<AsciiMetadataKey>(), AsciiMetadataValue::try_from(value.as_bytes()))
        {
            metadata.append(name, value);
        }
    }
    if let Some(token) = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        if let Ok(token) = token.parse() {
            metadata.insert("token", token);
        }
    }
    request
}

/// The services as a tonic client's connection.
#[derive(Clone)]
struct InProcess(Arc<Grpc>);

impl Service<http::Request<tonic::body::Body>> for InProcess {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let grpc = self.0.clone();
        Box::pin(async move { Ok(grpc.call_within(request).await) })
    }
}
