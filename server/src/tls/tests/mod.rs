//! Handshakes between this module's two halves, with certificates made for the occasion.

mod handshakes;
mod pki;
mod reloading;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::server::TlsStream;

use super::{Acceptor, Connection, Rejected, Side, TlsError, Which};
use crate::config::{Config, TlsLimits, Transport};

fn limits() -> TlsLimits {
    Config::defaults().tls
}

fn load(which: Which, transport: Transport) -> Result<Arc<Side>, TlsError> {
    Side::load(which, transport, false, &limits()).map(Arc::new)
}

fn side(transport: Transport) -> Arc<Side> {
    load(Which::Client, transport).expect("the files are good")
}

type Accepted = Result<(TlsStream<DuplexStream>, Connection), Rejected>;

/// One handshake over memory. The client is `client`'s connecting half and asks for `localhost`.
async fn shake(
    server: &Arc<Side>,
    client: &Arc<Side>,
) -> (Accepted, Result<tokio_rustls::client::TlsStream<DuplexStream>, String>) {
    shake_from(&Acceptor::new(server.clone()), client, None).await
}

async fn shake_from(
    acceptor: &Acceptor,
    client: &Arc<Side>,
    from: Option<SocketAddr>,
) -> (Accepted, Result<tokio_rustls::client::TlsStream<DuplexStream>, String>) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let config = client.client().expect("a client");
    let connecting = async {
        let name = "localhost".try_into().expect("a name");
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, here).await.map_err(|error| super::words::of_handshake(&error))?;
        // With TLS 1.3 a refusal comes after the client's half: the first byte tells.
        let mut byte = [0];
        match stream.read_exact(&mut byte).await {
            Ok(_) => Ok(stream),
            Err(error) => Err(super::words::of_handshake(&error)),
        }
    };
    let accepting = async {
        let mut accepted = acceptor.accept(there, from).await;
        if let Ok((stream, _)) = &mut accepted {
            stream.write_all(b"x").await.expect("written");
            stream.flush().await.expect("flushed");
        }
        accepted
    };
    tokio::join!(accepting, connecting)
}

async fn accepts(server: &Arc<Side>, client: &Arc<Side>) -> Connection {
    let (accepted, connected) = shake(server, client).await;
    connected.expect("connected");
    accepted.expect("accepted").1
}

async fn rejects(server: &Arc<Side>, client: &Arc<Side>) -> String {
    let (accepted, connected) = shake(server, client).await;
    assert!(connected.is_err(), "the client noticed nothing");
    accepted.map(|_| ()).expect_err("rejected").why
}
