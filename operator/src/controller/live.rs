//! The API server of a real Kubernetes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, Request};
use keepstone_operator_plan::ids::Time;
use kube::Client;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::api::{Api, ApiError, Deletion, Fresh, Which, text};
use super::clock::Clock;
use super::kind::{Kind, Name};
use crate::objects::FIELD_MANAGER;
use keepstone_operator_api::CLUSTER_LABEL;

/// A call that takes longer is given up: shorter than what a lease counts on.
const LIMIT: Duration = Duration::from_secs(10);
/// Owner of what is changed in part. Another than that of what is applied whole, which must own nothing but that.
const PATCHER: &str = "keepstone-operator-act";

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// `Instant` stands still while a machine sleeps, and a lease does not.
    fn steady(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

#[derive(Clone)]
pub struct Live {
    client: Client,
}

/// Where a kind is served: all of a namespace, or of all namespaces.
#[must_use]
pub fn collection(kind: Kind, namespace: Option<&str>) -> String {
    let words = kind.words();
    let root = if words.group.is_empty() {
        format!("/api/{}", words.version)
    } else {
        format!("/apis/{}/{}", words.group, words.version)
    };
    match namespace {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{}", words.plural),
        None => format!("{root}/{}", words.plural),
    }
}

fn path(kind: Kind, name: &Name, status: bool) -> String {
    let collection = collection(kind, Some(&name.namespace));
    let sub = if status { "/status" } else { "" };
    format!("{collection}/{}{sub}", name.name)
}

impl Live {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// For what is no single call: watches.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// # Errors
    /// As [`ApiError`] has them.
    pub async fn call(&self, method: Method, uri: &str, content: Option<(&str, &Value)>) -> Result<Value, ApiError> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some((kind, _)) = content {
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        let body = content.map(|(_, body)| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(body).map_err(|why| ApiError::Refused(why.to_string()))?;
        match tokio::time::timeout(LIMIT, self.client.request::<Value>(request)).await {
            Ok(answer) => answer.map_err(error),
            Err(_) => Err(ApiError::Silence(format!("nothing was heard in {} s", LIMIT.as_secs()))),
        }
    }

    async fn send(&self, method: Method, uri: &str, kind: &str, body: &Value) -> Result<Value, ApiError> {
        self.call(method, uri, Some((kind, body))).await
    }
}

#[must_use]
pub fn error(error: kube::Error) -> ApiError {
    let kube::Error::Api(status) = error else { return ApiError::Silence(error.to_string()) };
    let why = status.message.clone();
    match (status.code, status.reason.as_str()) {
        (404, _) => ApiError::NotFound(why),
        (409 | 410 | 412, _) => ApiError::Conflict(why),
        // It may have been done, or will be.
        (429 | 500..=599, _) => ApiError::Silence(why),
        _ => ApiError::Refused(why),
    }
}

const JSON: &str = "application/json";

impl Api for Live {
    async fn get(&self, kind: Kind, name: &Name) -> Result<Option<Value>, ApiError> {
        match self.call(Method::GET, &path(kind, name, false), None).await {
            Err(ApiError::NotFound(_)) => Ok(None),
            answer => answer.map(Some),
        }
    }

    async fn list(&self, kind: Kind, namespace: &str, which: Which<'_>, fresh: Fresh) -> Result<Vec<Value>, ApiError> {
        let selector = match which {
            Which::Of(cluster) => format!("labelSelector={CLUSTER_LABEL}%3D{cluster}"),
            Which::About(cluster) => format!("fieldSelector=spec.clusterRef.name%3D{cluster}"),
        };
        // "0" is whatever the API server has at hand.
        let cached = if fresh == Fresh::Cached { "&resourceVersion=0" } else { "" };
        let uri = format!("{}?{selector}{cached}", collection(kind, Some(namespace)));
        let mut list = self.call(Method::GET, &uri, None).await?;
        let Value::Array(items) = list["items"].take() else {
            return Err(ApiError::Silence(format!("{kind}: the answer is no list")));
        };
        Ok(items)
    }

    async fn create(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        let collection = collection(kind, Some(text(object, "/metadata/namespace")));
        self.send(Method::POST, &format!("{collection}?fieldManager={FIELD_MANAGER}"), JSON, object).await
    }

    async fn apply(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        let path = path(kind, &super::write::name(object), false);
        let uri = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        self.send(Method::PATCH, &uri, "application/apply-patch+yaml", object).await
    }

    async fn merge(&self, kind: Kind, name: &Name, status: bool, patch: &Value) -> Result<Value, ApiError> {
        let uri = format!("{}?fieldManager={PATCHER}", path(kind, name, status));
        self.send(Method::PATCH, &uri, "application/merge-patch+json", patch).await
    }

    async fn replace(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        let uri = format!("{}?fieldManager={PATCHER}", path(kind, &super::write::name(object), false));
        self.send(Method::PUT, &uri, JSON, object).await
    }

    async fn delete(&self, kind: Kind, name: &Name, how: &Deletion) -> Result<(), ApiError> {
        let mut options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": if how.orphan { "Orphan" } else { "Background" },
        });
        for (key, value) in [("uid", &how.uid), ("resourceVersion", &how.version)] {
            if let Some(value) = value {
                options["preconditions"][key] = json!(value);
            }
        }
        if how.force {
            options["gracePeriodSeconds"] = json!(0);
        }
        match self.send(Method::DELETE, &path(kind, name, false), JSON, &options).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_place() {
        let name = Name::new("prod", "main");
        assert_eq!(path(Kind::Pod, &name, false), "/api/v1/namespaces/prod/pods/main");
        let status = "/apis/keepstone.io/v1alpha1/namespaces/prod/etcdclusters/main/status";
        assert_eq!(path(Kind::Cluster, &name, true), status);
        assert_eq!(collection(Kind::Lease, None), "/apis/coordination.k8s.io/v1/leases");
    }

    /// A machine that slept must not think that it still leads.
    #[test]
    fn the_steady_clock_goes_on() {
        let before = SystemClock.steady();
        assert!(SystemClock.steady() >= before && before > Duration::ZERO);
    }
}
