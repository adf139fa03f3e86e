//! A connection's first door: HTTP/1 and HTTP/2 on one port, gRPC told from the rest by its content type.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;
use tower::ServiceExt;

use super::gather::gather;
use super::grpc::Grpc;
use super::unary::Reply;
use super::until_stop::stopped;
use crate::tls::Connection;

/// Bytes of requests that a client may send ahead on one stream and on one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of answers buffered for one stream before its sender has to wait.
const SEND_BUFFER: usize = 512 << 10;

/// Streams that a client has given up before they were looked at. A busy thread meets many at once, and hyper's own
/// bound would end the connection with all its watches.
const PENDING_RESETS: usize = 65_536;

/// What a listener serves.
#[derive(Clone)]
pub struct Doors {
    /// Absent on listeners for plain HTTP only (`--listen-metrics-urls`).
    pub grpc: Option<Arc<Grpc>>,
    pub http: axum::Router,
}

/// Limits of one HTTP/2 connection.
#[derive(Clone, Copy, Debug)]
pub struct Http2 {
    pub max_concurrent_streams: u32,
    pub keepalive_interval: Option<Duration>,
    pub keepalive_timeout: Duration,
}

/// Serves one connection until either side closes it. What is known of an encrypted one goes with every request. Once
/// `stop` is true the client is told to send nothing new, and the connection ends when what is under way has been
/// answered.
pub async fn serve<IO>(io: IO, doors: Doors, http2: Http2, known: Connection, mut stop: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2.max_concurrent_streams)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(http2.keepalive_interval)
        .keep_alive_timeout(http2.keepalive_timeout);
    let known = known.secure.then_some(known);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(known) = &known {
            request.extensions_mut().insert(known.clone());
        }
        route(&doors, request)
    });
    let (io, turns) = gather(io);
    // Boxed, because the compiler can't see through the borrowed builder that it may be sent.
    let connection: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
        let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    });
    let ended = turns.run(connection).await;
    if let Err(error) = ended.map_err(Into::into).flatten() {
        tracing::debug!(%error, "connection ended");
    }
}

/// Boxed, so that a call's task holds the one way that it goes and not room for all.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

fn route(doors: &Doors, request: Request<Incoming>) -> Answer {
    let Some(grpc) = doors.grpc.as_ref().filter(|_| is_grpc(&request)) else {
        let answer = doors.http.clone().oneshot(request.map(axum::body::Body::new));
        return Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            Ok(response.map(|body| Reply::Other(Body::new(body))))
        });
    };
    let grpc = grpc.clone();
    let Some((unary, method)) = grpc.unary(&request) else {
        return Box::pin(async move { Ok(grpc.call(request.map(Body::new)).await.map(Reply::Other)) });
    };
    Box::pin(async move {
        match unary.call(method, request).await {
            Ok(response) => Ok(response),
            Err(request) => Ok(Box::pin(grpc.call(request)).await.map(Reply::Other)),
        }
    })
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    request.version() == http::Version::HTTP_2 && request.headers().get(header::CONTENT_TYPE).is_some_and(grpc)
}
