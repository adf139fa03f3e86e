//! An `EtcdCluster` with every text in it read that its objects are made of, so that building them can't fail.

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use keepstone_operator_api::policy::Monitoring;
use keepstone_operator_api::tls::{CommonCfg, TlsProvider};
use keepstone_operator_api::{EtcdCluster, EtcdClusterSpec, RESTART_ANNOTATION};
use kube::Resource as _;

use crate::names::Names;
use crate::quantity;

/// The most a store may become where nothing is said: etcd's own advice.
const LARGEST_QUOTA: u64 = 8 << 30;

/// What the operator was told when it was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The members' image without its tag.
    pub image: String,
    /// The DNS domain of the Kubernetes cluster.
    pub domain: String,
    /// The operator's own image with its tag: agents run in it.
    pub agent: String,
    /// Where the operator itself runs: it is let in where else only members are.
    pub operator: OperatorPods,
}

/// How the operator's own pods are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorPods {
    pub namespace: String,
    /// Labels that they all have.
    pub labels: Vec<(String, String)>,
}

/// Why no objects can be made of an `EtcdCluster`. Its schema refuses most of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("{0} is missing: it was not read from an API server")]
    Missing(&'static str),
    #[error("{field}: {text:?} is no amount of bytes")]
    Quantity { field: &'static str, text: String },
    #[error("{0}: the provider needs it")]
    Provider(&'static str),
}

/// What a cluster's objects are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Blueprint {
    pub names: Names,
    /// Of the `EtcdCluster`: what tells it from another of the same name.
    pub uid: String,
    pub spec: EtcdClusterSpec,
    pub settings: Settings,
    /// The value of the annotation that asks for a restart.
    pub restart: Option<String>,
    /// Bytes.
    pub storage: u64,
    /// Bytes; below the volume's size.
    pub quota: u64,
}

impl Blueprint {
    /// # Errors
    /// The object is incomplete, or says what its schema should have refused.
    pub fn read(cluster: &EtcdCluster, settings: &Settings) -> Result<Self, Unreadable> {
        let meta = &cluster.metadata;
        let given = |value: &Option<String>, what| {
            value.clone().filter(|text| !text.is_empty()).ok_or(Unreadable::Missing(what))
        };
        let names = Names {
            cluster: given(&meta.name, "metadata.name")?,
            namespace: given(&meta.namespace, "metadata.namespace")?,
            domain: settings.domain.clone(),
        };
        let spec = cluster.spec.clone();
        provider(&spec)?;
        let storage = bytes("spec.storageSpec.volumeSizeRequest", &spec.storage_spec.volume_size_request)?;
        let quota = match &spec.quota_backend_bytes {
            Some(quota) => bytes("spec.quotaBackendBytes", quota)?,
            None => (storage / 2).min(LARGEST_QUOTA),
        };
        if quota == 0 {
            // To a server it means 2 GiB, which may be more than there is.
            let text = spec.quota_backend_bytes.as_ref().map_or_else(|| "0".to_owned(), |q| q.0.clone());
            return Err(Unreadable::Quantity { field: "spec.quotaBackendBytes", text });
        }
        let restart = meta.annotations.as_ref().and_then(|all| all.get(RESTART_ANNOTATION)).cloned();
        let uid = given(&meta.uid, "metadata.uid")?;
        Ok(Self { names, uid, spec, settings: settings.clone(), restart, storage, quota })
    }

    /// Whether anything is encrypted.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        self.spec.tls.provider != TlsProvider::Disabled
    }

    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.encrypts() { "https" } else { "http" }
    }

    /// Whether the certificates' contents are ours to say, by making them or by asking cert-manager.
    #[must_use]
    pub fn names_certificates(&self) -> bool {
        matches!(self.spec.tls.provider, TlsProvider::Auto | TlsProvider::CertManager)
    }

    /// What certificates that are ours have in common.
    #[must_use]
    pub fn certificates(&self) -> CommonCfg {
        let cfg = &self.spec.tls.provider_cfg;
        match self.spec.tls.provider {
            TlsProvider::Auto => cfg.auto_cfg.as_ref().map(|auto| auto.common.clone()),
            TlsProvider::CertManager => cfg.cert_manager_cfg.as_ref().map(|manager| manager.common.clone()),
            TlsProvider::Secret | TlsProvider::Disabled => None,
        }
        .unwrap_or_default()
    }

    /// The image of a version, which need not be the spec's. A tag can't have the `+` of a version.
    #[must_use]
    pub fn image(&self, version: &str) -> String {
        let name = self.spec.image_registry.as_ref().unwrap_or(&self.settings.image);
        format!("{name}:{}", version.replace('+', "_"))
    }

    #[must_use]
    pub fn pull_secrets(&self) -> Option<Vec<LocalObjectReference>> {
        Some(self.spec.image_pull_secrets.clone()).filter(|secrets| !secrets.is_empty())
    }

    #[must_use]
    pub fn monitoring(&self) -> &Monitoring {
        &self.spec.monitoring
    }

    /// What tells this cluster from every other there ever was, of the same name too.
    #[must_use]
    pub fn token(&self) -> String {
        format!("{}-{}-{}", self.names.namespace, self.names.cluster, self.uid)
    }

    /// Of an object of that name: it goes with the `EtcdCluster`.
    #[must_use]
    pub fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.names.namespace.clone()),
            labels: Some(self.names.labels()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// The `EtcdCluster`, as what belongs to it names it.
    #[must_use]
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: EtcdCluster::api_version(&()).into_owned(),
            kind: EtcdCluster::kind(&()).into_owned(),
            name: self.names.cluster.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

fn provider(spec: &EtcdClusterSpec) -> Result<(), Unreadable> {
    let cfg = &spec.tls.provider_cfg;
    match spec.tls.provider {
        TlsProvider::CertManager if cfg.cert_manager_cfg.is_none() => {
            Err(Unreadable::Provider("spec.tls.providerCfg.certManagerCfg"))
        }
        TlsProvider::Secret if cfg.secret_cfg.is_none() => Err(Unreadable::Provider("spec.tls.providerCfg.secretCfg")),
        _ => Ok(()),
    }
}

fn bytes(field: &'static str, quantity: &Quantity) -> Result<u64, Unreadable> {
    quantity::bytes(quantity).ok_or_else(|| Unreadable::Quantity { field, text: quantity.0.clone() })
}
