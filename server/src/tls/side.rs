//! One side's TLS, the clients' or the members': its settings, and the configuration that its files gave last.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::certificate::Certificate;
use super::files::{self, File};
use super::names::Allowed;
use super::verify::{Clients, Members};
use super::{TlsError, suites};
use crate::config::{TlsLimits, Transport};

/// Whose TLS it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Client,
    Peer,
}

impl Which {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }

    fn flags(self) -> Flags {
        match self {
            Self::Client => Flags {
                cert: "cert-file",
                key: "key-file",
                client_cert: "client-cert-file",
                client_key: "client-key-file",
                ca: "trusted-ca-file",
                crl: "client-crl-file",
                auth: "client-cert-auth",
            },
            Self::Peer => Flags {
                cert: "peer-cert-file",
                key: "peer-key-file",
                client_cert: "peer-client-cert-file",
                client_key: "peer-client-key-file",
                ca: "peer-trusted-ca-file",
                crl: "peer-crl-file",
                auth: "peer-client-cert-auth",
            },
        }
    }
}

struct Flags {
    cert: &'static str,
    key: &'static str,
    client_cert: &'static str,
    client_key: &'static str,
    ca: &'static str,
    crl: &'static str,
    auth: &'static str,
}

/// All files of a side, as they were at one time.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    cert: Option<File>,
    key: Option<File>,
    client_cert: Option<File>,
    client_key: Option<File>,
    ca: Option<File>,
    crl: Option<File>,
}

/// What new connections are made with.
pub(super) struct Current {
    files: Files,
    /// Absent without a certificate: a side may connect only.
    pub(super) server: Option<Arc<ServerConfig>>,
    /// What is shown when connecting, if anything.
    shown_when_connecting: Option<Arc<CertifiedKey>>,
    cas: Option<Arc<RootCertStore>>,
    /// Made when the first connection wants it: a machine's own CAs are many, and most members need none.
    client: OnceLock<Result<Arc<ClientConfig>, String>>,
    pub(super) revoked: Option<HashSet<Vec<u8>>>,
    not_after: Option<i64>,
}

/// What came of looking at the files again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    Unchanged,
    /// New connections use what the files hold now. Seconds since 1970 until which the certificate shown is valid.
    Changed {
        not_after: Option<i64>,
    },
}

/// One side's TLS.
pub struct Side {
    pub which: Which,
    transport: Transport,
    self_made: bool,
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    current: RwLock<Arc<Current>>,
}

impl Side {
    /// Reads the files. `self_made` tells that the certificate was made by [`Transport::auto`].
    ///
    /// # Errors
    /// A file is missing or of no use.
    pub fn load(which: Which, transport: Transport, self_made: bool, limits: &TlsLimits) -> Result<Self, TlsError> {
        let provider = suites::provider(&limits.cipher_suites);
        let versions = suites::versions(limits);
        let files = read(which, &transport)?;
        let mut side = Self {
            which,
            transport,
            self_made,
            provider,
            versions,
            current: RwLock::new(Arc::new(Current {
                files: Files::default(),
                server: None,
                shown_when_connecting: None,
                cas: None,
                client: OnceLock::new(),
                revoked: None,
                not_after: None,
            })),
        };
        let current = side.build(files)?;
        *side.current.get_mut() = Arc::new(current);
        Ok(side)
    }

    /// Looks at the files again. What new connections use is replaced as a whole or not at all. Blocks on the disk.
    ///
    /// # Errors
    /// A file is missing, of no use, or does not fit the others; nothing is changed then.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let files = read(self.which, &self.transport)?;
        if self.current.read().files == files {
            return Ok(Reloaded::Unchanged);
        }
        let current = self.build(files)?;
        let not_after = current.not_after;
        *self.current.write() = Arc::new(current);
        Ok(Reloaded::Changed { not_after })
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }

    pub(super) fn skips_san(&self) -> bool {
        self.transport.skip_client_san_verification
    }

    /// Every file that is looked at.
    pub(super) fn paths(&self) -> Vec<&Path> {
        let t = &self.transport;
        [&t.cert_file, &t.key_file, &t.client_cert_file, &t.client_key_file, &t.trusted_ca_file, &t.crl_file]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }

    fn allowed(&self) -> Allowed {
        Allowed {
            common_names: self.transport.allowed_cns.clone(),
            hostnames: self.transport.allowed_hostnames.clone(),
        }
    }

    fn build(&self, files: Files) -> Result<Current, TlsError> {
        let pair = |cert: &Option<File>, key: &Option<File>| match (cert, key) {
            (Some(cert), Some(key)) => files::credentials(cert, key, &self.provider).map(Some),
            _ => Ok(None),
        };
        let shown = pair(&files.cert, &files.key)?;
        let shown_when_connecting = pair(&files.client_cert, &files.client_key)?.or_else(|| shown.clone());
        let cas = files.ca.as_ref().map(File::authorities).transpose()?.map(Arc::new);
        let server = match &shown {
            Some(pair) => Some(Arc::new(self.server_config(pair.clone(), cas.clone())?)),
            None => None,
        };
        let revoked = files.crl.as_ref().map(File::revoked).transpose()?;
        let not_after = shown.and_then(|pair| Certificate::read(pair.cert.first()?).ok()).map(|cert| cert.not_after);
        Ok(Current { files, server, shown_when_connecting, cas, client: OnceLock::new(), revoked, not_after })
    }

    fn server_config(
        &self,
        pair: Arc<CertifiedKey>,
        cas: Option<Arc<RootCertStore>>,
    ) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(unusable)?;
        let builder = if self.transport.wants_certificate() {
            let flags = self.which.flags();
            let roots = cas.unwrap_or_else(system_roots);
            if roots.is_empty() {
                return Err(TlsError::NobodyTrusted(flags.auth, flags.ca));
            }
            let by_ca = WebPkiClientVerifier::builder_with_provider(roots, self.provider.clone())
                .build()
                .map_err(|error| TlsError::Unusable(error.to_string()))?;
            builder.with_client_cert_verifier(Arc::new(Clients { by_ca, allowed: self.allowed() }))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session would let in whom the files no longer trust. Go's clients don't resume anyway.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// What connections to other members are made with.
    ///
    /// # Errors
    /// There is nobody to believe.
    pub(super) fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let current = self.current();
        current.client.get_or_init(|| self.client_config(&current)).clone().map_err(io::Error::other)
    }

    fn client_config(&self, current: &Current) -> Result<Arc<ClientConfig>, String> {
        let by_ca = if self.self_made {
            None
        } else {
            let roots = current.cas.clone().unwrap_or_else(system_roots);
            if roots.is_empty() {
                return Err("--peer-trusted-ca-file is not given, and this machine has no CA certificates".to_owned());
            }
            let built = WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone()).build();
            Some(built.map_err(|error| error.to_string())? as Arc<_>)
        };
        let members = Members { by_ca, allowed: self.allowed(), provider: self.provider.clone() };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(members));
        let mut config = match &current.shown_when_connecting {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The settings as etcd writes them into its log.
pub(super) fn info(transport: &Transport) -> String {
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    format!(
        "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
        shown(&transport.cert_file),
        shown(&transport.key_file),
        shown(&transport.client_cert_file),
        shown(&transport.client_key_file),
        shown(&transport.trusted_ca_file),
        transport.client_cert_auth,
        shown(&transport.crl_file)
    )
}

fn read(which: Which, transport: &Transport) -> Result<Files, TlsError> {
    let flags = which.flags();
    let file = |flag, path: &Option<PathBuf>| path.as_ref().map(|path| File::read(flag, path)).transpose();
    Ok(Files {
        cert: file(flags.cert, &transport.cert_file)?,
        key: file(flags.key, &transport.key_file)?,
        client_cert: file(flags.client_cert, &transport.client_cert_file)?,
        client_key: file(flags.client_key, &transport.client_key_file)?,
        ca: file(flags.ca, &transport.trusted_ca_file)?,
        crl: file(flags.crl, &transport.crl_file)?,
    })
}

fn unusable(error: rustls::Error) -> TlsError {
    TlsError::Unusable(error.to_string())
}

/// The machine's CAs; what can't be read of them is left out.
fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}
