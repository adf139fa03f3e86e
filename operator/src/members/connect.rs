//! Connections to members, encrypted where the URL says so.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::CallError;
use crate::controller::members::Credentials;

/// Until a connection is there, handshake included.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct BadCredentials {
    what: &'static str,
    why: String,
}

/// Makes connections with one set of credentials. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    tls: Option<Arc<ClientConfig>>,
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Duplex for IO {}

impl Dialer {
    /// For clusters without TLS. `https` is then refused: nobody could be believed.
    #[must_use]
    pub fn plain() -> Self {
        Self { tls: None }
    }

    /// # Errors
    /// A file is of no use. There is no way to leave out the CA: who can't be checked is not talked to.
    pub fn encrypted(credentials: &Credentials) -> Result<Self, BadCredentials> {
        let bad = |what| move |error: &dyn fmt::Display| BadCredentials { what, why: error.to_string() };
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&credentials.ca) {
            let ca = ca.map_err(|error| bad("the CA")(&error))?;
            roots.add(ca).map_err(|error| bad("the CA")(&error))?;
        }
        if roots.is_empty() {
            return Err(bad("the CA")(&"there is none"));
        }
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&credentials.certificate).collect();
        let chain = chain.map_err(|error| bad("the certificate")(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&credentials.key).map_err(|error| bad("the key")(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad("the protocol")(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| bad("certificate and key")(&error))?;
        Ok(Self { tls: Some(Arc::new(config)) })
    }

    /// A connection that is made when it is first used, and again when it broke.
    ///
    /// # Errors
    /// It is no URL.
    pub(super) fn channel(&self, url: &str) -> Result<Channel, CallError> {
        let uri: Uri = url.parse().map_err(|_| CallError::Url(url.to_owned()))?;
        if uri.host().is_none() || uri.port_u16().is_none() {
            return Err(CallError::Url(url.to_owned()));
        }
        let dialer = self.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let (dialer, uri) = (dialer.clone(), uri.clone());
            async move { dialer.dial(&uri, b"h2").await.map(TokioIo::new) }
        });
        // The scheme is left to the connector: tonic's own TLS knows one set of credentials for good.
        let plain = url.replacen("https://", "http://", 1);
        let endpoint = Endpoint::from_shared(plain).map_err(|_| CallError::Url(url.to_owned()))?;
        Ok(endpoint.connect_timeout(CONNECT).connect_with_connector_lazy(connect))
    }

    pub(super) async fn dial(&self, uri: &Uri, protocol: &[u8]) -> io::Result<Box<dyn Duplex>> {
        let made = tokio::time::timeout(CONNECT, self.connect(uri, protocol)).await;
        made.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was not made in time")))
    }

    async fn connect(&self, uri: &Uri, protocol: &[u8]) -> io::Result<Box<dyn Duplex>> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{uri}: {why}"));
        let host = uri.host().ok_or_else(|| invalid("no host"))?.trim_matches(['[', ']']);
        let port = uri.port_u16().ok_or_else(|| invalid("no port"))?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match (uri.scheme_str(), &self.tls) {
            (Some("http"), None) => Ok(Box::new(stream)),
            (Some("https"), Some(tls)) => {
                let mut tls = ClientConfig::clone(tls);
                tls.alpn_protocols = vec![protocol.to_vec()];
                let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("no name for a certificate"))?;
                Ok(Box::new(TlsConnector::from(Arc::new(tls)).connect(name, stream).await?))
            }
            // Credentials are never shown on an open line, and secrets never sent over one.
            (_, tls) => Err(invalid(if tls.is_some() { "it is not encrypted" } else { "there are no credentials" })),
        }
    }
}
