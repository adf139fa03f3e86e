use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, StatusCode};
use keepstone_proto::etcdserverpb::{AlarmMember, AlarmType};
use tonic::Status;
use tower::ServiceExt as _;

use super::probe::{MemberRow, Read};
use super::*;
use crate::config::Allowed;
use crate::metrics::{Metrics, Options};

/// A member whose state a test sets.
struct Fake {
    alarms: Vec<AlarmType>,
    leader: AtomicBool,
    learner: bool,
    pending: Vec<u64>,
    linearizable: Result<(), Status>,
    version: Option<String>,
    metrics: Arc<Metrics>,
}

impl Fake {
    fn well() -> Self {
        Self {
            alarms: Vec::new(),
            leader: AtomicBool::new(true),
            learner: false,
            pending: Vec::new(),
            linearizable: Ok(()),
            version: Some("3.6.0".to_owned()),
            metrics: Metrics::new(Options::default()),
        }
    }
}

impl Probe for Fake {
    fn alarms(&self) -> Vec<AlarmMember> {
        self.alarms.iter().map(|alarm| AlarmMember { member_id: 1, alarm: *alarm as i32 }).collect()
    }

    fn has_leader(&self) -> bool {
        self.leader.load(Ordering::Relaxed)
    }

    fn is_learner(&self) -> bool {
        self.learner
    }

    fn pending_promotions(&self) -> Vec<u64> {
        self.pending.clone()
    }

    fn read(&self, serializable: bool) -> Read<'_> {
        let result = if serializable { Ok(()) } else { self.linearizable.clone() };
        Box::pin(async move { result })
    }

    fn cluster_version(&self) -> Option<String> {
        self.version.clone()
    }

    fn cluster_id(&self) -> u64 {
        0xbabc
    }

    fn members(&self) -> Vec<MemberRow> {
        let urls = |url: &str| vec![url.to_owned()];
        let (peer_urls, client_urls) = (urls("http://127.0.0.1:2380"), urls("http://127.0.0.1:2379"));
        vec![MemberRow { id: 7, peer_urls, is_learner: false, name: "default".to_owned(), client_urls }]
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

async fn send(router: Router, method: &str, uri: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
}

async fn get(member: Fake, uri: &str) -> (u16, String) {
    let (status, _, body) = send(client_routes(Arc::new(member)), "GET", uri, &[]).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn a_healthy_member_answers_as_etcd_does() {
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    for (uri, body) in [
        ("/health", r#"{"health":"true","reason":""}"#),
        ("/health?serializable=true", r#"{"health":"true","reason":""}"#),
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", "ok\n"),
        ("/livez?verbose&exclude=serializable_read", "ok\n"),
        ("/livez?verbose&exclude=foo", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read?verbose&exclude=serializable_read", "[+]serializable_read ok\nok\n"),
        ("/readyz", "ok\n"),
        ("/readyz?verbose", all),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
        ),
        ("/readyz/data_corruption", "ok\n"),
        ("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n"),
        ("/version", r#"{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}"#),
    ] {
        assert_eq!(get(Fake::well(), uri).await, (200, body.to_owned()), "{uri}");
    }
}

#[tokio::test]
async fn a_pending_promotion_is_told_and_leaves_the_member_ready() {
    let pending = || Fake { pending: vec![0xab, 0xcd], ..Fake::well() };
    assert_eq!(get(pending(), "/readyz").await, (200, "ok\n".to_owned()));
    let (status, body) = get(pending(), "/readyz?verbose").await;
    assert_eq!((status, body.lines().rev().nth(1)), (200, Some("[+]pending_promotion ok: no vote yet: ab, cd")));
    let (_, body) = get(pending(), "/readyz?verbose&exclude=pending_promotion").await;
    assert!(!body.contains("pending_promotion"), "{body}");
    let failed = "[-]pending_promotion failed: no vote yet: ab, cd\n\n".to_owned();
    assert_eq!(get(pending(), "/readyz/pending_promotion").await, (503, failed));
    assert_eq!(get(Fake::well(), "/readyz/pending_promotion").await, (200, "ok\n".to_owned()));
    let (status, body) = get(Fake { learner: true, ..pending() }, "/readyz").await;
    assert!(status == 503 && body.contains("[+]pending_promotion ok: no vote yet"), "{status} {body}");
    assert_eq!(get(pending(), "/livez?verbose").await, (200, "[+]serializable_read ok\nok\n".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let no_space = || Fake { alarms: vec![AlarmType::Nospace], ..Fake::well() };
    let corrupt = || Fake { alarms: vec![AlarmType::Corrupt], ..Fake::well() };
    let alone = || Fake { linearizable: Err(Status::unavailable("etcdserver: leader changed")), ..Fake::well() };
    let leaderless = || Fake { leader: AtomicBool::new(false), ..Fake::well() };
    let learner = || Fake { learner: true, ..Fake::well() };
    let ill = |reason: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    let fine = || (200, r#"{"health":"true","reason":""}"#.to_owned());
    assert_eq!(get(no_space(), "/health").await, ill("ALARM NOSPACE"));
    assert_eq!(get(no_space(), "/health?exclude=NOSPACE").await, fine());
    assert_eq!(get(no_space(), "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(corrupt(), "/health?exclude=NOSPACE").await, ill("ALARM CORRUPT"));
    let failed = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
    assert_eq!(get(corrupt(), "/readyz/data_corruption").await, (503, failed.to_owned()));
    assert_eq!(get(alone(), "/health").await, ill("RANGE ERROR:etcdserver: leader changed"));
    assert_eq!(get(alone(), "/health?serializable=true").await, fine());
    assert_eq!(get(alone(), "/livez").await, (200, "ok\n".to_owned()));
    let failed = "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: leader changed\n[+]non_learner ok\n\n";
    assert_eq!(get(alone(), "/readyz").await, (503, failed.to_owned()));
    assert_eq!(get(alone(), "/readyz?exclude=linearizable_read").await, (200, "ok\n".to_owned()));
    assert_eq!(get(leaderless(), "/health").await, ill("RAFT NO LEADER"));
    assert_eq!(get(leaderless(), "/health?serializable=true").await, fine());
    let failed = "[-]non_learner failed: not supported for learner\n\n";
    assert_eq!(get(learner(), "/readyz/non_learner").await, (503, failed.to_owned()));
    let undecided = Fake { version: None, ..Fake::well() };
    let body = r#"{"etcdserver":"3.6.16","etcdcluster":"not_decided","storage":"unknown"}"#;
    assert_eq!(get(undecided, "/version").await, (200, body.to_owned()));
}

#[tokio::test]
async fn checks_are_counted() {
    let member = Arc::new(Fake { learner: true, ..Fake::well() });
    for uri in ["/health", "/livez", "/readyz"] {
        send(client_routes(member.clone()), "GET", uri, &[]).await;
    }
    let text = member.metrics.render();
    for line in [
        "etcd_server_health_success 1",
        "etcd_server_healthcheck{name=\"non_learner\",type=\"readyz\"} 0",
        "etcd_server_healthchecks_total{name=\"non_learner\",status=\"error\",type=\"readyz\"} 1",
        "etcd_server_healthchecks_total{name=\"serializable_read\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_in_gos_words() {
    let router = || client_routes(Arc::new(Fake::well()));
    for path in ["/health", "/livez", "/readyz", "/readyz/non_learner", "/version", "/debug/vars"] {
        for method in ["POST", "PUT", "DELETE"] {
            let (status, headers, body) = send(router(), method, path, &[]).await;
            assert_eq!((status.as_u16(), body.as_str()), (405, "Method Not Allowed\n"), "{method} {path}");
            assert_eq!(headers["allow"], "GET");
        }
        assert_eq!(send(router(), "HEAD", path, &[]).await.0.as_u16(), 405);
    }
    for path in ["/", "/nope", "/livez/", "/livez/nope", "/health/", "/metrics/x", "/debug/requests", "/debug/pprof/"] {
        let (status, headers, body) = send(router(), "GET", path, &[]).await;
        assert_eq!((status.as_u16(), body.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn metrics_and_vars_can_be_read() {
    let (status, headers, body) = send(client_routes(Arc::new(Fake::well())), "GET", "/metrics", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    assert!(body.contains("\netcd_server_health_success 0\n"));
    let (status, headers, body) = send(client_routes(Arc::new(Fake::well())), "GET", "/debug/vars", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    let vars: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(vars["memstats"]["Alloc"].as_u64().expect("a number") > 0);
    assert!(vars["cmdline"].is_array() && vars["file_descriptor_limit"].is_u64());
    let metrics_only = metrics_routes(Arc::new(Fake::well())).fallback(not_found);
    assert_eq!(send(metrics_only.clone(), "GET", "/health", &[]).await.0, 200);
    assert_eq!(send(metrics_only, "GET", "/version", &[]).await.0, 404);
}

#[tokio::test]
async fn peers_are_told_who_is_there() {
    let (status, headers, body) = send(peer_routes(Arc::new(Fake::well())), "GET", "/members", &[]).await;
    assert_eq!(status, 200);
    assert_eq!(headers["x-etcd-cluster-id"], "babc");
    let row =
        r#"{"id":7,"peerURLs":["http://127.0.0.1:2380"],"name":"default","clientURLs":["http://127.0.0.1:2379"]}"#;
    assert_eq!(body, format!("[{row}]\n"));
}

fn guarded(hosts: Allowed, origins: Allowed) -> Router {
    access::guard(Rules { hosts, origins }, client_routes(Arc::new(Fake::well())))
}

#[tokio::test]
async fn unknown_hosts_are_told_what_to_do() {
    let only = || guarded(Allowed::Only(vec!["localhost".to_owned()]), Allowed::Everyone);
    assert_eq!(send(only(), "GET", "/health", &[("host", "localhost:2379")]).await.0, 200);
    let (status, headers, body) = send(only(), "GET", "/health", &[("host", "evil.example:2379")]).await;
    assert_eq!(status.as_u16(), 421);
    assert!(body.starts_with("\netcd received your request, but the Host header was unrecognized.\n\nTo fix this,"));
    assert!(body.contains("\n  - e.g. etcd --host-whitelist \"evil.example\"\n"));
    assert!(body.ends_with("(CVE-2018-5702).\n\n"));
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn browsers_are_told_who_may_read() {
    let allow =
        |headers: &HeaderMap| headers.get("access-control-allow-origin").map(|v| v.to_str().expect("text").to_owned());
    let open = || guarded(Allowed::Everyone, Allowed::Everyone);
    let (status, headers, body) = send(open(), "OPTIONS", "/v3/kv/range", &[]).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, ""));
    assert_eq!(allow(&headers).as_deref(), Some("*"));
    assert_eq!(headers["access-control-allow-methods"], "POST, GET, OPTIONS, PUT, DELETE");
    assert_eq!(headers["access-control-allow-headers"], "accept, content-type, authorization");
    let (_, headers, _) = send(open(), "GET", "/nope", &[]).await;
    assert_eq!(allow(&headers).as_deref(), Some("*"));
    let some = || guarded(Allowed::Everyone, Allowed::Only(vec!["http://a".to_owned()]));
    let (_, headers, _) = send(some(), "GET", "/health", &[("origin", "http://a")]).await;
    assert_eq!(allow(&headers).as_deref(), Some("http://a"));
    let (_, headers, _) = send(some(), "GET", "/health", &[("origin", "http://b")]).await;
    assert_eq!(allow(&headers), None);
}
