//! What the certificates of a cluster say: for whom, and for what. One certificate serves all members, so that places
//! come and go without a new one.

use keepstone_operator_plan::observed::Surface;

use crate::Blueprint;

const DAY: u64 = 24 * 3600;
/// Seconds that a certificate is valid where nothing is said.
const VALIDITY: u64 = 90 * DAY;

/// The contents of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<String>,
    /// Whether it is shown to those who connect.
    pub serves: bool,
    /// Whether it is shown when connecting.
    pub connects: bool,
}

/// The common name that members, and nobody else, have: it is what tells them from clients of the same CA.
#[must_use]
pub fn peer_name(b: &Blueprint) -> String {
    format!("{}-peer", b.names.cluster)
}

#[must_use]
pub fn of(b: &Blueprint, surface: Surface) -> Profile {
    let common = b.certificates();
    let organizations = common.organizations;
    let cluster = &b.names.cluster;
    match surface {
        Surface::Server => {
            let mut dns_names = service_names(b);
            dns_names.extend(pod_names(b));
            dns_names.push("localhost".to_owned());
            let mut ip_addresses = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
            for (ours, given) in
                [(&mut dns_names, common.alt_names.dns_names), (&mut ip_addresses, common.alt_names.ip_addresses)]
            {
                for name in given {
                    if !ours.contains(&name) {
                        ours.push(name);
                    }
                }
            }
            let common_name = common.common_name.unwrap_or_else(|| cluster.clone());
            Profile { common_name, organizations, dns_names, ip_addresses, serves: true, connects: false }
        }
        Surface::Peer => {
            let (common_name, dns_names) = (peer_name(b), pod_names(b));
            Profile { common_name, organizations, dns_names, ip_addresses: Vec::new(), serves: true, connects: true }
        }
        Surface::Operator => client("keepstone-operator".to_owned(), organizations),
        Surface::Client => client(format!("{cluster}-client"), organizations),
    }
}

/// Clients connect from anywhere, so that no address is in it.
fn client(common_name: String, organizations: Vec<String>) -> Profile {
    Profile { common_name, organizations, connects: true, ..Profile::default() }
}

/// The client Service, in all its forms.
fn service_names(b: &Blueprint) -> Vec<String> {
    let (service, namespace) = (b.names.client(), &b.names.namespace);
    vec![
        service.clone(),
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.{}", b.names.domain),
    ]
}

/// Each pod, and all together.
fn pod_names(b: &Blueprint) -> Vec<String> {
    let short = format!("{}.{}.svc", b.names.peers(), b.names.namespace);
    let full = b.names.peers_host();
    vec![format!("*.{full}"), full, format!("*.{short}"), short]
}

/// Seconds that a certificate is valid.
#[must_use]
pub fn validity(b: &Blueprint) -> u64 {
    b.certificates().validity_duration.and_then(|span| span.duration()).map_or(VALIDITY, |span| span.as_secs().max(1))
}

/// Seconds before its end that it is renewed: never as soon as it is made.
#[must_use]
pub fn renew_before(b: &Blueprint) -> u64 {
    let validity = validity(b);
    let asked = b.certificates().renew_before.and_then(|span| span.duration()).map(|span| span.as_secs());
    asked.filter(|before| *before < validity).unwrap_or(validity / 3)
}
