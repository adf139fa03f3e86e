//! What the kubelet asks a member, on the port that is never encrypted: a kubelet has no certificate.
//!
//! A member that waits to be let in, or loads what it has, does not open that port yet. It is not to be killed for it:
//! what can't start ends by itself.

use k8s_openapi::api::core::v1::{HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The port's name in the container.
pub const METRICS: &str = "metrics";

const STARTUP_PERIOD: i32 = 2;
/// Six hours: a member waits for its operator, and a large one for its data.
const STARTUP_PATIENCE: i32 = 6 * 3600 / STARTUP_PERIOD;

#[must_use]
pub fn startup() -> Probe {
    Probe {
        period_seconds: Some(STARTUP_PERIOD),
        timeout_seconds: Some(5),
        failure_threshold: Some(STARTUP_PATIENCE),
        ..get("/livez")
    }
}

/// A linearizable read, and no learner. An alarm for corrupt data is not asked for: all members tell of it, and all would
/// leave the Service for what one of them has.
#[must_use]
pub fn readiness() -> Probe {
    Probe {
        period_seconds: Some(5),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        success_threshold: Some(1),
        ..get("/readyz?exclude=data_corruption")
    }
}

/// A read from what is here, which needs no leader: two minutes without one end the process. Less would kill members
/// that recover, all at once.
#[must_use]
pub fn liveness() -> Probe {
    Probe { period_seconds: Some(10), timeout_seconds: Some(10), failure_threshold: Some(12), ..get("/livez") }
}

fn get(path: &str) -> Probe {
    let action = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String(METRICS.to_owned()),
        scheme: Some("HTTP".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(action), ..Probe::default() }
}
