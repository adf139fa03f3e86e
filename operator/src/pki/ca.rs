//! CAs: one with its key, one without, and several that are trusted together.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use keepstone_operator_plan::ids::{Seconds, Time};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::{Error, KeySource, SKEW, pem};

/// Of a CA that is made here: five years.
pub const LIFE: Seconds = Seconds(5 * 365 * 24 * 3600);

/// A CA's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    /// Names it everywhere: the beginning of its SHA-256, in hex.
    pub id: Arc<str>,
    pub not_before: Time,
    pub not_after: Time,
    /// What the certificates it signed name it by.
    key_id: Vec<u8>,
}

impl CaCertificate {
    /// # Errors
    /// It is no certificate of a CA.
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, Error> {
        let parsed = parse(&der)?;
        if !parsed.is_ca() {
            return Err(Error::Certificate("it is none of a CA".to_owned()));
        }
        let key_id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let id: String = Sha256::digest(&der).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let (not_before, not_after) = validity(&parsed);
        Ok(Self { id: id.into(), not_before, not_after, key_id: key_id.unwrap_or_default(), der })
    }

    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// Whether it says of a certificate's key identifier that this CA signed it.
    pub(super) fn is_named(&self, authority_key_id: &[u8]) -> bool {
        !self.key_id.is_empty() && self.key_id == authority_key_id
    }
}

/// A CA that can sign.
#[derive(Clone)]
pub struct Ca {
    pub certificate: CaCertificate,
    key: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for Ca {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("id", &self.certificate.id).finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes one. Its name has the time in it: two of the same cluster are told apart by people, too.
    ///
    /// # Errors
    /// No key is to be had, or the name can't be in a certificate.
    pub fn create(cluster: &str, now: Time, life: Seconds, keys: &mut dyn KeySource) -> Result<Self, Error> {
        let key = keys.key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("{cluster} CA {}", now.0));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = at(Time(now.0.saturating_sub(SKEW))).into();
        params.not_after = at(now.after(life)).into();
        let made = params.self_signed(&key).map_err(|error| Error::Signing(error.to_string()))?;
        let certificate = CaCertificate::from_der(made.der().clone())?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| Error::Key(why.to_owned()))?;
        Ok(Self { certificate, key: Arc::new(key) })
    }

    /// # Errors
    /// Either is no use, or they don't belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let der = pem::certificates(certificate)?.into_iter().next().ok_or(Error::Missing("the CA's certificate"))?;
        let ca = Self { certificate: CaCertificate::from_der(der)?, key: Arc::new(pem::key(key)?) };
        let public = ca.key_pair()?.public_key_raw().to_vec();
        let parsed = parse(&ca.certificate.der)?;
        if parsed.public_key().subject_public_key.data.as_ref() != public {
            return Err(Error::Key("it is not the certificate's".to_owned()));
        }
        Ok(ca)
    }

    #[must_use]
    pub fn key_pem(&self) -> String {
        pem::encode("PRIVATE KEY", self.key.secret_der())
    }

    fn key_pair(&self) -> Result<KeyPair, Error> {
        KeyPair::try_from(&*self.key).map_err(|error| Error::Key(error.to_string()))
    }

    /// What signs for it.
    pub(super) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let parsed = parse(&self.certificate.der)?;
        let common_name = parsed.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
        let common_name = common_name.ok_or_else(|| Error::Certificate("it has no common name".to_owned()))?;
        let mut params = CertificateParams::default();
        // The same name, byte for byte: verifiers look for the issuer by it.
        params.distinguished_name = name(common_name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Issuer::new(params, self.key_pair()?))
    }
}

/// CAs that are trusted together, each once, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle(Vec<CaCertificate>);

impl Bundle {
    /// # Errors
    /// There is something in it that is no certificate of a CA.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let cas = pem::certificates(text)?.into_iter().map(CaCertificate::from_der);
        cas.collect::<Result<Vec<_>, _>>().map(Self::of)
    }

    #[must_use]
    pub fn of(mut cas: Vec<CaCertificate>) -> Self {
        cas.sort_by(|a, b| (a.not_before, &a.id).cmp(&(b.not_before, &b.id)));
        cas.dedup_by(|a, b| a.id == b.id);
        Self(cas)
    }

    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.iter().map(CaCertificate::to_pem).collect()
    }

    #[must_use]
    pub fn cas(&self) -> &[CaCertificate] {
        &self.0
    }

    #[must_use]
    pub fn ids(&self) -> BTreeSet<Arc<str>> {
        self.0.iter().map(|ca| ca.id.clone()).collect()
    }

    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|ca| *ca.id == *id)
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    X509Certificate::from_der(der).map(|(_, parsed)| parsed).map_err(|error| Error::Certificate(error.to_string()))
}

pub(super) fn validity(parsed: &X509Certificate<'_>) -> (Time, Time) {
    let time = |seconds: i64| Time(u64::try_from(seconds).unwrap_or(0));
    (time(parsed.validity().not_before.timestamp()), time(parsed.validity().not_after.timestamp()))
}

pub(super) fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

pub(super) fn at(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.0)
}
