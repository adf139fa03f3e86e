//! TLS for clients and between members: certificates from files, who is let in, and whom a member believes.
//!
//! What is trusted and shown is read from disk when the member starts and again when a file changes, certificates,
//! keys, CAs and revocation lists alike; connections that stand stay as they are. What can't be used is never half
//! used: until all files of a side fit together, the last ones that did are kept. No key leaves this module.

pub mod suites;

mod acceptor;
mod certificate;
mod connector;
mod files;
mod first_byte;
mod names;
mod reload;
mod san;
mod self_signed;
mod side;
mod verify;
mod words;

#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, Rejected};
pub use certificate::{Certificate, Connection};
pub use connector::{Duplex, PeerConnector};
pub use first_byte::{Replayed, first_byte};
pub use reload::{PERIOD, follow};
pub use side::{Reloaded, Side, Which};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, ListenUrl, Transport};

/// Both sides' TLS.
pub struct Sides {
    /// Absent where nothing that clients reach is encrypted; the files are then not looked at, as in etcd.
    pub client: Option<Arc<Side>>,
    pub peer: Arc<Side>,
}

impl Sides {
    /// Reads what `config` names, and makes certificates where it says so: that writes into the data directory.
    ///
    /// # Errors
    /// A file is missing or of no use.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let of_clients = [&config.listen_client_urls, &config.listen_client_http_urls];
        let wanted = of_clients.iter().any(|urls| any_tls(urls)) || any_tls(&config.listen_metrics_urls);
        let client = match wanted {
            true => Some(Arc::new(side(Which::Client, config, &config.client_tls, &of_clients)?)),
            false => None,
        };
        let peer = side(Which::Peer, config, &config.peer_tls, &[&config.listen_peer_urls])?;
        Ok(Self { client, peer: Arc::new(peer) })
    }

    /// All sides, for [`follow`].
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Side>> {
        self.client.iter().chain([&self.peer]).cloned().collect()
    }
}

fn any_tls(urls: &[ListenUrl]) -> bool {
    urls.iter().any(|url| url.scheme.is_tls())
}

fn side(which: Which, config: &Config, given: &Transport, urls: &[&Vec<ListenUrl>]) -> Result<Side, TlsError> {
    let mut transport = given.clone();
    let generated = given.auto && given.is_empty();
    if generated {
        let hosts: Vec<String> = urls.iter().flat_map(|urls| urls.iter()).map(self_signed::host).collect();
        let (cert, key) = self_signed::ensure(which, &config.data_dir, &hosts, config.tls.self_signed_years)?;
        transport.cert_file = Some(cert);
        transport.key_file = Some(key);
    }
    if !transport.is_empty() {
        let (info, suites) = (side::info(&transport), &config.tls.cipher_suites);
        tracing::info!("tls-info" = info, "cipher-suites" = ?suites, "starting with {} TLS", which.as_str());
    }
    Side::load(which, transport, generated, &config.tls)
}

/// Why TLS can't be had as configured. The words are Go's where etcd would say them, with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("open {}: {} (--{flag})", path.display(), words::of_io(why))]
    Open { flag: &'static str, path: PathBuf, why: io::Error },
    /// A file holds something else than it should.
    #[error("{}: {why} (--{flag})", path.display())]
    Content { flag: &'static str, path: PathBuf, why: String },
    /// A key that belongs to another certificate.
    #[error("tls: private key does not match public key (certificate {}, key {})", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    /// Certificates are asked for, and nobody vouches for any.
    #[error("--{0}: this machine has no CA certificates; name the CAs with --{1}")]
    NobodyTrusted(&'static str, &'static str),
    /// What was configured leaves nothing to speak.
    #[error("TLS: {0}")]
    Unusable(String),
    /// A certificate can't be made or kept.
    #[error("failed to get {which} self-signed certs: {why}")]
    SelfSigned { which: &'static str, why: String },
}
