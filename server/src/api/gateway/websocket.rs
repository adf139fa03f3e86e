//! Any gateway method over a websocket: each message of the client is a request, each line of the answer a message.

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tower::ServiceExt as _;

/// Messages of a client that the service has not read yet.
const UNREAD: usize = 16;
const PROTOCOL: &str = "Bearer";

/// Whether a request asks to become a websocket.
pub(super) fn is_wanted(request: &Request) -> bool {
    let says = |name, word: &str| {
        let values = request.headers().get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    says(header::UPGRADE, "websocket") && says(header::CONNECTION, "upgrade")
}

/// Accepts the websocket and calls the request's path with what arrives on it.
pub(super) async fn bridge(methods: Router, limit: usize, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let (uri, headers) = (parts.uri.clone(), inner_headers(&parts.headers));
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => {
            let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(limit).max_frame_size(limit);
            upgrade.on_upgrade(move |socket| serve(methods, uri, headers, socket))
        }
        Err(refused) => refused.into_response(),
    }
}

/// Browsers can't set headers on a websocket: the token comes as `Sec-WebSocket-Protocol: Bearer, <token>` or as a
/// cookie.
fn inner_headers(outer: &HeaderMap) -> HeaderMap {
    let text = |name| outer.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let of_protocol =
        text(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.split_once("Bearer,")).map(|(_, token)| token);
    let cookies = text(header::COOKIE).into_iter().flat_map(|value| value.split(';'));
    let of_cookie = cookies.filter_map(|pair| pair.trim().strip_prefix("token=")).next();
    let mut inner = HeaderMap::new();
    if let Some(token) = of_cookie.or(of_protocol)
        && let Ok(value) = format!("Bearer {}", token.trim()).parse()
    {
        inner.insert(header::AUTHORIZATION, value);
    }
    inner
}

/// Runs the call until either side is done. The client's going ends it: what is under way is dropped.
async fn serve(methods: Router, uri: Uri, headers: HeaderMap, socket: WebSocket) {
    let (sink, stream) = socket.split();
    let (tx, rx) = mpsc::channel(UNREAD);
    let mut request = Request::new(Body::from_stream(ReceiverStream::new(rx)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    tokio::select! {
        () = read(stream, tx) => {}
        () = write(methods, request, sink) => {}
    }
}

async fn read(mut stream: SplitStream<WebSocket>, tx: mpsc::Sender<Result<Bytes, Status>>) {
    while let Some(Ok(message)) = stream.next().await {
        let value = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let mut line = BytesMut::from(value);
        line.extend_from_slice(b"\n");
        if tx.send(Ok(line.freeze())).await.is_err() {
            // The service wants no more; the client may still be listening.
            return std::future::pending().await;
        }
    }
}

async fn write(methods: Router, request: Request, mut sink: SplitSink<WebSocket, Message>) {
    let response = methods.oneshot(request).await.unwrap_or_else(|never| match never {});
    let mut body = response.into_body().into_data_stream();
    // The gateway gives whole lines, or one text without a line feed.
    while let Some(Ok(bytes)) = body.next().await {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let text = String::from_utf8_lossy(line).into_owned();
            if sink.send(Message::Text(text.into())).await.is_err() {
                return;
            }
        }
    }
    drop(sink.send(Message::Close(None)).await);
}
