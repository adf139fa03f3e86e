//! The NetworkPolicy: only members and the operator reach the members' peer port. Clients and monitoring come from anywhere;
//! certificates decide about clients.
//!
//! What members may reach is not said: they need DNS and each other, and where DNS answers from is every network's own way.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Blueprint;
use crate::names::{CLIENT_PORT, METRICS_PORT, PEER_PORT};

/// Every namespace has it.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

#[must_use]
pub fn build(b: &Blueprint) -> NetworkPolicy {
    let members = labelled(b.names.selector());
    let operator = &b.settings.operator;
    let namespace = [(NAMESPACE_LABEL.to_owned(), operator.namespace.clone())];
    let insiders = vec![
        NetworkPolicyPeer { pod_selector: Some(members.clone()), ..NetworkPolicyPeer::default() },
        NetworkPolicyPeer {
            namespace_selector: Some(labelled(namespace)),
            pod_selector: Some(labelled(operator.labels.iter().cloned())),
            ip_block: None,
        },
    ];
    NetworkPolicy {
        metadata: b.metadata(b.names.main()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(members),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule { from: Some(insiders), ports: Some(vec![port(PEER_PORT)]) },
                NetworkPolicyIngressRule { from: None, ports: Some(vec![port(CLIENT_PORT), port(METRICS_PORT)]) },
            ]),
            egress: None,
        }),
    }
}

fn labelled(labels: impl IntoIterator<Item = (String, String)>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels.into_iter().collect()), ..LabelSelector::default() }
}

fn port(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
