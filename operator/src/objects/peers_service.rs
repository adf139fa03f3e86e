//! The headless Service: it gives each pod a name, ready or not. Without names for pods that are not ready no member would
//! find the others after all have been restarted, and so none would become ready.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Blueprint;
use crate::names::{CLIENT_PORT, METRICS_PORT, PEER_PORT};
use crate::objects::probes::METRICS;

#[must_use]
pub fn build(b: &Blueprint) -> Service {
    Service {
        metadata: b.metadata(b.names.peers()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(b.names.selector()),
            ports: Some(vec![port("client", CLIENT_PORT), port("peer", PEER_PORT), port(METRICS, METRICS_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(super) fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
