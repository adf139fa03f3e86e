//! Watches, which only wake: what is decided on is read in the pass. So one that breaks, lags or misses something costs
//! time, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{Method, Request};
use keepstone_operator_api::CLUSTER_LABEL;
use kube::core::WatchEvent;
use serde_json::{Value, json};

use super::Manager;
use crate::controller::api::{ApiError, text};
use crate::controller::kind::{Kind, Name};
use crate::controller::live::{Live, collection, error};

const WATCHED: [Kind; 6] = [Kind::Cluster, Kind::Operation, Kind::Backup, Kind::StatefulSet, Kind::Pod, Kind::Claim];

/// How many watches have to have begun.
pub const KINDS: u64 = WATCHED.len() as u64;

/// After one broke.
const PAUSE: Duration = Duration::from_secs(5);
/// The API server ends a watch after so long; then all is listed anew.
const LONGEST: u64 = 600;

/// Begins all of them, in each namespace.
pub fn all(manager: &Arc<Manager>, live: &Live, namespaces: &[String]) {
    let places: Vec<Option<String>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
    for kind in WATCHED {
        for place in &places {
            let (manager, live, place) = (manager.clone(), live.clone(), place.clone());
            tokio::spawn(async move { for_ever(&manager, &live, kind, place.as_deref()).await });
        }
    }
}

async fn for_ever(manager: &Arc<Manager>, live: &Live, kind: Kind, namespace: Option<&str>) {
    let mut begun = false;
    let mut known = HashMap::new();
    loop {
        match list(manager, live, kind, namespace, &mut known).await {
            Ok(version) => {
                if !std::mem::replace(&mut begun, true) {
                    manager.watched.fetch_add(1, Ordering::Relaxed);
                }
                if let Err(why) = follow(manager, live, kind, namespace, &version, &mut known).await {
                    tracing::debug!(%kind, %why, "a watch ended");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(why) => {
                tracing::warn!(%kind, ?namespace, %why, "what there is can't be listed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Those kinds that say in their spec whose they are are not labelled.
fn query(kind: Kind) -> String {
    match kind {
        Kind::Cluster | Kind::Operation | Kind::Backup => String::new(),
        _ => format!("&labelSelector={CLUSTER_LABEL}"),
    }
}

type Known = HashMap<Name, Value>;

async fn list(
    manager: &Arc<Manager>,
    live: &Live,
    kind: Kind,
    namespace: Option<&str>,
    known: &mut Known,
) -> Result<String, ApiError> {
    let uri = format!("{}?resourceVersion=0{}", collection(kind, namespace), query(kind));
    let list = live.call(Method::GET, &uri, None).await?;
    for object in list["items"].as_array().into_iter().flatten() {
        seen(manager, kind, object, known);
    }
    Ok(text(&list, "/metadata/resourceVersion").to_owned())
}

async fn follow(
    manager: &Arc<Manager>,
    live: &Live,
    kind: Kind,
    namespace: Option<&str>,
    version: &str,
    known: &mut Known,
) -> Result<(), ApiError> {
    let query = query(kind);
    let uri = format!(
        "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={LONGEST}&resourceVersion={version}{query}",
        collection(kind, namespace)
    );
    let request = Request::get(uri).body(Vec::new()).map_err(|why| ApiError::Refused(why.to_string()))?;
    let events = live.client().request_events::<Value>(request).await.map_err(error)?;
    tokio::pin!(events);
    while let Some(event) = events.next().await {
        match event.map_err(error)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => seen(manager, kind, &object, known),
            WatchEvent::Deleted(object) => {
                known.remove(&key(&object));
                seen(manager, kind, &object, known);
                known.remove(&key(&object));
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(ApiError::Conflict(status.message.clone())),
        }
    }
    Ok(())
}

fn key(object: &Value) -> Name {
    Name::new(text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

/// What the operator itself writes into an `EtcdCluster`'s status must not wake it: it would never rest.
fn seen(manager: &Arc<Manager>, kind: Kind, object: &Value, known: &mut Known) {
    let namespace = text(object, "/metadata/namespace");
    let cluster = match kind {
        Kind::Cluster => {
            let meta = &object["metadata"];
            let matters = json!([
                meta["uid"],
                meta["generation"],
                meta["annotations"],
                meta["finalizers"],
                meta["deletionTimestamp"]
            ]);
            if known.insert(key(object), matters.clone()) == Some(matters) {
                return;
            }
            text(object, "/metadata/name")
        }
        Kind::Operation | Kind::Backup => text(object, "/spec/clusterRef/name"),
        _ => {
            let labels = object.pointer("/metadata/labels");
            labels.and_then(|labels| labels.get(CLUSTER_LABEL)).and_then(Value::as_str).unwrap_or_default()
        }
    };
    if !cluster.is_empty() {
        manager.wake(Name::new(namespace, cluster));
    }
}
