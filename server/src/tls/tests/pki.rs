//! A CA for tests, and files of what it signs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};

use super::super::self_signed::pem;
use crate::config::Transport;

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// What a certificate says.
#[derive(Clone, Copy)]
pub(super) struct Says<'a> {
    pub(super) cn: &'a str,
    pub(super) names: &'a [&'a str],
    pub(super) serial: u64,
    /// For servers only; else for both.
    pub(super) server_only: bool,
}

impl Default for Says<'_> {
    fn default() -> Self {
        Self { cn: "someone", names: &["localhost"], serial: 7, server_only: false }
    }
}

fn named(cn: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params
}

impl Authority {
    pub(super) fn new(cn: &str) -> Self {
        let mut params = named(cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), pem: pem("CERTIFICATE", cert.der()) }
    }

    /// Certificate and key, PEM.
    pub(super) fn issue(&self, says: Says<'_>) -> (String, String) {
        let mut params = named(says.cn);
        params.serial_number = Some(SerialNumber::from(says.serial));
        params.subject_alt_names = says
            .names
            .iter()
            .map(|name| match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
            })
            .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if !says.server_only {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        (pem("CERTIFICATE", cert.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }

    /// A revocation list, DER.
    pub(super) fn revoke(&self, serials: &[u64]) -> Vec<u8> {
        let now = SystemTime::now();
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").der().to_vec()
    }
}

/// A directory of files.
pub(super) struct Dir(tempfile::TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    /// The settings of one who shows a certificate and believes in `trusted`.
    pub(super) fn transport(&self, name: &str, issued: &(String, String), trusted: &str) -> Transport {
        Transport {
            cert_file: Some(self.put(&format!("{name}.crt"), &issued.0)),
            key_file: Some(self.put(&format!("{name}.key"), &issued.1)),
            trusted_ca_file: Some(self.put(&format!("{name}-ca.crt"), trusted)),
            ..Transport::default()
        }
    }
}
