//! TLS settings, for clients and for the members among themselves, and the rules between them that need no file.
//! Reads no certificate: that is `tls`' affair.

use std::path::PathBuf;

use super::error::ConfigError;
use super::notice::Notice;
use super::settings::Settings;
use super::url::{ListenUrl, Scheme};
use super::{Config, checks};
use crate::tls::suites::{self, Suite};

/// The TLS of one kind of listener, and of the connections that go the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// Given together with `key_file`, or neither is.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// What is shown when connecting; `cert_file` where there is none. Given together with `client_key_file`.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// Who is trusted. Given, it makes a certificate necessary, as `client_cert_auth` does.
    pub trusted_ca_file: Option<PathBuf>,
    pub client_cert_auth: bool,
    pub crl_file: Option<PathBuf>,
    /// Not empty: a certificate has one of these as its CN. Never together with `allowed_hostnames`.
    pub allowed_cns: Vec<String>,
    /// Not empty: a certificate is valid for one of these.
    pub allowed_hostnames: Vec<String>,
    /// Don't compare a certificate's names with the address it comes from.
    pub skip_client_san_verification: bool,
    /// Make a certificate where none is given.
    pub auto: bool,
}

/// What both kinds of listener share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsLimits {
    /// Go's names, sorted; empty for all.
    pub cipher_suites: Vec<String>,
    pub min_version: TlsVersion,
    /// Not below `min_version`.
    pub max_version: TlsVersion,
    /// How long a certificate of [`Transport::auto`] is valid, in years of 365 days.
    pub self_signed_years: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

impl Transport {
    /// True where no certificate was named; [`Transport::auto`] may still make one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none()
    }

    /// True where whoever connects has to show a certificate.
    #[must_use]
    pub fn wants_certificate(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }

    pub(super) fn of_clients(s: &Settings) -> Self {
        Self {
            cert_file: path(s, "cert-file"),
            key_file: path(s, "key-file"),
            client_cert_file: path(s, "client-cert-file"),
            client_key_file: path(s, "client-key-file"),
            trusted_ca_file: path(s, "trusted-ca-file"),
            client_cert_auth: s.bool("client-cert-auth"),
            crl_file: path(s, "client-crl-file"),
            allowed_cns: s.list("client-cert-allowed-cn"),
            allowed_hostnames: s.list("client-cert-allowed-hostname"),
            skip_client_san_verification: s.bool("skip-client-san-verification"),
            auto: s.bool("auto-tls"),
        }
    }

    pub(super) fn of_peers(s: &Settings) -> Self {
        Self {
            cert_file: path(s, "peer-cert-file"),
            key_file: path(s, "peer-key-file"),
            client_cert_file: path(s, "peer-client-cert-file"),
            client_key_file: path(s, "peer-client-key-file"),
            trusted_ca_file: path(s, "peer-trusted-ca-file"),
            client_cert_auth: s.bool("peer-client-cert-auth"),
            crl_file: path(s, "peer-crl-file"),
            allowed_cns: s.list("peer-cert-allowed-cn"),
            allowed_hostnames: s.list("peer-cert-allowed-hostname"),
            skip_client_san_verification: s.bool("peer-skip-client-san-verification"),
            auto: s.bool("peer-auto-tls"),
        }
    }

    /// Rules that hold whatever is listened on. `which` is `client` or `peer`, for what etcd does not say.
    fn check(&self, which: &str) -> Result<(), ConfigError> {
        let shown = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        if self.cert_file.is_some() != self.key_file.is_some() {
            return invalid(format!(
                "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                shown(&self.key_file),
                shown(&self.cert_file)
            ));
        }
        if self.client_cert_file.is_some() != self.client_key_file.is_some() {
            return invalid(format!(
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
                shown(&self.client_key_file),
                shown(&self.client_cert_file)
            ));
        }
        if !self.allowed_cns.is_empty() && !self.allowed_hostnames.is_empty() {
            return invalid(format!(
                "AllowedCNs and AllowedHostnames are mutually exclusive (cns={}, hostnames={})",
                go_list(&self.allowed_cns),
                go_list(&self.allowed_hostnames)
            ));
        }
        let narrowed = !self.allowed_cns.is_empty() || !self.allowed_hostnames.is_empty() || self.crl_file.is_some();
        // etcd lets these through and then asks nobody for a certificate: everybody would be let in.
        if narrowed && !self.wants_certificate() {
            return invalid(format!(
                "allowed names and revocation lists of {which} certificates need certificates: \
                 set --{}trusted-ca-file too",
                prefix(which)
            ));
        }
        // With generated certificates etcd drops all other TLS settings, these too. For clients they act here.
        let generated = self.auto && self.is_empty();
        if generated && which == "peer" && self.wants_certificate() {
            return invalid(
                "--peer-auto-tls can't be combined with --peer-client-cert-auth or --peer-trusted-ca-file: \
                 no CA vouches for the certificates that members make themselves"
                    .to_owned(),
            );
        }
        if generated && self.client_cert_auth && self.trusted_ca_file.is_none() {
            return invalid(
                "--auto-tls with --client-cert-auth needs --trusted-ca-file: \
                 no CA vouches for certificates that a member makes itself"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl TlsLimits {
    pub(super) fn of(s: &Settings) -> Self {
        let version = |name: &str, default| match s.text(name).as_str() {
            "TLS1.2" => TlsVersion::Tls12,
            "TLS1.3" => TlsVersion::Tls13,
            _ => default,
        };
        Self {
            cipher_suites: s.list("cipher-suites"),
            min_version: version("tls-min-version", TlsVersion::Tls12),
            max_version: version("tls-max-version", TlsVersion::Tls13),
            self_signed_years: s.uint("self-signed-cert-validity"),
        }
    }
}

fn prefix(which: &str) -> &'static str {
    if which == "peer" { "peer-" } else { "" }
}

fn path(s: &Settings, name: &str) -> Option<PathBuf> {
    Some(s.text(name)).filter(|p| !p.is_empty()).map(PathBuf::from)
}

fn invalid(text: String) -> Result<(), ConfigError> {
    Err(ConfigError::Invalid(text))
}

/// Go's `%q` of a list.
fn go_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// The rules between TLS settings and URLs, in etcd's words; what is passed over is noted.
///
/// # Errors
/// A URL wants TLS and there is no certificate, or the settings contradict each other.
pub(super) fn check(config: &mut Config) -> Result<(), ConfigError> {
    let (client, peer) = (config.client_tls.clone(), config.peer_tls.clone());
    for (transport, which) in [(&client, "client"), (&peer, "peer")] {
        transport.check(which)?;
        if transport.auto && !transport.is_empty() {
            config.notices.push(Notice::AutoTlsIgnored(if which == "peer" { "peer" } else { "client" }));
        }
        if transport.auto && transport.is_empty() && config.tls.self_signed_years == 0 {
            return invalid("selfSignedCertValidity is invalid,it should be greater than 0".to_owned());
        }
    }
    let client_urls: Vec<&ListenUrl> =
        config.listen_client_urls.iter().chain(&config.listen_client_http_urls).collect();
    for url in client_urls.iter().filter(|url| url.scheme.is_tls()) {
        if client.is_empty() && !client.auto {
            return invalid(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
            ));
        }
    }
    for url in config.listen_peer_urls.iter().filter(|url| url.scheme.is_tls()) {
        if peer.is_empty() && !peer.auto {
            return invalid(format!(
                "cannot listen on TLS for {}: KeyFile and CertFile are not presented (--peer-cert-file, --peer-key-file)",
                url.authority()
            ));
        }
    }
    if config.listen_metrics_urls.iter().any(|url| url.scheme.is_tls()) && client.is_empty() && !client.auto {
        return invalid(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned(),
        );
    }
    let given = &config.tls.cipher_suites;
    let is = |name: &&String, wanted: fn(Suite) -> bool| suites::find(name).is_some_and(wanted);
    if config.tls.max_version == TlsVersion::Tls12
        && !given.is_empty()
        && !given.iter().any(|name| is(&name, |suite| matches!(suite, Suite::Served(_))))
    {
        return invalid(format!("--cipher-suites={}: none of them is served for TLS 1.2", given.join(",")));
    }
    for name in given.iter().filter(|name| is(name, |suite| suite == Suite::Unserved)) {
        let why = "the suite is not served: it lacks forward secrecy or authenticated encryption";
        config.notices.push(Notice::NoEffect { flag: "cipher-suites".to_owned(), value: name.clone(), why });
    }
    if let Some(url) = checks::shared_with_http(&config.listen_client_urls, &config.listen_client_http_urls) {
        return invalid(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ));
    }
    let plain = |urls: &[&ListenUrl], of: &Transport, which: &'static str| -> Vec<Notice> {
        let mut notices = Vec::new();
        for url in urls {
            if matches!(url.scheme, Scheme::Http) || (which == "client" && url.scheme == Scheme::Unix) {
                if !of.is_empty() || of.auto {
                    notices.push(Notice::PlainThoughCertificate { which, url: url.to_string() });
                }
                if of.client_cert_auth {
                    notices.push(Notice::PlainThoughAuth { which, url: url.to_string() });
                }
            }
        }
        notices
    };
    let peer_urls: Vec<&ListenUrl> = config.listen_peer_urls.iter().collect();
    let mut notices = plain(&client_urls, &client, "client");
    notices.extend(plain(&peer_urls, &peer, "peer"));
    config.notices.append(&mut notices);
    Ok(())
}
