//! Certificates that a member makes itself for `--auto-tls` and `--peer-auto-tls`, kept under `fixtures` in its data
//! directory as etcd keeps them, and never made anew while they are there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, SanType,
};

use super::TlsError;
use super::side::Which;
use crate::config::{Address, ListenUrl};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// X.509 can't say a year after 9999.
const MAX_YEARS: u64 = 7900;

/// Under which name a URL is reached.
pub(super) fn host(url: &ListenUrl) -> String {
    match &url.address {
        Address::Tcp { host, .. } => host.clone(),
        Address::Unix { host, .. } => host.rsplit_once(':').map_or(String::new(), |(host, _)| host.to_owned()),
    }
}

/// The certificate and its key, made if there are none. `hosts` are the names and addresses that are listened on.
///
/// # Errors
/// They can't be made or written.
pub(super) fn ensure(
    which: Which,
    data_dir: &Path,
    hosts: &[String],
    years: u64,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let failed = |why: String| TlsError::SelfSigned { which: which.as_str(), why };
    let dir = data_dir.join("fixtures").join(which.as_str());
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let at =
        |path: &Path, error: std::io::Error| failed(format!("{}: {}", path.display(), super::words::of_io(&error)));
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| at(&dir, error))?;
    let (cert_pem, key_pem) = make(hosts, years).map_err(|error| failed(error.to_string()))?;
    write(&key, &key_pem, 0o600).map_err(|error| at(&key, error))?;
    tracing::info!(path = %key.display(), "created key file");
    // Last: who finds a certificate finds its key.
    write(&cert, &cert_pem, 0o644).map_err(|error| at(&cert, error))?;
    tracing::info!(path = %cert.display(), "created cert file");
    Ok((cert, key))
}

fn make(hosts: &[String], years: u64) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    for host in hosts {
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) if host.is_empty() => continue,
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        };
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    let now = SystemTime::now();
    let until = now + YEAR * u32::try_from(years.min(MAX_YEARS)).unwrap_or(1);
    params.not_before = now.into();
    params.not_after = until.into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    let cert = params.self_signed(&key)?;
    tracing::warn!(
        "certificate-validity-bound-not-after" =
            until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        "automatically generate certificates"
    );
    Ok((pem("CERTIFICATE", cert.der()), pem("PRIVATE KEY", &key.serialize_der())))
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

/// Whole or not at all, also for a member that is killed meanwhile.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let unfinished = path.with_extension("tmp");
    drop(fs::remove_file(&unfinished));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
