//! Files with certificates, keys, CAs and revocation lists: read whole, checked, and complained about by name.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::TlsError;
use super::certificate::magnitude;

/// Bytes; a system's whole CA bundle has a quarter of a megabyte.
const MAX_FILE: u64 = 16 << 20;

/// A file of a setting, with what it held when it was read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) flag: &'static str,
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl File {
    pub(super) fn read(flag: &'static str, path: &Path) -> Result<Self, TlsError> {
        let open = |why| TlsError::Open { flag, path: path.to_owned(), why };
        let mut bytes = Vec::new();
        fs::File::open(path).map_err(open)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(open)?;
        let file = Self { flag, path: path.to_owned(), bytes };
        if file.bytes.len() as u64 > MAX_FILE {
            return Err(file.wrong(format!("longer than {MAX_FILE} bytes")));
        }
        Ok(file)
    }

    fn wrong(&self, why: impl Into<String>) -> TlsError {
        TlsError::Content { flag: self.flag, path: self.path.clone(), why: why.into() }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(format!("PEM: {error}")))
    }

    /// CAs to trust. At least one: a file without any would lock everybody out.
    pub(super) fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.wrong(format!("x509: {error}")))?;
        }
        if roots.is_empty() {
            return Err(self.wrong("no certificate in PEM"));
        }
        Ok(roots)
    }

    /// Serial numbers of a revocation list, or of several in PEM. As in etcd, a serial number is revoked whoever
    /// issued it, and the list is trusted for lying where it lies.
    pub(super) fn revoked(&self) -> Result<HashSet<Vec<u8>>, TlsError> {
        let is_pem = self.bytes.starts_with(b"-----") || self.bytes.windows(11).any(|w| w == b"-----BEGIN ");
        let lists: Vec<CertificateRevocationListDer<'_>> = if is_pem {
            CertificateRevocationListDer::pem_slice_iter(&self.bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| self.wrong(format!("PEM: {error}")))?
        } else {
            vec![CertificateRevocationListDer::from(self.bytes.as_slice())]
        };
        if lists.is_empty() {
            return Err(self.wrong("no revocation list in PEM"));
        }
        let mut serials = HashSet::new();
        for list in &lists {
            let (_, list) = CertificateRevocationList::from_der(list).map_err(|_| self.wrong("x509: malformed crl"))?;
            serials.extend(list.iter_revoked_certificates().map(|revoked| magnitude(revoked.raw_serial())));
        }
        Ok(serials)
    }
}

/// A certificate with its chain and its key.
pub(super) fn credentials(cert: &File, key: &File, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = cert.certificates()?;
    if chain.is_empty() {
        return Err(cert.wrong("tls: failed to find any PEM data in certificate input"));
    }
    let der = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| {
        let any = <(SectionKind, Vec<u8>)>::pem_slice_iter(&key.bytes).next().is_some_and(|section| section.is_ok());
        if any {
            key.wrong(
                "tls: found a certificate rather than a key in the PEM for the private key, or a key of no known kind",
            )
        } else {
            key.wrong("tls: failed to find any PEM data in key input")
        }
    })?;
    match CertifiedKey::from_der(chain, der, provider) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { cert: cert.path.clone(), key: key.path.clone() })
        }
        Err(rustls::Error::InvalidCertificate(why)) => Err(cert.wrong(format!("x509: {why}"))),
        Err(other) => Err(key.wrong(format!("tls: failed to parse private key: {other}"))),
    }
}
