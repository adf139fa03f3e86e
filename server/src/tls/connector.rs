//! Connections to other members.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::side::Side;
use super::words;
use crate::config::{Address, ListenUrl};

/// etcd's bound for the handshake of a connection it makes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two probes of a silent connection, as etcd's transport has it.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Duplex for IO {}

/// Connects to peer URLs. Cheap to clone; each connection is made with the files as they are then.
#[derive(Clone)]
pub struct PeerConnector {
    side: Arc<Side>,
}

impl PeerConnector {
    /// `side` is the members'.
    #[must_use]
    pub fn new(side: Arc<Side>) -> Self {
        Self { side }
    }

    /// Connects, and shakes hands where the URL says `https` or `unixs`: the other side's certificate is valid for
    /// the URL's host, vouched for by `--peer-trusted-ca-file` and allowed. HTTP/2 is agreed on.
    ///
    /// Bounded by 10 s for the handshake; how long TCP may take is the caller's affair. Dropping it ends it.
    ///
    /// # Errors
    /// Nobody answers, or nobody that can be believed.
    pub async fn connect(&self, url: &ListenUrl) -> io::Result<Box<dyn Duplex>> {
        let plain: Box<dyn Duplex> = match url.socket_path() {
            Some(path) => Box::new(UnixStream::connect(path).await?),
            None => Box::new(tcp(url).await?),
        };
        if !url.scheme.is_tls() {
            return Ok(plain);
        }
        let config = self.side.client()?;
        let handshake = TlsConnector::from(config).connect(server_name(url)?, plain);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), words::of_handshake(&error))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timeout")),
        }
    }
}

async fn tcp(url: &ListenUrl) -> io::Result<TcpStream> {
    let (host, port) = url.host_port().ok_or_else(|| io::Error::other("no host and port"))?;
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Who is asked for: the URL's host, for `unixs://host:port` too.
pub(super) fn server_name(url: &ListenUrl) -> io::Result<ServerName<'static>> {
    let host = match &url.address {
        Address::Tcp { host, .. } => host.as_str(),
        Address::Unix { host, .. } => host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host),
    };
    ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: no name for a certificate")))
}
