//! Sockets: binds what the configuration names and deals accepted connections to the serving threads.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Mutex, watch};

use crate::api::front::{self, Doors, Http2};
use crate::api::until_stop::stopped;
use crate::config::{ListenUrl, SocketOptions};
use crate::runtime::Workers;

/// Between two probes of a silent connection, as Go has it.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(15);
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
    pub url: ListenUrl,
    socket: Socket,
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
        Ok(Self { url: url.clone(), socket })
    }

    /// Accepts until `stop`; each connection is served on the next thread in turn, and holds a clone of `stop` as long
    /// as it is open.
    pub async fn serve(
        self,
        doors: Doors,
        http2: Http2,
        workers: Arc<Mutex<Workers>>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        match self.socket {
            Socket::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    tokio::select! {
                        accepted = listener.accept() => match accepted {
                            Ok((stream, _)) => deal_tcp(stream, &doors, http2, &workers, &stop).await,
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
                            Ok((stream, _)) => deal_unix(stream, &doors, http2, &workers, &stop).await,
                            Err(error) => rest_after(&error).await,
                        },
                        () = stopped(&mut stop) => return Ok(()),
                    }
                }
            }
        }
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
    doors: &Doors,
    http2: Http2,
    workers: &Mutex<Workers>,
    stop: &watch::Receiver<bool>,
) {
    drop(stream.set_nodelay(true));
    // A socket belongs to the runtime that polls it: it is taken off this one and given to its thread.
    let Ok(stream) = stream.into_std() else { return };
    let (doors, stop) = (doors.clone(), stop.clone());
    let start = move || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        match TcpStream::from_std(stream) {
            Ok(stream) => Box::pin(front::serve(stream, doors, http2, stop)),
            Err(_) => Box::pin(std::future::ready(())),
        }
    };
    workers.lock().await.spawn(start).await;
}

async fn deal_unix(
    stream: UnixStream,
    doors: &Doors,
    http2: Http2,
    workers: &Mutex<Workers>,
    stop: &watch::Receiver<bool>,
) {
    let Ok(stream) = stream.into_std() else { return };
    let (doors, stop) = (doors.clone(), stop.clone());
    let start = move || -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        match UnixStream::from_std(stream) {
            Ok(stream) => Box::pin(front::serve(stream, doors, http2, stop)),
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
