//! The server's half of a handshake, and the checks that follow it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor as Hello;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{Certificate, Connection};
use super::side::{Current, Side};
use super::{san, words};

/// How long a handshake may take; etcd's bound.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shakes hands with whoever connects. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    side: Arc<Side>,
    check_address: bool,
}

/// A connection that was not let in.
#[derive(Debug, Default)]
pub struct Rejected {
    /// The name the other side called this one; empty without one.
    pub server_name: String,
    /// What it showed, if it got that far.
    pub certificate: Option<Arc<Certificate>>,
    pub why: String,
}

impl Acceptor {
    /// For clients: where they come from is not compared with what they show.
    #[must_use]
    pub fn new(side: Arc<Side>) -> Self {
        Self { side, check_address: false }
    }

    /// As etcd has it for members and on `--listen-metrics-urls`: a certificate with names or addresses is only
    /// accepted from one of them, unless the settings say not to look.
    #[must_use]
    pub fn with_address_check(side: Arc<Side>) -> Self {
        let check_address = !side.skips_san();
        Self { side, check_address }
    }

    /// Shakes hands. `from` is absent for a unix socket. The stream is as it came on an error, and closed.
    ///
    /// # Errors
    /// No TLS, nobody to trust, or one of etcd's checks failed.
    pub async fn accept<IO>(&self, io: IO, from: Option<SocketAddr>) -> Result<(TlsStream<IO>, Connection), Rejected>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let current = self.side.current();
        let mut rejected = Rejected::default();
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(io, &current, &mut rejected)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Rejected { why: words::of_handshake(&error), ..rejected }),
            Err(_) => return Err(Rejected { why: "i/o timeout".to_owned(), ..rejected }),
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let read: Result<Vec<Certificate>, String> = shown.iter().map(|der| Certificate::read(der)).collect();
        let mut chain = match read {
            Ok(chain) => chain,
            Err(why) => return Err(Rejected { why, ..rejected }),
        };
        let revoked = chain.iter().find(|one| current.revoked.as_ref().is_some_and(|set| set.contains(&one.serial)));
        let revoked = revoked.map(|one| format!("transport: certificate serial {} revoked", hex(&one.serial)));
        chain.truncate(1);
        let certificate = chain.pop().map(Arc::new);
        let mut refused = None;
        if self.check_address
            && let (Some(certificate), Some(from)) = (&certificate, from)
        {
            refused = san::check(certificate, address(from)).await.err();
        }
        if let Some(why) = refused.or(revoked) {
            return Err(Rejected { certificate, why, ..rejected });
        }
        Ok((stream, Connection { secure: true, certificate }))
    }
}

async fn handshake<IO>(io: IO, current: &Current, rejected: &mut Rejected) -> io::Result<TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = current.server.clone().ok_or_else(|| io::Error::other("no certificate to show"))?;
    let hello = LazyConfigAcceptor::new(Hello::default(), io).await?;
    rejected.server_name = hello.client_hello().server_name().unwrap_or_default().to_owned();
    hello.into_stream(config).await
}

fn address(from: SocketAddr) -> IpAddr {
    from.ip().to_canonical()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
