//! rustls' verifiers with what etcd adds: allowed names, and members that made their certificates themselves.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::Certificate;
use super::names::Allowed;
use super::words;

fn check(allowed: &Allowed, certificate: &CertificateDer<'_>) -> Result<(), Error> {
    if allowed.is_everybody() {
        return Ok(());
    }
    let read = Certificate::read(certificate).map_err(|_| CertificateError::BadEncoding)?;
    if allowed.admits(&read) { Ok(()) } else { Err(words::not_allowed()) }
}

/// Who connects: vouched for by a CA, and of an allowed name.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) by_ca: Arc<dyn ClientCertVerifier>,
    pub(super) allowed: Allowed,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_ca.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.by_ca.verify_client_cert(end_entity, intermediates, now).map_err(words::as_go_alerts)?;
        check(&self.allowed, end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_ca.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

/// Whom a member connects to: vouched for by a CA, valid for the URL's host, and of an allowed name.
#[derive(Debug)]
pub(super) struct Members {
    /// Absent with `--peer-auto-tls`: such certificates say nothing, and only keep eavesdroppers out.
    pub(super) by_ca: Option<Arc<dyn ServerCertVerifier>>,
    pub(super) allowed: Allowed,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(by_ca) = &self.by_ca {
            by_ca.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
            check(&self.allowed, end_entity)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
