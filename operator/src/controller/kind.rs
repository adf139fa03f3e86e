//! The kinds of objects the operator works with, and how they are named in the API.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Cluster,
    Backup,
    Operation,
    StatefulSet,
    Pod,
    Claim,
    Service,
    ServiceAccount,
    ConfigMap,
    Secret,
    Budget,
    NetworkPolicy,
    Job,
    Certificate,
    PodMonitor,
    PrometheusRule,
    Lease,
    Event,
}

/// Group, version, kind and plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
}

impl Kind {
    #[must_use]
    pub const fn words(self) -> Words {
        let (group, version, kind, plural) = match self {
            Self::Cluster => ("keepstone.io", "v1alpha1", "EtcdCluster", "etcdclusters"),
            Self::Backup => ("keepstone.io", "v1alpha1", "EtcdBackup", "etcdbackups"),
            Self::Operation => ("keepstone.io", "v1alpha1", "EtcdOperation", "etcdoperations"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Claim => ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Budget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::Certificate => ("cert-manager.io", "v1", "Certificate", "certificates"),
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
            Self::PrometheusRule => ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
            Self::Event => ("events.k8s.io", "v1", "Event", "events"),
        };
        Words { group, version, kind, plural }
    }

    /// Group and version as an object has them.
    #[must_use]
    pub fn api_version(self) -> String {
        let Words { group, version, .. } = self.words();
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().kind)
    }
}

/// Which object of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub namespace: String,
    pub name: String,
}

impl Name {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
