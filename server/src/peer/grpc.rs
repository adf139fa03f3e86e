//! The peer protocol over gRPC, this member's side that asks.
//!
//! Each peer has three connections, so that a copy of the state holds up no entries, and entries no votes. A connection
//! is made when it is first needed, tries a peer's URLs one after another, and is given up when its pings go unanswered.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
use hyper_util::rt::TokioIo;
use keepstone_proto::keepstonepb::peer_client::PeerClient;
use keepstone_proto::keepstonepb::{Envelope, Introduction, IntroductionAnswer, Sender};
use keepstone_state::MemberId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::book::Book;
use super::service::REMOVED;
use super::traffic::Traffic;
use super::{Answers, MAX_MESSAGE_BYTES, PeerError, Transport};
use crate::config::ListenUrl;
use crate::core::Identity;
use crate::tls::PeerConnector;

/// Bytes a peer may send ahead on one stream and one connection.
const WINDOW: u32 = 16 << 20;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Calls,
    Entries,
    Copies,
}

#[derive(Clone)]
struct Connection {
    urls: Vec<String>,
    /// Which of the URLs this is.
    at: usize,
    client: PeerClient<Channel>,
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct GrpcTransport {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    incarnation: [u8; 16],
    book: Book,
    connector: Connector,
    connections: Mutex<HashMap<(MemberId, Lane), Connection>>,
    traffic: Traffic,
    /// Somebody says that this member was removed.
    removed: Notify,
}

/// How a connection to a URL is made.
#[derive(Clone)]
pub struct Connector {
    pub dial: PeerConnector,
    /// How long a peer may leave pings unanswered, and a connection may take to be made.
    pub patience: Duration,
}

impl Connector {
    /// A connection that is made when it is first used.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn channel(&self, url: &str) -> Result<Channel, String> {
        let url = ListenUrl::parse(url).map_err(|error| format!("peer URL {url:?}: {error}"))?;
        // The connector knows where to go and whether with TLS: this is only what the requests are addressed with.
        let endpoint = Endpoint::from_static("http://peer");
        let dial = self.dial.clone();
        let connect = tower::service_fn(move |_| {
            let (dial, url) = (dial.clone(), url.clone());
            async move { dial.connect(&url).await.map(TokioIo::new) }
        });
        Ok(endpoint
            .connect_timeout(self.patience)
            .http2_keep_alive_interval(self.patience / 2)
            .keep_alive_timeout(self.patience / 2)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_with_connector_lazy(connect))
    }

    /// Asks somebody whose ID is not known yet, by URL.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn introduce(&self, url: &str, introduction: Introduction) -> Result<IntroductionAnswer, String> {
        let mut client = PeerClient::new(self.channel(url)?);
        match tokio::time::timeout(self.patience * 4, client.introduce(introduction)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("{url}: {}", text(&status))),
            Err(_) => Err(format!("{url}: no answer in time")),
        }
    }
}

/// What a status says, and what lies behind it.
fn text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether there was no connection to send anything on.
fn was_not_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl GrpcTransport {
    pub fn new(identity: Identity, incarnation: [u8; 16], book: Book, connector: Connector, traffic: Traffic) -> Self {
        Self {
            inner: Arc::new(Inner {
                identity,
                incarnation,
                book,
                connector,
                connections: Mutex::default(),
                traffic,
                removed: Notify::new(),
            }),
        }
    }

    /// Resolves once a member has said that this one was removed.
    pub async fn removed(&self) {
        self.inner.removed.notified().await;
    }

    pub fn traffic(&self) -> &Traffic {
        &self.inner.traffic
    }

    /// Whether a member is there.
    pub async fn ping(&self, to: MemberId) -> bool {
        let asked = async {
            let mut client = self.client(to, Lane::Calls)?;
            match client.ping(self.envelope(to, Bytes::new())).await {
                // An earlier version answers that it does not know the question.
                Ok(_) => Ok(()),
                Err(status) if status.code() == Code::Unimplemented => Ok(()),
                Err(status) => Err(self.failure(to, Lane::Calls, &status)),
            }
        };
        let answer = tokio::time::timeout(self.inner.connector.patience, asked).await;
        let answer = self.counted(to, answer.unwrap_or(Err(PeerError::Timeout { to })));
        answer.is_ok()
    }

    /// Counts what became of a message.
    fn counted<T>(&self, to: MemberId, answer: Result<T, PeerError>) -> Result<T, PeerError> {
        match &answer {
            Ok(_) => self.traffic().answered(to),
            Err(error) => self.traffic().failed(error),
        }
        answer
    }

    fn client(&self, to: MemberId, lane: Lane) -> Result<PeerClient<Channel>, PeerError> {
        let unreachable = |why: String| PeerError::Unreachable { to, why };
        let urls = self.inner.book.urls(to);
        let mut connections = self.inner.connections.lock();
        if let Some(known) = connections.get(&(to, lane))
            && known.urls == urls
        {
            return Ok(known.client.clone());
        }
        let first = urls.first().ok_or_else(|| unreachable("its peer URLs are not known".to_owned()))?;
        let client = limits(PeerClient::new(self.inner.connector.channel(first).map_err(unreachable)?));
        connections.insert((to, lane), Connection { urls, at: 0, client: client.clone() });
        Ok(client)
    }

    /// The next call takes the peer's next URL.
    fn turn(&self, to: MemberId, lane: Lane) {
        let mut connections = self.inner.connections.lock();
        let Some(known) = connections.get_mut(&(to, lane)) else { return };
        if known.urls.len() > 1 {
            known.at = (known.at + 1) % known.urls.len();
            match self.inner.connector.channel(&known.urls[known.at]) {
                Ok(channel) => known.client = limits(PeerClient::new(channel)),
                Err(_) => drop(connections.remove(&(to, lane))),
            }
        }
    }

    fn failure(&self, to: MemberId, lane: Lane, status: &Status) -> PeerError {
        let why = text(status);
        match status.code() {
            Code::FailedPrecondition if status.message() == REMOVED => {
                self.inner.removed.notify_one();
                PeerError::Removed { to }
            }
            Code::FailedPrecondition => PeerError::Refused { to, why },
            Code::Aborted => PeerError::Failed { to, why },
            Code::DeadlineExceeded => PeerError::Timeout { to },
            _ => {
                self.turn(to, lane);
                if was_not_sent(status) { PeerError::NotSent { to, why } } else { PeerError::Unreachable { to, why } }
            }
        }
    }

    fn envelope(&self, to: MemberId, body: Bytes) -> Envelope {
        let Identity { cluster_id, member_id } = self.inner.identity;
        let incarnation = Bytes::copy_from_slice(&self.inner.incarnation);
        Envelope { sender: Some(Sender { cluster_id, from: member_id.0, to: to.0, incarnation }), body }
    }

    /// A stream whose first message says who sends it.
    fn signed(&self, to: MemberId, first: Bytes, rest: BoxStream<'static, Bytes>) -> Envelopes {
        let first = self.envelope(to, first);
        Envelopes(stream::once(std::future::ready(first)).chain(rest.map(unsigned)).boxed())
    }
}

/// A named type: the compiler does not see that a future which holds the boxed stream itself can change threads.
struct Envelopes(BoxStream<'static, Envelope>);

impl Stream for Envelopes {
    type Item = Envelope;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Envelope>> {
        self.0.poll_next_unpin(cx)
    }
}

fn limits(client: PeerClient<Channel>) -> PeerClient<Channel> {
    client.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn unsigned(body: Bytes) -> Envelope {
    Envelope { sender: None, body }
}

impl Transport for GrpcTransport {
    fn call(&self, to: MemberId, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let this = self.clone();
        async move {
            let mut client = this.client(to, Lane::Calls)?;
            let peer = this.traffic().with(to);
            peer.sent_bytes.inc_by(message.len() as u64);
            let answer = match client.call(this.envelope(to, message)).await {
                Ok(answer) => Ok(answer.into_inner().body),
                Err(status) => Err(this.failure(to, Lane::Calls, &status)),
            };
            peer.received_bytes.inc_by(answer.as_ref().map_or(0, |body| body.len() as u64));
            this.counted(to, answer)
        }
        .boxed()
    }

    fn replicate(
        &self,
        to: MemberId,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Answers, PeerError>> {
        let this = self.clone();
        let envelopes = self.signed(to, Bytes::new(), self.traffic().sending(to, messages));
        async move {
            let mut client = this.client(to, Lane::Entries)?;
            let opened = match client.replicate(envelopes).await {
                Ok(answers) => Ok(answers.into_inner()),
                Err(status) => Err(this.failure(to, Lane::Entries, &status)),
            };
            let answers = this.counted(to, opened)?;
            let peer = this.traffic().with(to);
            let bodies = answers.map(move |answer| match answer {
                Ok(answer) => {
                    peer.received_bytes.inc_by(answer.body.len() as u64);
                    Ok(answer.body)
                }
                Err(status) => {
                    let error = this.failure(to, Lane::Entries, &status);
                    this.traffic().failed(&error);
                    Err(error)
                }
            });
            Ok(bodies.boxed())
        }
        .boxed()
    }

    fn snapshot(
        &self,
        to: MemberId,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let this = self.clone();
        let envelopes = self.signed(to, header, self.traffic().sending(to, pieces));
        async move {
            let mut client = this.client(to, Lane::Copies)?;
            let answer = match client.snapshot(envelopes).await {
                Ok(answer) => Ok(answer.into_inner().body),
                Err(status) => Err(this.failure(to, Lane::Copies, &status)),
            };
            this.counted(to, answer)
        }
        .boxed()
    }
}
