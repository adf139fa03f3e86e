//! Asks the API server, with its user's rights. Each call has a bound of time; what fails is kept as the reason why
//! something is not known.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use super::args::Reach;
use super::found::{Found, Operator, Why};
use super::told::Told;
use crate::controller::api::{Api as _, ApiError, Fresh, Which, text};
use crate::controller::kind::{Kind, Name};
use crate::controller::live::{Live, collection};
use crate::names::METRICS_PORT;

/// A text; objects have the bound of `Live`.
const LIMIT: Duration = Duration::from_secs(20);
/// A member that hangs must not hold up the picture.
const MEMBER: Duration = Duration::from_secs(5);
/// Of one object.
const EVENTS: usize = 100;
const MANAGER: &str = "fieldManager=kubectl-keepstone&fieldValidation=Strict";
/// What tells the operator's pods.
const OPERATOR: &str = "app.kubernetes.io/name%3Dkeepstone-operator";
const LEASE_FLAG: &str = "--lease-name=";

/// The kinds that are shown.
const SHOWN: [Kind; 5] = [Kind::Pod, Kind::Claim, Kind::StatefulSet, Kind::Backup, Kind::Operation];

pub struct Asker {
    live: Live,
    namespace: String,
    operator: String,
}

impl Asker {
    /// # Errors
    /// There is no kubeconfig that could be read, or it has no such context.
    pub async fn connect(reach: &Reach) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: reach.context.clone(), ..KubeConfigOptions::default() };
        let config = match &reach.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
                Config::from_custom_kubeconfig(file, &options).await.with_context(|| path.display().to_string())?
            }
            None if reach.context.is_some() => Config::from_kubeconfig(&options).await.context("the kubeconfig")?,
            // In a pod there is none, and its service account instead.
            None => Config::infer().await.context("neither a kubeconfig nor a service account")?,
        };
        let namespace = reach.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig")?;
        Ok(Self { live: Live::new(client), namespace, operator: reach.operator_namespace.clone() })
    }

    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// # Errors
    /// The user may not list them, or nobody answers.
    pub async fn clusters(&self, everywhere: bool) -> anyhow::Result<Vec<Value>> {
        let namespace = (!everywhere).then_some(self.namespace.as_str());
        let list = self.list(&collection(Kind::Cluster, namespace), Kind::Cluster).await;
        list.map_err(anyhow::Error::msg).context("EtcdClusters")
    }

    /// Makes an object; a field that the server doesn't know is an error.
    ///
    /// # Errors
    /// The server refuses, or nobody answers.
    pub async fn create(&self, kind: Kind, object: &Value) -> anyhow::Result<Value> {
        let uri = format!("{}?{MANAGER}", collection(kind, Some(&self.namespace)));
        let made = self.live.call(Method::POST, &uri, Some(("application/json", object))).await;
        made.with_context(|| format!("the {kind} was not made"))
    }

    /// Everything about a cluster that can be had.
    ///
    /// # Errors
    /// The cluster itself can't be read.
    pub async fn found(&self, cluster: &str) -> anyhow::Result<Found> {
        let name = Name::new(&self.namespace, cluster);
        let object = self.live.get(Kind::Cluster, &name).await.with_context(|| format!("EtcdCluster {name}"))?;
        let object = object.with_context(|| format!("there is no EtcdCluster {name}"))?;
        let lists = join_all(SHOWN.map(|kind| async move {
            let which = match kind {
                Kind::Backup | Kind::Operation => Which::About(cluster),
                _ => Which::Of(cluster),
            };
            let list = self.live.list(kind, &self.namespace, which, Fresh::Now).await;
            (kind, list.map(|list| named(list, kind)).map_err(|why| why.to_string()))
        }));
        let (lists, operator) = tokio::join!(lists, self.operator());
        let mut found =
            Found { cluster: object, lists: lists.into_iter().collect(), operator: Some(operator), ..Found::default() };
        let (events, told) = tokio::join!(self.events(&found), self.told(&found));
        (found.events, found.told) = (events, told);
        Ok(found)
    }

    /// # Errors
    /// As the server has them, in its words.
    pub async fn list(&self, uri: &str, kind: Kind) -> Result<Vec<Value>, Why> {
        let mut list = self.live.call(Method::GET, uri, None).await.map_err(|why| why.to_string())?;
        match list["items"].take() {
            Value::Array(items) => Ok(named(items, kind)),
            _ => Err("the answer is no list".to_owned()),
        }
    }

    /// Events about the cluster, its workload, its pods and its volumes.
    async fn events(&self, found: &Found) -> Vec<Value> {
        let pods = found.of(Kind::Pod).map(|it| (Kind::Pod, text(it, "/metadata/name")));
        let claims = found.of(Kind::Claim).map(|it| (Kind::Claim, text(it, "/metadata/name")));
        let name = text(&found.cluster, "/metadata/name");
        let about = [(Kind::Cluster, name), (Kind::StatefulSet, name)].into_iter().chain(pods).chain(claims);
        let asked = about.map(|(kind, name)| async move {
            let selector = format!("involvedObject.kind%3D{kind},involvedObject.name%3D{name}");
            let root = format!("/api/v1/namespaces/{}/events", self.namespace);
            self.list(&format!("{root}?limit={EVENTS}&fieldSelector={selector}"), Kind::Event).await
        });
        let mut all: Vec<Value> = join_all(asked).await.into_iter().flatten().flatten().collect();
        // They are those of the core group here.
        all.iter_mut().for_each(|one| one["apiVersion"] = "v1".into());
        all
    }

    /// What the members say whose pods run, through the API server's proxy.
    async fn told(&self, found: &Found) -> BTreeMap<String, Result<Told, Why>> {
        let runs = |pod: &&Value| {
            pod["status"]["phase"] == "Running"
                && text(pod, "/metadata/labels/app.kubernetes.io~1component") == "member"
        };
        let asked = found.of(Kind::Pod).filter(runs).map(|pod| async {
            let name = text(pod, "/metadata/name").to_owned();
            let (card, metrics) =
                tokio::join!(self.of_member(&name, "keepstone/member"), self.of_member(&name, "metrics"));
            let told = card.and_then(|card| {
                let card: Value = serde_json::from_str(&card).map_err(|why| why.to_string())?;
                Ok(Told::read(&card, &metrics?))
            });
            (name, told)
        });
        join_all(asked).await.into_iter().collect()
    }

    /// What a member answers at a path of the port that probes ask.
    ///
    /// # Errors
    /// The user may not, or the API server does not get there.
    pub async fn of_member(&self, pod: &str, path: &str) -> Result<String, Why> {
        let uri = format!("/api/v1/namespaces/{}/pods/{pod}:{METRICS_PORT}/proxy/{path}", self.namespace);
        self.text(&uri, MEMBER).await
    }

    /// # Errors
    /// As the server has them, in its words.
    pub async fn log(&self, namespace: &str, pod: &str, query: &str) -> Result<String, Why> {
        self.text(&format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?{query}"), LIMIT).await
    }

    async fn text(&self, uri: &str, limit: Duration) -> Result<String, Why> {
        let request = Request::get(uri).body(Vec::new()).map_err(|why| why.to_string())?;
        match tokio::time::timeout(limit, self.live.client().request_text(request)).await {
            Ok(answer) => answer.map_err(|why| crate::controller::live::error(why).to_string()),
            Err(_) => Err(format!("nothing was heard in {} s", limit.as_secs())),
        }
    }

    /// The operator, wherever it is; in the one place where it should be for who may not look everywhere.
    async fn operator(&self) -> Result<Operator, Why> {
        let everywhere = format!("{}?labelSelector={OPERATOR}", collection(Kind::Pod, None));
        let pods = match self.list(&everywhere, Kind::Pod).await {
            Ok(pods) => pods,
            Err(_) => {
                let there = collection(Kind::Pod, Some(&self.operator));
                self.list(&format!("{there}?labelSelector={OPERATOR}"), Kind::Pod).await?
            }
        };
        let lease = match pods.first().and_then(lease_of) {
            Some(name) => self.live.get(Kind::Lease, &name).await.unwrap_or(None),
            None => None,
        };
        Ok(Operator { pods, lease })
    }

    /// One object, by its path.
    ///
    /// # Errors
    /// As the server has them.
    pub async fn object(&self, path: &str) -> Result<Value, ApiError> {
        self.live.call(Method::GET, path, None).await
    }
}

/// The objects of a list don't say what they are.
fn named(mut list: Vec<Value>, kind: Kind) -> Vec<Value> {
    for object in &mut list {
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.words().kind.into();
    }
    list
}

/// The lease that a pod of the operator works by, as its arguments have it.
fn lease_of(pod: &Value) -> Option<Name> {
    let arguments = pod.pointer("/spec/containers/0/args")?.as_array()?;
    let name = arguments.iter().find_map(|argument| argument.as_str()?.strip_prefix(LEASE_FLAG))?;
    Some(Name::new(text(pod, "/metadata/namespace"), name))
}
