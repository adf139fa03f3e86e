//! The Kubernetes objects of a cluster, one file a kind, each whole as it is applied by the server's side: what is not in
//! it any more is taken away.
//!
//! All functions are pure. An object that needs to know what the planner settled is told so in its arguments; nothing is
//! looked up.

pub mod args;
pub mod certificate;
pub mod client_service;
pub mod disruption_budget;
pub mod fence;
pub mod mounts;
pub mod network_policy;
pub mod peers_service;
pub mod permit;
pub mod pod;
pub mod pod_monitor;
pub mod probes;
pub mod prometheus_rule;
pub mod service_account;
pub mod spread;
pub mod stateful_set;
pub mod tls_secret;
pub mod trust;

/// The field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "keepstone-operator";
