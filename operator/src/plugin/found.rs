//! What was found of a cluster: objects as the API server gave them, and why others could not be read. Nothing is asked here.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::told::Told;
use crate::controller::kind::Kind;
use crate::plugin::lines;

/// Why something is not known, in words for people.
pub type Why = String;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    pub cluster: Value,
    pub lists: BTreeMap<Kind, Result<Vec<Value>, Why>>,
    /// `v1` Events about the cluster and what belongs to it.
    pub events: Vec<Value>,
    /// What the members whose pods run said themselves, by pod.
    pub told: BTreeMap<String, Result<Told, Why>>,
    pub operator: Option<Result<Operator, Why>>,
}

/// The operator's pods, and its lease where that could be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Operator {
    pub pods: Vec<Value>,
    pub lease: Option<Value>,
}

impl Found {
    /// Those of a kind; none where they could not be read.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.lists.get(&kind).and_then(|list| list.as_ref().ok()).into_iter().flatten()
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Value> {
        self.of(kind).find(|one| one["metadata"]["name"] == name)
    }

    /// What could not be read, and why.
    #[must_use]
    pub fn missing(&self) -> Vec<(String, &str)> {
        let lists = self
            .lists
            .iter()
            .filter_map(|(kind, list)| Some((kind.words().plural.to_owned(), list.as_ref().err()?.as_str())));
        let operator =
            self.operator.iter().filter_map(|it| Some(("the operator".to_owned(), it.as_ref().err()?.as_str())));
        let told = self
            .told
            .iter()
            .filter_map(|(pod, told)| Some((format!("member {pod} itself"), told.as_ref().err()?.as_str())));
        lists.chain(operator).chain(told).collect()
    }

    /// All of it as one object, for programs.
    ///
    /// # Errors
    /// The cluster is no `EtcdCluster`.
    pub fn object(&self) -> anyhow::Result<Value> {
        let mut all = json!({
            "cluster": self.cluster,
            "members": lines::members(self)?,
            "events": self.events,
            "operator": self.operator.as_ref().and_then(|it| it.as_ref().ok()),
            "notRead": self.missing().into_iter().map(|(what, why)| format!("{what}: {why}")).collect::<Vec<_>>(),
        });
        for (kind, list) in &self.lists {
            if let Ok(list) = list {
                all[kind.words().plural] = json!(list);
            }
        }
        Ok(all)
    }
}
