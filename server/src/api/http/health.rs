//! `/health` for people and old probes, `/livez` and `/readyz` for Kubernetes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
use keepstone_proto::etcdserverpb::AlarmType;

use super::answers::{TEXT, answer, error, get_only, query, text};
use super::probe::Probe;

/// One thing that `/livez` or `/readyz` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
    PendingPromotion,
}

/// A set of checks and where it is asked for.
struct Endpoint {
    name: &'static str,
    checks: &'static [Check],
    /// Told beside the checks where there is something to tell, and never a reason to fail: a member whose cluster is
    /// changing serves. Under its own address it is a check like any other, for whoever waits for the change to end.
    told: &'static [Check],
}

static LIVEZ: Endpoint = Endpoint { name: "livez", checks: &[Check::SerializableRead], told: &[] };
static READYZ: Endpoint = Endpoint {
    name: "readyz",
    checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
    told: &[Check::PendingPromotion],
};

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::PendingPromotion => "pending_promotion",
        }
    }

    async fn run(self, member: &dyn Probe) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let corrupt = member.alarms().iter().any(|alarm| alarm.alarm == AlarmType::Corrupt as i32);
                if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Self::SerializableRead => member.read(true).await.map_err(|status| status.message().to_owned()),
            Self::LinearizableRead => member.read(false).await.map_err(|status| status.message().to_owned()),
            Self::NonLearner => {
                if member.is_learner() {
                    Err("not supported for learner".to_owned())
                } else {
                    Ok(())
                }
            }
            Self::PendingPromotion => {
                let pending: Vec<_> = member.pending_promotions().iter().map(|id| format!("{id:x}")).collect();
                if pending.is_empty() { Ok(()) } else { Err(format!("no vote yet: {}", pending.join(", "))) }
            }
        }
    }
}

pub(super) fn routes(member: Arc<dyn Probe>) -> Router {
    let mut router = Router::new();
    for endpoint in [&LIVEZ, &READYZ] {
        let all = member.clone();
        router = router.route(
            &format!("/{}", endpoint.name),
            any(move |request| checked(all.clone(), endpoint, endpoint.checks, request)),
        );
        for check in endpoint.checks.iter().chain(endpoint.told) {
            let one = member.clone();
            router = router.route(
                &format!("/{}/{}", endpoint.name, check.name()),
                any(move |request| checked(one.clone(), endpoint, std::slice::from_ref(check), request)),
            );
        }
    }
    router.route("/health", any(move |request| health(member.clone(), request)))
}

async fn checked(member: Arc<dyn Probe>, endpoint: &Endpoint, checks: &[Check], request: Request) -> Response {
    if let Some(refused) = get_only(&request) {
        return refused;
    }
    let query = query(&request);
    // A check's own address can't leave it out.
    let whole = request.uri().path().strip_prefix('/') == Some(endpoint.name);
    let left_out = |check: &Check| whole && query.iter().any(|(key, value)| key == "exclude" && value == check.name());
    let mut report = String::new();
    let mut failed = false;
    for check in checks.iter().filter(|check| !left_out(check)) {
        let result = check.run(member.as_ref()).await;
        member.metrics().health.checked(endpoint.name, check.name(), result.is_ok());
        match result {
            Ok(()) => report.push_str(&format!("[+]{} ok\n", check.name())),
            Err(why) => {
                failed = true;
                report.push_str(&format!("[-]{} failed: {why}\n", check.name()));
            }
        }
    }
    let told: &[Check] = if whole { endpoint.told } else { &[] };
    for check in told.iter().filter(|check| !left_out(check)) {
        if let Err(what) = check.run(member.as_ref()).await {
            report.push_str(&format!("[+]{} ok: {what}\n", check.name()));
        }
    }
    if failed {
        tracing::warn!(path = request.uri().path(), reason = report, "health check failed");
        return error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    let verbose = query.iter().any(|(key, _)| key == "verbose");
    text(StatusCode::OK, if verbose { report + "ok\n" } else { "ok\n".to_owned() })
}

async fn health(member: Arc<dyn Probe>, request: Request) -> Response {
    if let Some(refused) = get_only(&request) {
        return refused;
    }
    let query = query(&request);
    let first = |key: &str| query.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let serializable = first("serializable") == Some("true");
    let excluded = |name: &str| query.iter().any(|(key, value)| key == "exclude" && value == name);
    match ill(member.as_ref(), serializable, excluded).await {
        None => {
            member.metrics().health.successes.inc();
            answer(StatusCode::OK, TEXT, Body::from(report(true, "")))
        }
        Some(reason) => {
            member.metrics().health.failures.inc();
            let report = report(false, &reason);
            tracing::warn!(output = report, "/health error");
            error(StatusCode::SERVICE_UNAVAILABLE, &report)
        }
    }
}

fn report(healthy: bool, reason: &str) -> String {
    let reason = serde_json::to_string(reason).expect("a string is JSON");
    format!(r#"{{"health":"{healthy}","reason":{reason}}}"#)
}

/// Why the member is not healthy, if it is not.
async fn ill(member: &dyn Probe, serializable: bool, excluded: impl Fn(&str) -> bool) -> Option<String> {
    for alarm in member.alarms() {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if !excluded(kind) {
            return Some(format!("ALARM {kind}"));
        }
    }
    if !serializable && !member.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let error = member.read(serializable).await.err()?;
    Some(format!("RANGE ERROR:{}", error.message()))
}
