//! The Service for clients. Before the cluster ID is written down it selects nothing: what a client writes to a seed that
//! has still to prove itself could be thrown away with it.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use keepstone_operator_api::pod::{ServiceType, TrafficDistribution};

use crate::Blueprint;
use crate::names::CLIENT_PORT;
use crate::objects::peers_service::port;

/// Whether clients are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Shut,
    /// `status.clusterID` is written.
    Open,
}

#[must_use]
pub fn build(b: &Blueprint, door: Door) -> Service {
    let given = &b.spec.client_service;
    let mut metadata = b.metadata(b.names.client());
    metadata.annotations = Some(given.annotations.clone()).filter(|all| !all.is_empty());
    let kind = match given.kind {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let traffic = given.traffic_distribution.map(|near| match near {
        TrafficDistribution::PreferClose => "PreferClose",
        TrafficDistribution::PreferSameZone => "PreferSameZone",
        TrafficDistribution::PreferSameNode => "PreferSameNode",
    });
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: (door == Door::Open).then(|| b.names.selector()),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            traffic_distribution: traffic.map(str::to_owned),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
