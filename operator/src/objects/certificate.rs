//! What cert-manager is asked for: a Certificate for each purpose, into the Secrets that our own CA would write.

use keepstone_operator_api::tls::{CertManagerCfg, IssuerKind};
use keepstone_operator_plan::observed::Surface;
use serde_json::{Value, json};

use crate::Blueprint;
use crate::pki::profile::{self, Profile};

/// None where cert-manager is not the provider.
#[must_use]
pub fn build(b: &Blueprint, surface: Surface) -> Option<Value> {
    let cfg = b.spec.tls.provider_cfg.cert_manager_cfg.as_ref()?;
    let Profile { common_name, organizations, dns_names, ip_addresses, serves, connects } = profile::of(b, surface);
    let usages: Vec<&str> =
        [Some("digital signature"), serves.then_some("server auth"), connects.then_some("client auth")]
            .into_iter()
            .flatten()
            .collect();
    let mut spec = json!({
        "secretName": b.names.leaf(surface),
        "secretTemplate": { "labels": b.names.labels() },
        "commonName": common_name,
        "usages": usages,
        "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
        "issuerRef": issuer(cfg),
        "duration": go_duration(profile::validity(b)),
        "renewBefore": go_duration(profile::renew_before(b)),
    });
    let fields = spec.as_object_mut().expect("it was made as an object");
    for (key, list) in [("dnsNames", dns_names), ("ipAddresses", ip_addresses)] {
        if !list.is_empty() {
            fields.insert(key.to_owned(), json!(list));
        }
    }
    if !organizations.is_empty() {
        fields.insert("subject".to_owned(), json!({ "organizations": organizations }));
    }
    Some(json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": b.metadata(b.names.leaf(surface)),
        "spec": spec,
    }))
}

fn issuer(cfg: &CertManagerCfg) -> Value {
    let kind = match cfg.issuer_kind {
        IssuerKind::Issuer => "Issuer",
        IssuerKind::ClusterIssuer => "ClusterIssuer",
    };
    json!({ "group": "cert-manager.io", "kind": kind, "name": cfg.issuer_name })
}

/// As Go writes it.
fn go_duration(total: u64) -> String {
    format!("{}h{}m{}s", total / 3600, total / 60 % 60, total % 60)
}
