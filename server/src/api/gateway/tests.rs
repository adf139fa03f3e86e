use std::collections::BTreeSet;
use std::pin::Pin;

use axum::body::Body;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, StatusCode};
use keepstone_proto::etcdserverpb::kv_server::{Kv, KvServer};
use keepstone_proto::etcdserverpb::maintenance_server::{Maintenance, MaintenanceServer};
use keepstone_proto::etcdserverpb::watch_server::{Watch, WatchServer};
use keepstone_proto::etcdserverpb::*;
use tonic::{Code, Response as Reply, Status, Streaming};

use super::*;
use crate::metrics::{Metrics, Options};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Services whose answers show what they were asked.
struct Fake;

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn range(&self, request: tonic::Request<RangeRequest>) -> Result<Reply<RangeResponse>, Status> {
        let token = request.metadata().get("token").map(|token| token.to_str().expect("text").len() as i64);
        let request = request.into_inner();
        match request.key.as_ref() {
            b"" => Err(Status::invalid_argument("etcdserver: key is not provided")),
            b"secret" if token.is_none() => Err(Status::unauthenticated("etcdserver: invalid auth token")),
            b"slow" => std::future::pending().await,
            _ => Ok(Reply::new(RangeResponse {
                header: header(token.unwrap_or(0)),
                count: request.limit,
                ..Default::default()
            })),
        }
    }

    type RangeStreamStream = Replies<RangeStreamResponse>;

    async fn range_stream(&self, _: tonic::Request<RangeRequest>) -> Result<Reply<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn put(&self, _: tonic::Request<PutRequest>) -> Result<Reply<PutResponse>, Status> {
        Err(Status::new(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"))
    }

    async fn delete_range(&self, _: tonic::Request<DeleteRangeRequest>) -> Result<Reply<DeleteRangeResponse>, Status> {
        Err(Status::unavailable("etcdserver: no leader"))
    }

    async fn txn(&self, request: tonic::Request<TxnRequest>) -> Result<Reply<TxnResponse>, Status> {
        let request = request.into_inner();
        Ok(Reply::new(TxnResponse {
            header: header(request.compare.len() as i64),
            succeeded: true,
            ..Default::default()
        }))
    }

    async fn compact(&self, _: tonic::Request<CompactionRequest>) -> Result<Reply<CompactionResponse>, Status> {
        Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"))
    }
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = Replies<WatchResponse>;

    async fn watch(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<Reply<Self::WatchStream>, Status> {
        let answers = request.into_inner().map(|request| {
            let request = request?.request_union;
            let key = match request {
                Some(watch_request::RequestUnion::CreateRequest(create)) => create.key,
                _ => Default::default(),
            };
            if key.as_ref() == b"bad" {
                return Err(Status::permission_denied("etcdserver: permission denied"));
            }
            Ok(WatchResponse { watch_id: key.len() as i64, created: true, ..Default::default() })
        });
        // As etcd's, the stream goes on when its client has said all it has to say.
        Ok(Reply::new(Box::pin(answers.chain(futures_util::stream::pending()))))
    }
}

#[tonic::async_trait]
impl Maintenance for Fake {
    async fn alarm(&self, _: tonic::Request<AlarmRequest>) -> Result<Reply<AlarmResponse>, Status> {
        let alarms = vec![AlarmMember { member_id: 1, alarm: AlarmType::Nospace as i32 }];
        Ok(Reply::new(AlarmResponse { header: None, alarms }))
    }

    async fn status(&self, _: tonic::Request<StatusRequest>) -> Result<Reply<StatusResponse>, Status> {
        Ok(Reply::new(StatusResponse { version: "3.6.16".to_owned(), raft_term: 2, ..Default::default() }))
    }

    async fn defragment(&self, _: tonic::Request<DefragmentRequest>) -> Result<Reply<DefragmentResponse>, Status> {
        Err(Status::data_loss("etcdserver: corrupt cluster"))
    }

    async fn hash(&self, _: tonic::Request<HashRequest>) -> Result<Reply<HashResponse>, Status> {
        Err(Status::unknown("anything"))
    }

    async fn hash_kv(&self, _: tonic::Request<HashKvRequest>) -> Result<Reply<HashKvResponse>, Status> {
        Ok(Reply::new(HashKvResponse { hash: 5, compact_revision: -1, ..Default::default() }))
    }

    type SnapshotStream = Replies<SnapshotResponse>;

    async fn snapshot(&self, request: tonic::Request<SnapshotRequest>) -> Result<Reply<Self::SnapshotStream>, Status> {
        if request.metadata().get("token").is_none() {
            return Err(Status::invalid_argument("etcdserver: user name is empty"));
        }
        let part = |n| SnapshotResponse { remaining_bytes: n, ..Default::default() };
        let parts = [Ok(part(1)), Err(Status::unavailable("etcdserver: server stopped"))];
        Ok(Reply::new(Box::pin(futures_util::stream::iter(parts))))
    }

    async fn move_leader(&self, _: tonic::Request<MoveLeaderRequest>) -> Result<Reply<MoveLeaderResponse>, Status> {
        Err(Status::failed_precondition("etcdserver: not leader"))
    }

    async fn downgrade(&self, _: tonic::Request<DowngradeRequest>) -> Result<Reply<DowngradeResponse>, Status> {
        Err(Status::cancelled("etcdserver: request canceled"))
    }
}

fn grpc(metrics: &Metrics) -> Arc<Grpc> {
    let grpc = Grpc::new(metrics.grpc.clone(), tokio::sync::watch::channel(false).1);
    Arc::new(grpc.with(KvServer::new(Fake)).with(WatchServer::new(Fake)).with(MaintenanceServer::new(Fake)))
}

fn gateway() -> Router {
    router(&grpc(&Metrics::new(Options::default())), 1 << 20)
}

async fn respond(method: &str, uri: &str, headers: &[(&str, &str)], body: Body) -> Response {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway().oneshot(request.body(body).expect("a request")).await.expect("infallible")
}

async fn send(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = respond(method, uri, headers, Body::from(body.to_owned())).await.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
}

async fn post(uri: &str, body: &str) -> (u16, String) {
    let (status, _, body) = send("POST", uri, &[], body).await;
    (status.as_u16(), body)
}

/// The lines that a stream has given so far; it may have no end.
async fn lines(response: Response, count: usize) -> Vec<String> {
    let mut body = response.into_body().into_data_stream();
    let mut lines = Vec::new();
    while lines.len() < count {
        let bytes = body.next().await.expect("another line").expect("no error");
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        assert!(text.ends_with('\n'), "{text}");
        lines.push(text.trim_end().to_owned());
    }
    lines
}

#[test]
fn every_method_has_its_path() {
    let metrics = Metrics::new(Options::default());
    let routed: BTreeSet<_> = routes::ROUTES.iter().map(|route| route.method).collect();
    for route in routes::ROUTES {
        assert!(metrics.grpc.get(route.method).is_some(), "{}", route.method);
    }
    // Streamed ranges have no path in etcd 3.7 either, health checks none at all.
    let without = |path: &&str| *path == "/etcdserverpb.KV/RangeStream" || path.starts_with("/grpc.health");
    let unrouted: Vec<_> = metrics.grpc.paths().filter(|path| !without(path) && !routed.contains(path)).collect();
    assert!(unrouted.is_empty(), "{unrouted:?}");
    let paths: BTreeSet<_> = routes::ROUTES.iter().map(|route| route.path).collect();
    assert_eq!(paths.len(), routes::ROUTES.len());
    assert_eq!(paths.len(), 51);
}

#[tokio::test]
async fn messages_are_read_and_written_as_protojson_does() {
    for (body, answer) in [
        (r#"{"key":"Zm9v"}"#, r#"{"header":{}}"#),
        (r#"{"key":"Zm9v","limit":"3"}"#, r#"{"header":{},"count":"3"}"#),
        (r#"{"key":"Zm9v","limit":3,"bogus":{"a":[null]},"range_end":null}"#, r#"{"header":{},"count":"3"}"#),
        (r#"{"key":"Zm9v","rangeEnd":"AA==","sort_order":"DESCEND","sortTarget":3}"#, r#"{"header":{}}"#),
        (r#"{"key":"Zm9v","limit":1e1}"#, r#"{"header":{},"count":"10"}"#),
        (r#"{"key":"Zm9v"}garbage"#, r#"{"header":{}}"#),
    ] {
        assert_eq!(post("/v3/kv/range", body).await, (200, answer.to_owned()), "{body}");
    }
    let txn = r#"{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"2"},{"key":"YQ==","result":"GREATER","modRevision":1}],
        "success":[{"request_put":{"key":"Zm9v","value":"YmF6","lease":null}},{"requestRange":{"key":"Zm9v"}}],"failure":null}"#;
    assert_eq!(post("/v3/kv/txn", txn).await, (200, r#"{"header":{"revision":"2"},"succeeded":true}"#.to_owned()));
    let (status, headers, body) = send("POST", "/v3/maintenance/alarm", &[], "{}").await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"}]}"#));
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["grpc-metadata-content-type"], "application/grpc");
    let hash = r#"{"hash":5,"compact_revision":"-1"}"#;
    assert_eq!(post("/v3/maintenance/hashkv", "{}").await, (200, hash.to_owned()));
    let status = r#"{"version":"3.6.16","raftTerm":"2"}"#;
    assert_eq!(post("/v3/maintenance/status", "").await, (200, status.to_owned()));
}

#[tokio::test]
async fn errors_have_a_code_and_a_message() {
    for (path, body, status, answer) in [
        ("kv/range", "{}", 400, r#"{"code":3,"message":"etcdserver: key is not provided"}"#),
        ("kv/range", "", 400, r#"{"code":3,"message":"etcdserver: key is not provided"}"#),
        ("kv/range", r#"{"key":"Zm9v""#, 400, r#"{"code":3,"message":"unexpected EOF"}"#),
        ("kv/range", "xx", 400, r#"{"code":3,"message":"invalid character 'x' looking for beginning of value"}"#),
        ("kv/range", "[]", 400, r#"{"code":3,"message":"proto: syntax error (line 1:1): unexpected token ["}"#),
        ("kv/range", "null", 400, r#"{"code":3,"message":"proto: syntax error (line 1:1): unexpected token null"}"#),
        ("kv/range", r#""a""#, 400, r#"{"code":3,"message":"proto: syntax error (line 1:1): unexpected token \"a\""}"#),
        ("kv/put", "{}", 429, r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#),
        ("kv/deleterange", "{}", 503, r#"{"code":14,"message":"etcdserver: no leader"}"#),
        (
            "kv/compaction",
            "{}",
            400,
            r#"{"code":11,"message":"etcdserver: mvcc: required revision has been compacted"}"#,
        ),
        ("maintenance/defragment", "{}", 500, r#"{"code":15,"message":"etcdserver: corrupt cluster"}"#),
        ("maintenance/hash", "{}", 500, r#"{"code":2,"message":"anything"}"#),
        ("maintenance/transfer-leadership", "{}", 400, r#"{"code":9,"message":"etcdserver: not leader"}"#),
        ("maintenance/downgrade", "{}", 499, r#"{"code":1,"message":"etcdserver: request canceled"}"#),
        ("nope", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("kv/nope", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
        ("", "{}", 404, r#"{"code":5,"message":"Not Found"}"#),
    ] {
        assert_eq!(post(&format!("/v3/{path}"), body).await, (status, answer.to_owned()), "{path} {body}");
    }
    for (body, wrong) in [
        (r#"{"key":5}"#, "key: 5"),
        (r#"{"key":"!!"}"#, r#"key: \"!!\""#),
        (r#"{"limit":"x"}"#, r#"limit: \"x\""#),
        (r#"{"limit":1.5}"#, "limit: 1.5"),
        (r#"{"limit":99999999999999999999}"#, "limit: 1e+20"),
    ] {
        let answer = format!(r#"{{"code":3,"message":"proto: invalid value for field {wrong}"}}"#);
        assert_eq!(post("/v3/kv/range", body).await, (400, answer), "{body}");
    }
    let nested = r#"{"success":[{"requestPut":{"key":"YQ=="}},{"requestPut":{"lease":true}}]}"#;
    let answer = r#"{"code":3,"message":"proto: invalid value for field success[1].requestPut.lease: true"}"#;
    assert_eq!(post("/v3/kv/txn", nested).await, (400, answer.to_owned()));
    for method in ["GET", "PUT"] {
        let (status, _, body) = send(method, "/v3/kv/range", &[], "").await;
        assert_eq!((status.as_u16(), body.as_str()), (501, r#"{"code":12,"message":"Method Not Allowed"}"#));
    }
    let (status, headers, _) = send("GET", "/v3", &[], "").await;
    assert_eq!((status.as_u16(), &headers["location"]), (307, &http::HeaderValue::from_static("/v3/")));
}

#[tokio::test]
async fn tokens_and_metadata_reach_the_service() {
    let secret = r#"{"key":"c2VjcmV0"}"#;
    let (status, headers, body) = send("POST", "/v3/kv/range", &[], secret).await;
    assert_eq!((status.as_u16(), body.as_str()), (401, r#"{"code":16,"message":"etcdserver: invalid auth token"}"#));
    assert_eq!(headers["www-authenticate"], "etcdserver: invalid auth token");
    for header in [("authorization", "abc.12"), ("authorization", "Bearer abc.12"), ("grpc-metadata-token", "abc.12")] {
        let (status, _, body) = send("POST", "/v3/kv/range", &[header], secret).await;
        assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"header":{"revision":"6"}}"#), "{header:?}");
    }
}

#[tokio::test]
async fn a_caller_can_say_how_long_it_waits() {
    let slow = r#"{"key":"c2xvdw=="}"#;
    let (status, _, body) = send("POST", "/v3/kv/range", &[("grpc-timeout", "20m")], slow).await;
    assert_eq!((status.as_u16(), body.as_str()), (504, r#"{"code":4,"message":"context deadline exceeded"}"#));
    let (status, _, body) = send("POST", "/v3/kv/range", &[("grpc-timeout", "bad")], slow).await;
    assert_eq!((status.as_u16(), body.as_str()), (400, r#"{"code":3,"message":"invalid grpc-timeout: bad"}"#));
    let watch = r#"{"create_request":{"key":"Zm9v"}}"#;
    let (status, _, body) = send("POST", "/v3/watch", &[("grpc-timeout", "20m")], watch).await;
    let lines: Vec<_> = body.lines().collect();
    assert_eq!(status.as_u16(), 200);
    assert_eq!(lines[0], r#"{"result":{"watch_id":"3","created":true}}"#);
    assert_eq!(lines[1], r#"{"error":{"code":4,"message":"context deadline exceeded"}}"#);
}

#[tokio::test]
async fn streams_are_lines_of_results() {
    let requests = r#"{"create_request":{"key":"Zm9v"}} {"createRequest":{"key":"YQ=="}}
{"progress_request":{}}"#;
    let response = respond("POST", "/v3/watch", &[], Body::from(requests)).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["grpc-metadata-content-type"], "application/grpc");
    let wanted = [
        r#"{"result":{"watch_id":"3","created":true}}"#,
        r#"{"result":{"watch_id":"1","created":true}}"#,
        r#"{"result":{"created":true}}"#,
    ];
    assert_eq!(lines(response, 3).await, wanted);
    let bad = r#"{"create_request":{"key":"Zm9v"}}{"create_request":{"key":"YmFk"}}"#;
    let response = respond("POST", "/v3/watch", &[], Body::from(bad)).await;
    assert_eq!(lines(response, 2).await[1], r#"{"error":{"code":7,"message":"etcdserver: permission denied"}}"#);
    let (status, _, body) = send("POST", "/v3/watch", &[], r#"{"create_request":{"key":"YmFk"}}"#).await;
    assert_eq!(
        (status.as_u16(), body.as_str()),
        (403, "{\"error\":{\"code\":7,\"message\":\"etcdserver: permission denied\"}}\n")
    );
}

/// A watcher's client sends one request, waits for the answer, then sends the next on the same body.
#[tokio::test]
async fn requests_may_follow_answers() {
    let (tx, rx) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, Status>>(1);
    let say = |text: &'static str| tx.send(Ok(bytes::Bytes::from_static(text.as_bytes())));
    say(r#"{"create_request":{"key":"Zm9v"}}"#).await.expect("read");
    let body = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(rx));
    let mut body = respond("POST", "/v3/watch", &[], body).await.into_body().into_data_stream();
    let first = body.next().await.expect("a line").expect("no error");
    assert_eq!(first, "{\"result\":{\"watch_id\":\"3\",\"created\":true}}\n");
    say(r#"{"create_request":"#).await.expect("read");
    let (next, said) = tokio::join!(body.next(), say(r#"{"key":"YQ=="}}"#));
    said.expect("read");
    assert_eq!(next.expect("a line").expect("no error"), "{\"result\":{\"watch_id\":\"1\",\"created\":true}}\n");
}

#[tokio::test]
async fn a_stream_that_fails_says_so_in_its_last_line() {
    let (status, _, body) = send("POST", "/v3/maintenance/snapshot", &[], "{}").await;
    assert_eq!(
        (status.as_u16(), body.as_str()),
        (400, "{\"error\":{\"code\":3,\"message\":\"etcdserver: user name is empty\"}}\n")
    );
    let (status, _, body) = send("POST", "/v3/maintenance/snapshot", &[("authorization", "x")], "{}").await;
    assert_eq!(status.as_u16(), 200);
    let wanted = "{\"result\":{\"remaining_bytes\":\"1\"}}\n{\"error\":{\"code\":14,\"message\":\"etcdserver: server stopped\"}}\n";
    assert_eq!(body, wanted);
    let broken = r#"{"code":3,"message":"invalid character 'x' looking for beginning of value"}"#;
    assert_eq!(post("/v3/maintenance/snapshot", "x").await, (400, broken.to_owned()));
}

#[tokio::test]
async fn calls_are_counted_as_grpc() {
    let metrics = Metrics::new(Options::default());
    let router = router(&grpc(&metrics), 1 << 20);
    let request = Request::post("/v3/kv/range").body(Body::from("{}")).expect("a request");
    router.clone().oneshot(request).await.expect("infallible");
    let request =
        Request::post("/v3/watch").body(Body::from(r#"{"create_request":{"key":"YQ=="}}"#)).expect("a request");
    drop(router.oneshot(request).await.expect("infallible"));
    let text = metrics.render();
    for line in [
        r#"grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
}

mod websocket {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    /// A text frame as clients send them: masked, here with zeros.
    fn frame(text: &str) -> Vec<u8> {
        assert!(text.len() < 126);
        let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    async fn read_frame(stream: &mut TcpStream) -> (u8, String) {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.expect("a frame");
        let mut body = vec![0; usize::from(head[1])];
        stream.read_exact(&mut body).await.expect("the frame's body");
        (head[0] & 0x0f, String::from_utf8_lossy(&body).into_owned())
    }

    async fn open(path: &str, protocol: &str) -> (TcpStream, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let doors = crate::api::front::Doors { grpc: None, http: gateway() };
            let http2 = crate::api::front::Http2 {
                max_concurrent_streams: 10,
                keepalive_interval: None,
                keepalive_timeout: std::time::Duration::from_secs(20),
            };
            let (known, stop) = (crate::tls::Connection::default(), tokio::sync::watch::channel(false).1);
            crate::api::front::serve(stream, doors, http2, known, stop).await;
        });
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the answer's head"));
        }
        (stream, String::from_utf8(head).expect("text").to_ascii_lowercase())
    }

    #[tokio::test]
    async fn each_message_is_a_request_and_each_line_a_message() {
        let (mut stream, head) = open("/v3/watch", "").await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        for (key, answer) in [
            ("Zm9v", r#"{"result":{"watch_id":"3","created":true}}"#),
            ("YQ==", r#"{"result":{"watch_id":"1","created":true}}"#),
        ] {
            let request = frame(&format!(r#"{{"create_request":{{"key":"{key}"}}}}"#));
            stream.write_all(&request).await.expect("sent");
            assert_eq!(read_frame(&mut stream).await, (1, answer.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_unary_call_is_answered_before_the_client_goes() {
        let (mut stream, head) = open("/v3/kv/range", "Sec-WebSocket-Protocol: Bearer, abc.12\r\n").await;
        assert!(head.contains("\r\nsec-websocket-protocol: bearer\r\n"), "{head}");
        stream.write_all(&frame(r#"{"key":"c2VjcmV0"}"#)).await.expect("sent");
        assert_eq!(read_frame(&mut stream).await, (1, r#"{"header":{"revision":"6"}}"#.to_owned()));
        assert_eq!(read_frame(&mut stream).await.0, 8);
    }
}
