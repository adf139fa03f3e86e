//! What the objects of a cluster are called, and under which names its members are reached.
//!
//! A member's URLs follow from its place alone, so that every pod can be made of one template, and a place can be told from
//! a member's URL.

use std::collections::BTreeMap;

use keepstone_operator_api::CLUSTER_LABEL;
use keepstone_operator_plan::ids::{Nonce, Ordinal};
use keepstone_operator_plan::observed::Surface;

/// Of the members, for clients.
pub const CLIENT_PORT: u16 = 2379;
/// Of the members, for each other.
pub const PEER_PORT: u16 = 2380;
/// Of the members, for probes and monitoring; never encrypted.
pub const METRICS_PORT: u16 = 2381;

/// Tells members from other pods of the cluster, such as those that take backups.
const COMPONENT: &str = "app.kubernetes.io/component";
const MEMBER: &str = "member";

/// How many places a joining member asks. At most three of the eight others of the largest cluster may be down while it
/// can still let anybody in, so that of five, without the member itself, one is up. The list must not depend on the size:
/// pods would have to be made anew with each change of it.
const ASKED: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    pub cluster: String,
    pub namespace: String,
    /// The DNS domain of the Kubernetes cluster, such as `cluster.local`.
    pub domain: String,
}

impl Names {
    /// StatefulSet, ServiceAccount, PodDisruptionBudget, NetworkPolicy and the monitoring objects.
    #[must_use]
    pub fn main(&self) -> String {
        self.cluster.clone()
    }

    /// The headless Service that gives pods their names.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service for clients.
    #[must_use]
    pub fn client(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// The ConfigMap with the permit.
    #[must_use]
    pub fn permit(&self) -> String {
        format!("{}-permit", self.cluster)
    }

    /// The ConfigMap with the places whose servers must not start.
    #[must_use]
    pub fn fence(&self) -> String {
        format!("{}-fence", self.cluster)
    }

    /// The Job that copies the data of a place away, for the operation of that number.
    #[must_use]
    pub fn save_job(&self, seq: u64, ordinal: Ordinal) -> String {
        format!("{}-save-{seq}-{ordinal}", self.cluster)
    }

    /// The claim for that copy.
    #[must_use]
    pub fn saved(&self, seq: u64, ordinal: Ordinal) -> String {
        format!("saved-{}-{seq}-{ordinal}", self.cluster)
    }

    /// The Job that puts a backup onto the seed's volume. The name has room for half of the nonce; all of it is on the Job.
    #[must_use]
    pub fn fill_job(&self, nonce: Nonce) -> String {
        format!("{}-fill-{:08x}", self.cluster, nonce.0 & u64::from(u32::MAX))
    }

    /// The ConfigMap with the CAs that members trust clients by, and clients members.
    #[must_use]
    pub fn trust(&self) -> String {
        format!("{}-ca", self.cluster)
    }

    /// The Secret with a CA and its key. No pod mounts it.
    #[must_use]
    pub fn ca_key(&self, next: bool) -> String {
        format!("{}-ca-{}", self.cluster, if next { "next" } else { "key" })
    }

    /// The Secret with a certificate.
    #[must_use]
    pub fn leaf(&self, surface: Surface) -> String {
        let what = match surface {
            Surface::Server => "server",
            Surface::Peer => "peer",
            Surface::Operator => "operator",
            Surface::Client => "client",
        };
        format!("{}-{what}-tls", self.cluster)
    }

    #[must_use]
    pub fn pod(&self, ordinal: Ordinal) -> String {
        format!("{}-{ordinal}", self.cluster)
    }

    #[must_use]
    pub fn claim(&self, ordinal: Ordinal) -> String {
        format!("data-{}-{ordinal}", self.cluster)
    }

    /// Of the volume for the log, where there is one.
    #[must_use]
    pub fn wal_claim(&self, ordinal: Ordinal) -> String {
        format!("wal-{}-{ordinal}", self.cluster)
    }

    /// The place of a pod, or of a pod's claim, by its name; none where it is not this cluster's.
    #[must_use]
    pub fn ordinal(&self, pod: &str) -> Option<Ordinal> {
        let digits = pod.strip_prefix(&self.cluster)?.strip_prefix('-')?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let ordinal = digits.parse().ok().map(Ordinal)?;
        // One place has one name.
        (plain && ordinal.to_string() == digits).then_some(ordinal)
    }

    /// Under which name a pod is reached, whether it is ready or not.
    #[must_use]
    pub fn host(&self, pod: &str) -> String {
        format!("{pod}.{}", self.peers_host())
    }

    /// The name of all pods together.
    #[must_use]
    pub fn peers_host(&self) -> String {
        format!("{}.{}.svc.{}", self.peers(), self.namespace, self.domain)
    }

    #[must_use]
    pub fn peer_url(&self, scheme: &str, ordinal: Ordinal) -> String {
        format!("{scheme}://{}:{PEER_PORT}", self.host(&self.pod(ordinal)))
    }

    #[must_use]
    pub fn client_url(&self, scheme: &str, ordinal: Ordinal) -> String {
        format!("{scheme}://{}:{CLIENT_PORT}", self.host(&self.pod(ordinal)))
    }

    /// The place that a peer URL is of; none where it is no pod's of this cluster.
    #[must_use]
    pub fn ordinal_of(&self, peer_url: &str) -> Option<Ordinal> {
        let (_, authority) = peer_url.split_once("://")?;
        let host = authority.strip_suffix(&format!(":{PEER_PORT}"))?;
        self.ordinal(host.strip_suffix(&format!(".{}", self.peers_host()))?)
    }

    /// What a joining member asks, in the order of places.
    #[must_use]
    pub fn asked(&self, scheme: &str) -> Vec<String> {
        (0..ASKED).map(|n| self.peer_url(scheme, Ordinal(n))).collect()
    }

    /// On every object of the cluster.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "keepstone"),
            ("app.kubernetes.io/instance", self.cluster.as_str()),
            ("app.kubernetes.io/managed-by", "keepstone-operator"),
            (CLUSTER_LABEL, self.cluster.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// On the members' pods, and what they are selected by. It never changes: a StatefulSet's selector can't.
    #[must_use]
    pub fn selector(&self) -> BTreeMap<String, String> {
        [(CLUSTER_LABEL, self.cluster.as_str()), (COMPONENT, MEMBER)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// The same as text, for `status.selector`.
    #[must_use]
    pub fn selector_text(&self) -> String {
        self.selector().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { cluster: "main".to_owned(), namespace: "prod".to_owned(), domain: "cluster.local".to_owned() }
    }

    #[test]
    fn a_place_is_found_again_in_its_url_and_in_no_other() {
        let names = names();
        for n in [0, 7, 12] {
            let url = names.peer_url("https", Ordinal(n));
            assert_eq!(names.ordinal_of(&url), Some(Ordinal(n)), "{url}");
        }
        for url in [
            "https://main-0.main-peers.prod.svc.cluster.local:2379",
            "https://main-0.main-peers.test.svc.cluster.local:2380",
            "https://main-00.main-peers.prod.svc.cluster.local:2380",
            "https://main-+1.main-peers.prod.svc.cluster.local:2380",
            "https://main-.main-peers.prod.svc.cluster.local:2380",
            "https://main-x-0.main-peers.prod.svc.cluster.local:2380",
            "https://10.0.0.1:2380",
            "main-0",
        ] {
            assert_eq!(names.ordinal_of(url), None, "{url}");
        }
    }

    /// Of the largest cluster's eight other voters three may be down, and they still let a ninth in.
    #[test]
    fn whoever_may_be_let_in_asks_somebody_who_is_up() {
        let asked = names().asked("https").len();
        for size in 2..=9_usize {
            for joining in 0..size {
                let others = size - 1;
                let down = others - (others / 2 + 1);
                let asked_of_others = asked.min(size) - usize::from(joining < asked);
                assert!(asked_of_others > down, "{size} {joining}");
            }
        }
    }

    #[test]
    fn the_longest_name_leaves_room_for_what_is_put_behind_it() {
        let long = Names { cluster: "a".repeat(48), ..names() };
        let service = [
            long.peers(),
            long.client(),
            long.pod(Ordinal(8)),
            long.leaf(Surface::Operator),
            long.save_job(999_999, Ordinal(8)),
            long.fill_job(Nonce(u64::MAX)),
        ];
        // A pod's label has the StatefulSet's name and a hash of ten characters.
        assert!(service.iter().all(|name| name.len() <= 63) && long.main().len() + 11 <= 63);
    }
}
