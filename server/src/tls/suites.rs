//! Cipher suites by the names Go gives them, which are those etcd takes.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedProtocolVersion, version};

use crate::config::{TlsLimits, TlsVersion};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Of TLS 1.2, and served.
    Served(CipherSuite),
    /// Of TLS 1.3: always on, in Go too.
    AlwaysOn,
    /// Go has it and Keepstone does not: without forward secrecy, or with CBC, RC4 or 3DES.
    Unserved,
}

const SERVED: &[(&str, CipherSuite)] = &[
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

const ALWAYS_ON: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

const UNSERVED: &[&str] = &[
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
];

/// The suite of a name; `None` for one that Go does not know either.
#[must_use]
pub fn find(name: &str) -> Option<Suite> {
    if let Some((_, suite)) = SERVED.iter().find(|(served, _)| *served == name) {
        return Some(Suite::Served(*suite));
    }
    if ALWAYS_ON.contains(&name) {
        return Some(Suite::AlwaysOn);
    }
    UNSERVED.contains(&name).then_some(Suite::Unserved)
}

/// The cryptography that is allowed. Suites that are not served are left out: that makes a member no less closed.
#[must_use]
pub fn provider(names: &[String]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !names.is_empty() {
        let wanted: Vec<CipherSuite> = names
            .iter()
            .filter_map(|name| match find(name) {
                Some(Suite::Served(suite)) => Some(suite),
                _ => None,
            })
            .collect();
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()));
    }
    Arc::new(provider)
}

/// The versions between the limits.
#[must_use]
pub fn versions(limits: &TlsLimits) -> Vec<&'static SupportedProtocolVersion> {
    let within = |version| limits.min_version <= version && version <= limits.max_version;
    [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)]
        .into_iter()
        .filter(|(version, _)| within(*version))
        .map(|(_, supported)| supported)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_names_are_known() {
        let named = |names: &[&str]| -> Vec<CipherSuite> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let provider = provider(&names);
            let tls12 = provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none());
            tls12.map(|suite| suite.suite()).collect()
        };
        assert_eq!(named(&[]).len(), 6);
        assert_eq!(
            named(&[
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
                "TLS_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_AES_128_GCM_SHA256"
            ]),
            [CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]
        );
        assert_eq!(find("TLS_RSA_WITH_RC4_128_SHA"), Some(Suite::Unserved));
        assert_eq!(find("not_existing"), None);
    }
}
