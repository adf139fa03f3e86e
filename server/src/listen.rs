//! Sockets: binds what the configuration names, tells TLS from plain HTTP, and deals accepted connections to the serving threads.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};
use tokio_rustls::server::TlsStream;

use crate::api::front::{self, Doors, Http2};
use crate::api::until_stop::stopped;
use crate::config::{ListenUrl, SocketOptions};
use crate::runtime::Workers;
use crate::tls::{self, Acceptor, Connection, Rejected, Replayed};

/// Between two probes of a silent connection, as Go has it.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(15);
/// How long a connection to a listener with TLS may be silent before it has said a thing.
const FIRST_BYTE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// Connections the kernel may queue before they are accepted.
const BACKLOG: i32 = 4096;

/// Why a URL can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen {url}: {why}")]
pub struct ListenError {
    url: String,
    why: io::Error,
}

enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// A bound socket that accepts nobody yet.
pub struct Bound {
    /// At least one; several where they differ in their scheme only.
    pub urls: Vec<ListenUrl>,
    socket: Socket,
}

/// What a listener does with whom it accepts.
#[derive(Clone)]
pub struct Serving {
    pub doors: Doors,
    pub http2: Http2,
    /// Needed where a URL is encrypted.
    pub acceptor: Option<Acceptor>,
    /// `client` or `peer`, for the log.
    pub endpoint: &'static str,
}

impl Bound {
    /// # Errors
    /// The address is taken, not this machine's, or not allowed.
    pub fn bind(url: &ListenUrl, options: SocketOptions) -> Result<Self, ListenError> {
        let wrap = |why| ListenError { url: url.to_string(), why };
        let socket = match url.socket_path() {
            Some(path) => bind_unix(path).map_err(wrap)?,
            None => bind_tcp(url, options).map_err(wrap)?,
        };
        Ok(Self { urls: vec![url.clone()], socket })
    }

    /// Binds every address once: `http` and `https` may share one.
    ///
    /// # Errors
    /// As [`Bound::bind`].
    pub fn bind_all(urls: &[ListenUrl], options: SocketOptions) -> Result<Vec<Self>, ListenError> {
        let mut all: Vec<Self> = Vec::new();
        for url in urls {
            match all.iter_mut().find(|bound| bound.urls[0].authority() == url.authority()) {
                Some(bound) => bound.urls.push(url.clone()),
                None => all.push(Self::bind(url, options)?),
            }
        }
        Ok(all)
    }

    /// True where clients may speak TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.urls.iter().any(|url| url.scheme.is_tls())
    }

    /// True where clients may speak without TLS.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        self.urls.iter().any(|url| !url.scheme.is_tls())
    }

    /// Accepts until `stop`; each connection is served on the next thread in turn, and holds a clone of `stop` as long
    /// as it is open.
    ///
    /// # Errors
    /// The socket can't be polled.
    pub async fn serve(
        self,
        serving: Serving,
        workers: Arc<Mutex<Workers>>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let how = Arc::new(How { plain: self.is_insecure(), tls: self.is_secure(), serving });
        match self.socket {
            Socket::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    tokio::select! {
                        accepted = listener.accept() => match accepted {
                            Ok((stream, from)) => deal_tcp(stream, from, how.clone(), &workers, &stop).await,
                            Err(error) => rest_after(&error).await,
                        },
                        () = stopped(&mut stop) => return Ok(()),
                    }
                }
            }
            Socket::Unix(listener, path) => {
                let listener = UnixListener::from_std(listener)?;
                let _gone = RemoveOnDrop(path);
                loop {
                    tokio::select! {
                        accepted = listener.accept() => match accepted {
                            Ok((stream, _)) => deal_unix(stream, how.clone(), &workers, &stop).await,
                            Err(error) => rest_after(&error).await,
                        },
                        () = stopped(&mut stop) => return Ok(()),
                    }
                }
            }
        }
    }
}

/// A listener's ways.
struct How {
    plain: bool,
    tls: bool,
    serving: Serving,
}

/// How a connection turned out to speak.
enum Spoken<IO> {
    /// Nothing was read of it.
    Plain(IO),
    /// On a port that speaks both.
    PlainAmongTls(Replayed<IO>),
    Tls(Box<TlsStream<Replayed<IO>>>, Connection),
}

/// Serves one connection, unless `stop` comes before it has said how.
async fn serve_one<IO>(io: IO, from: Option<SocketAddr>, how: Arc<How>, mut stop: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { doors, http2, endpoint, .. } = how.serving.clone();
    let spoken = tokio::select! {
        biased;
        spoken = listen_to(io, from, &how) => spoken,
        () = stopped(&mut stop) => return,
    };
    match spoken {
        Ok(Spoken::Plain(io)) => front::serve(io, doors, http2, Connection::default(), stop).await,
        Ok(Spoken::PlainAmongTls(io)) => front::serve(io, doors, http2, Connection::default(), stop).await,
        Ok(Spoken::Tls(io, known)) => front::serve(io, doors, http2, known, stop).await,
        Err(rejected) => log_rejected(endpoint, from, &rejected),
    }
}

/// TLS where it begins as TLS and that is allowed, else plain where that is.
async fn listen_to<IO>(io: IO, from: Option<SocketAddr>, how: &How) -> Result<Spoken<IO>, Rejected>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if !how.tls {
        return Ok(Spoken::Plain(io));
    }
    let because = |why: &str| Rejected { why: why.to_owned(), ..Rejected::default() };
    let acceptor = how.serving.acceptor.as_ref().ok_or_else(|| because("no certificate to show"))?;
    let (is_tls, io) = match tokio::time::timeout(FIRST_BYTE_TIMEOUT, tls::first_byte(io)).await {
        Ok(told) => told.map_err(|_| because("EOF"))?,
        Err(_) => return Err(because("i/o timeout")),
    };
    if is_tls {
        let (stream, known) = acceptor.accept(io, from).await?;
        return Ok(Spoken::Tls(Box::new(stream), known));
    }
    if how.plain {
        return Ok(Spoken::PlainAmongTls(io));
    }
    Err(because("tls: first record does not look like a TLS handshake"))
}

/// etcd's line.
fn log_rejected(endpoint: &str, from: Option<SocketAddr>, rejected: &Rejected) {
    // Go writes an unnamed socket so.
    let from = from.map_or_else(|| "@".to_owned(), |from| from.to_string());
    let Rejected { server_name, certificate, why } = rejected;
    match certificate {
        Some(certificate) => tracing::warn!(
            "remote-addr" = from,
            "server-name" = server_name,
            "ip-addresses" = ?certificate.ip_addresses,
            "dns-names" = ?certificate.dns_names,
            error = why,
            "rejected connection on {endpoint} endpoint"
        ),
        None => tracing::warn!(
            "remote-addr" = from,
            "server-name" = server_name,
            error = why,
            "rejected connection on {endpoint} endpoint"
        ),
    }
}

/// A failing accept (no file descriptors left, say) is no reason to spin.
async fn rest_after(error: &io::Error) {
    tracing::warn!(%error, "failed to accept a connection");
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

async fn deal_tcp(
    stream: TcpStream,
    from: SocketAddr,
    how: Arc<How>,
    workers: &Mutex<Workers>,
    stop: &watch::Receiver<bool>,
) {
    drop(stream.set_nodelay(true));
    // A socket belongs to the runtime that polls it: it is taken off this one and given to its thread.
    let Ok(stream) = stream.into_std() else { return };
    let stop = stop.clone();
    let start = move || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        match TcpStream::from_std(stream) {
            Ok(stream) => Box::pin(serve_one(stream, Some(from), how, stop)),
            Err(_) => Box::pin(std::future::ready(())),
        }
    };
    workers.lock().await.spawn(start).await;
}

async fn deal_unix(stream: UnixStream, how: Arc<How>, workers: &Mutex<Workers>, stop: &watch::Receiver<bool>) {
    let Ok(stream) = stream.into_std() else { return };
    let stop = stop.clone();
    let start = move || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        match UnixStream::from_std(stream) {
            Ok(stream) => Box::pin(serve_one(stream, None, how, stop)),
            Err(_) => Box::pin(std::future::ready(())),
        }
    };
    workers.lock().await.spawn(start).await;
}

fn bind_tcp(url: &ListenUrl, options: SocketOptions) -> io::Result<Socket> {
    let (host, port) = url.host_port().ok_or_else(|| io::Error::other("no host and port"))?;
    // As etcd does: the first address of the name, IPv4 before IPv6.
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let address = addresses.first().ok_or_else(|| io::Error::other("no address"))?;
    let domain = socket2::Domain::for_address(*address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // SO_REUSEADDR on a listener only skips TIME_WAIT, as Go's listeners do; two listeners still exclude each other.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    // Accepted connections inherit it: a peer that vanished is noticed though it had only watches.
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    socket.set_nonblocking(true)?;
    socket.bind(&(*address).into())?;
    socket.listen(BACKLOG)?;
    Ok(Socket::Tcp(socket.into()))
}

fn bind_unix(path: PathBuf) -> io::Result<Socket> {
    // A socket left behind by a killed process is in nobody's use and would be in the way.
    let stale = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket());
    if stale && std::os::unix::net::UnixStream::connect(&path).is_err() {
        std::fs::remove_file(&path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(listener, path))
}
