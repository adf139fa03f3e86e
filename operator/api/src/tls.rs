//! Certificates: who makes them, and what is in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::NameRef;
use crate::span::Span;

/// TLS between clients and members and between members. On, unless `disabled` is said out loud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tls {
    /// Who makes the certificates: `auto` (a CA of the cluster's own, kept and renewed by the operator), `cert-manager`,
    /// `secret` (you), or `disabled` (everybody on the network reads and writes everything). Immutable.
    pub provider: TlsProvider,
    /// What the provider needs to know; only the part of the chosen one.
    pub provider_cfg: ProviderCfg,
    /// Whether clients must show a certificate that the cluster's CA signed.
    pub client_cert_auth: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { provider: TlsProvider::Auto, provider_cfg: ProviderCfg::default(), client_cert_auth: true }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsProvider {
    #[default]
    Auto,
    CertManager,
    Secret,
    Disabled,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ProviderCfg {
    /// For `auto`; all of it has defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_cfg: Option<AutoCfg>,
    /// For `cert-manager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager_cfg: Option<CertManagerCfg>,
    /// For `secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_cfg: Option<SecretCfg>,
}

/// A CA of the cluster's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AutoCfg {
    #[serde(flatten)]
    pub common: CommonCfg,
}

/// Certificates by cert-manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManagerCfg {
    /// Whose issuer it is: this namespace's, or the whole Kubernetes cluster's.
    pub issuer_kind: IssuerKind,
    /// The issuer's name. It must sign with one CA: what it issues for one member, the others verify.
    #[schemars(length(min = 1, max = 253))]
    pub issuer_name: String,
    #[serde(flatten)]
    pub common: CommonCfg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IssuerKind {
    Issuer,
    ClusterIssuer,
}

/// Certificates that you make and renew. Each Secret has `tls.crt` and `tls.key`; members read them again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretCfg {
    /// What members show to clients; `ca.crt` in it is what clients verify it with.
    pub server_secret_ref: NameRef,
    /// What members show to each other, as servers and as clients; with `ca.crt`.
    pub peer_secret_ref: NameRef,
    /// `ca.crt`: who signed the clients' certificates.
    #[serde(rename = "clientCASecretRef")]
    pub client_ca_secret_ref: NameRef,
    /// What the operator shows to members.
    pub operator_secret_ref: NameRef,
}

/// What certificates have in common. The names are etcd-io/etcd-operator's; all of it has defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct CommonCfg {
    /// The subject's common name; the member's name where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub common_name: Option<String>,
    /// The subject's organizations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub organizations: Vec<String>,
    /// Names and addresses besides those of the cluster's own Services and pods, which are always there.
    #[serde(skip_serializing_if = "AltNames::is_empty")]
    pub alt_names: AltNames,
    /// How long a certificate is valid; `90d` where absent. A CA of the cluster's own is valid for five years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validity_duration: Option<Span>,
    /// How long before its end a certificate is renewed; a third of its time where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Span>,
    /// A Secret with `ca.crt`: more CAs whose certificates are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub ca_bundle_secret: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AltNames {
    /// More DNS names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub dns_names: Vec<String>,
    /// More IP addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 45)))]
    pub ip_addresses: Vec<String>,
}

impl AltNames {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dns_names.is_empty() && self.ip_addresses.is_empty()
    }
}
