//! The KV calls that are nearly all of a member's traffic, straight between HTTP/2 and [`KvService`].
//!
//! One plain message in, one message out. Whatever else comes under these paths (compressed, broken, cut short, too
//! large) goes on to tonic as it came, so that refusals are worded in one place.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use keepstone_proto::etcdserverpb::RangeResponse;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};

use super::grpc;
use super::kv::KvService;
use super::range::{Answered, Format};
use crate::metrics::{GrpcMethod, Metrics};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// A flag and the length stand before each message.
const PREFIX: usize = 5;

/// The calls that are served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
}

impl Method {
    const ALL: [(Self, &str); 4] = [
        (Self::Range, "/etcdserverpb.KV/Range"),
        (Self::Put, "/etcdserverpb.KV/Put"),
        (Self::DeleteRange, "/etcdserverpb.KV/DeleteRange"),
        (Self::Txn, "/etcdserverpb.KV/Txn"),
    ];

    /// Whether a request is one for here, as far as its head tells.
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        let path = request.uri().path();
        let (method, _) = Self::ALL.into_iter().find(|(_, known)| *known == path)?;
        let encoding = request.headers().get(ENCODING);
        encoding.is_none_or(|encoding| encoding == "identity").then_some(method)
    }
}

/// Serves [`Method`]s.
pub struct Unary {
    kv: KvService,
    counters: [Arc<GrpcMethod>; Method::ALL.len()],
    metrics: Arc<Metrics>,
    limit: usize,
}

impl Unary {
    /// `limit` bounds the bytes of a message.
    pub fn new(kv: KvService, metrics: Arc<Metrics>, limit: usize) -> Self {
        let counters = Method::ALL.map(|(_, path)| metrics.grpc.get(path).expect("a method of the API").clone());
        Self { kv, counters, metrics, limit }
    }

    /// Answers a call.
    ///
    /// # Errors
    /// The request as it came, if it is not one plain message: for tonic.
    pub async fn call(&self, method: Method, request: Request<Incoming>) -> Result<Response<Reply>, Request<Body>> {
        let (head, mut body) = request.into_parts();
        let message = match receive(&mut body, self.limit).await {
            Ok(message) => message,
            Err(taken) => return Err(Request::from_parts(head, Body::new(Rest { taken, body }))),
        };
        macro_rules! answer {
            ($call:ident, $end:ident) => {
                match Message::decode(message.slice(PREFIX..)) {
                    Ok(request) => {
                        let counted = Counted::begin(&self.counters[method as usize]);
                        self.metrics.clients.count(false, grpc::version_of(&head.headers));
                        self.metrics.network.client_received.inc_by(message.len() as u64);
                        let answer = counted.$end(self.kv.$call(request).await);
                        Ok(answer.map(|body| self.weigh(body)))
                    }
                    Err(_) => {
                        let taken = VecDeque::from([message]);
                        Err(Request::from_parts(head, Body::new(Rest { taken, body })))
                    }
                }
            };
        }
        match method {
            Method::Range => answer!(range, end_range),
            Method::Put => answer!(put, end),
            Method::DeleteRange => answer!(delete_range, end),
            Method::Txn => answer!(txn, end),
        }
    }
}

impl Unary {
    /// Counts the bytes of an answer; of a long list as they are sent.
    fn weigh(&self, body: Reply) -> Reply {
        let sent = &self.metrics.network.client_sent;
        match body {
            Reply::Other(body) => Reply::Other(grpc::weighed(body, sent.clone())),
            Reply::Message(frame) => {
                sent.inc_by(frame.len() as u64);
                Reply::Message(frame)
            }
            Reply::Sent | Reply::Ended => body,
        }
    }
}

/// Counts how a call ended. One that is dropped was cancelled.
struct Counted<'a> {
    counters: Option<&'a Arc<GrpcMethod>>,
    began: Option<Instant>,
}

impl<'a> Counted<'a> {
    fn begin(counters: &'a Arc<GrpcMethod>) -> Self {
        Self { began: counters.started(), counters: Some(counters) }
    }

    fn end<M: Message>(mut self, answer: Result<M, Status>) -> Response<Reply> {
        self.count(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
        respond(answer)
    }

    /// A long list is counted when it has been sent.
    fn end_range(mut self, answer: Result<Answered, Status>) -> Response<Reply> {
        let body = match answer {
            Ok(Answered::Small(response)) => return self.end(Ok(response)),
            Ok(Answered::Large(large)) => large.body(Format::Grpc),
            Err(refused) => return self.end::<RangeResponse>(Err(refused)),
        };
        let Some((body, counters)) = body.zip(self.counters.take()) else {
            return self.end::<RangeResponse>(Err(Status::internal("an answer is sent once")));
        };
        let body = grpc::Counted::new(Body::new(body), counters.clone(), self.began);
        plain(Reply::Other(Body::new(body)))
    }

    fn count(&mut self, code: Code) {
        if let Some(counters) = self.counters.take() {
            counters.handled_since(code, self.began);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count(Code::Cancelled);
    }
}

/// The one message of a body with its prefix, or, if it is not exactly one plain message, what was taken off the body.
async fn receive<B>(body: &mut B, limit: usize) -> Result<Bytes, VecDeque<Bytes>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut taken = VecDeque::new();
    let mut len = 0;
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    len += data.len();
                    taken.push_back(data);
                }
            }
            Some(Err(_)) => return Err(taken),
            None => break,
        }
        if len > limit + PREFIX {
            return Err(taken);
        }
    }
    let message = match taken.len() {
        1 => taken.pop_front().unwrap_or_default(),
        _ => {
            let mut whole = BytesMut::with_capacity(len);
            taken.drain(..).for_each(|part| whole.extend_from_slice(&part));
            whole.freeze()
        }
    };
    let plain = match message.split_first_chunk() {
        Some((&[0, a, b, c, d], rest)) => u32::from_be_bytes([a, b, c, d]) as usize == rest.len(),
        _ => false,
    };
    if plain { Ok(message) } else { Err(VecDeque::from([message])) }
}

/// A body of which some was taken already.
struct Rest<B> {
    taken: VecDeque<Bytes>,
    body: B,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Rest<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.taken.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }
}

fn respond<M: Message>(answer: Result<M, Status>) -> Response<Reply> {
    match answer.and_then(|message| framed(&message)) {
        Ok(frame) => plain(Reply::Message(frame)),
        Err(status) => status.into_http::<Body>().map(Reply::Other),
    }
}

fn plain(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

fn framed(message: &impl Message) -> Result<Bytes, Status> {
    let len = message.encoded_len();
    let Ok(prefix) = u32::try_from(len) else {
        return Err(Status::resource_exhausted(format!(
            "Cannot return body with more than 4GB of data but got {len} bytes"
        )));
    };
    let mut frame = Vec::with_capacity(PREFIX + len);
    frame.put_u8(0);
    frame.put_u32(prefix);
    message.encode_raw(&mut frame);
    Ok(frame.into())
}

/// The body of an answer.
pub enum Reply {
    /// One message, still to be sent; what ends the call follows it.
    Message(Bytes),
    /// The message is sent.
    Sent,
    /// So is the end.
    Ended,
    /// Whatever else made it, and long lists.
    Other(Body),
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let (frame, next) = match &mut *self {
            Self::Message(frame) => (Frame::data(std::mem::take(frame)), Self::Sent),
            Self::Sent => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(STATUS, HeaderValue::from_static("0"));
                (Frame::trailers(trailers), Self::Ended)
            }
            Self::Ended => return Poll::Ready(None),
            Self::Other(body) => return Pin::new(body).poll_frame(cx),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(_) | Self::Sent => false,
            Self::Ended => true,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Other(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;

    use super::*;
    use crate::api::range;
    use crate::api::range::allowance::Allowance;
    use crate::api::range::tests::{everything, filled};

    const LIMIT: usize = 10;

    fn body(parts: &[&'static [u8]]) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames: Vec<_> = parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part)))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn received(parts: &[&'static [u8]]) -> Option<Bytes> {
        receive(&mut body(parts), LIMIT).await.ok().map(|message| message.slice(PREFIX..))
    }

    #[tokio::test]
    async fn one_plain_message_is_received_however_it_is_cut() {
        assert_eq!(received(&[b"\0\0\0\0\x03abc"]).await, Some("abc".into()));
        assert_eq!(received(&[b"\0\0", b"\0\0\x03a", b"", b"bc", b""]).await, Some("abc".into()));
        assert_eq!(received(&[b"\0\0\0\0\0"]).await, Some(Bytes::new()));
        assert_eq!(received(&[b"\0\0\0\0\x0a0123456789"]).await, Some("0123456789".into()));
    }

    #[tokio::test]
    async fn anything_else_goes_on_whole() {
        let others: [&[&'static [u8]]; 8] = [
            &[],
            &[b"\0\0\0\0"],
            &[b"\x01\0\0\0\x03abc"],
            &[b"\x02\0\0\0\x03abc"],
            &[b"\0\0\0\0\x03ab"],
            &[b"\0\0\0\0\x03abc\0\0\0\0\x01d"],
            &[b"\0\0\0\0\x0b0123", b"456789a", b"after"],
            &[b"\0\0\0\0\xff0123", b"456789a", b"after"],
        ];
        for parts in others {
            let mut body = body(parts);
            let taken = receive(&mut body, LIMIT).await.expect_err("not one plain message");
            let whole = Rest { taken, body }.collect().await.expect("infallible").to_bytes();
            assert_eq!(whole, parts.concat());
        }
    }

    #[test]
    fn compressed_and_other_calls_are_not_for_here() {
        let of = |path: &str, encoding: Option<&str>| {
            let request = Request::builder().uri(path);
            let request = encoding.into_iter().fold(request, |r, encoding| r.header(ENCODING, encoding));
            Method::of(&request.body(()).expect("a request"))
        };
        assert_eq!(of("/etcdserverpb.KV/Put", None), Some(Method::Put));
        assert_eq!(of("/etcdserverpb.KV/Txn", Some("identity")), Some(Method::Txn));
        assert_eq!(of("/etcdserverpb.KV/Put", Some("gzip")), None);
        assert_eq!(of("/etcdserverpb.KV/Compact", None), None);
        assert_eq!(of("/etcdserverpb.Watch/Watch", None), None);
        for (number, (method, _)) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, number);
        }
    }

    #[tokio::test]
    async fn a_long_list_is_counted_when_it_has_been_sent() {
        let core = filled();
        let counters = core.metrics.grpc.get("/etcdserverpb.KV/Range").expect("a method of the API");
        for (code, is_read) in [("Canceled", false), ("OK", true)] {
            let line = format!(
                r#"grpc_server_handled_total{{grpc_code="{code}",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}} 1"#
            );
            let is_counted = || core.metrics.render().lines().any(|shown| shown == line);
            let large = range::answer(&core, &Allowance::default(), everything()).await;
            let response = Counted::begin(counters).end_range(large);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/grpc");
            assert!(!is_counted());
            let body = response.into_body();
            if is_read {
                let sent = body.collect().await.expect("a body");
                assert_eq!(sent.trailers().expect("trailers")[STATUS], "0");
            } else {
                drop(body);
            }
            assert!(is_counted(), "{code}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_its_message_and_then_its_status() {
        let request = keepstone_proto::etcdserverpb::PutRequest { key: "k".into(), ..Default::default() };
        let response = respond(Ok(request));
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/grpc");
        let mut body = response.into_body();
        let message = body.frame().await.expect("a message").expect("no error").into_data();
        assert_eq!(message.ok(), Some(Bytes::from_static(b"\0\0\0\0\x03\x0a\x01k")));
        assert!(!body.is_end_stream());
        let trailers = body.frame().await.expect("an end").expect("no error").into_trailers().expect("trailers");
        assert_eq!(trailers[STATUS], "0");
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}
