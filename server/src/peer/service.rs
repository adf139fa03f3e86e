//! The peer protocol over gRPC, this member's side that is asked.
//!
//! Looks at who asks before anything else: another cluster, another member, a member that was removed, or one that came
//! back with another data directory gets no answer but that.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use keepstone_proto::keepstonepb::peer_server::Peer;
use keepstone_proto::keepstonepb::{Envelope, Introduction, IntroductionAnswer, Sender};
use keepstone_state::MemberId;
use tonic::{Request, Response, Status, Streaming};

use super::Inbox;
use super::traffic::Traffic;

/// What a member is told that was removed.
pub const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Who may talk to this member.
pub trait Gate: Send + Sync + 'static {
    /// # Errors
    /// What the sender is told: [`REMOVED`], or what is wrong with it.
    fn check(&self, sender: &Sender) -> Result<MemberId, String>;
}

/// Answers members whose IDs may not be settled yet.
pub trait Reception: Send + Sync + 'static {
    fn introduce(&self, introduction: Introduction) -> BoxFuture<'static, IntroductionAnswer>;
}

/// A member that runs: who may talk to it, and where what they say goes.
pub struct Running {
    pub gate: Arc<dyn Gate>,
    pub inbox: Arc<dyn Inbox>,
    pub traffic: Traffic,
}

/// The Peer service. Introductions are answered from the first moment on, the rest once the member runs.
#[derive(Clone)]
pub struct PeerService {
    reception: Arc<dyn Reception>,
    running: Arc<OnceLock<Running>>,
}

impl PeerService {
    pub fn new(reception: Arc<dyn Reception>, running: Arc<OnceLock<Running>>) -> Self {
        Self { reception, running }
    }

    fn running(&self) -> Result<&Running, Status> {
        self.running.get().ok_or_else(|| Status::unavailable("this member is starting"))
    }

    fn check(&self, sender: Option<&Sender>) -> Result<(MemberId, &Running), Status> {
        let running = self.running()?;
        let sender = sender.ok_or_else(|| Status::invalid_argument("the message does not say who sends it"))?;
        let from = running.gate.check(sender).map_err(Status::failed_precondition)?;
        Ok((from, running))
    }

    /// A stream's first message, and the bodies of those that follow. It ends where the connection does.
    async fn open(
        &self,
        mut stream: Streaming<Envelope>,
    ) -> Result<(MemberId, &Running, Bytes, BoxStream<'static, Bytes>), Status> {
        let first = stream.message().await?.ok_or_else(|| Status::invalid_argument("the stream is empty"))?;
        let (from, running) = self.check(first.sender.as_ref())?;
        let peer = running.traffic.with(from);
        peer.received_bytes.inc_by(first.body.len() as u64);
        let bodies = tokio_stream::StreamExt::map_while(stream, move |next| match next {
            Ok(Envelope { body, .. }) => {
                peer.received_bytes.inc_by(body.len() as u64);
                Some(body)
            }
            Err(_) => {
                peer.receive_failures.inc();
                None
            }
        });
        Ok((from, running, first.body, bodies.boxed()))
    }
}

fn unsigned(body: Bytes) -> Envelope {
    Envelope { sender: None, body }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn call(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let envelope = request.into_inner();
        let (from, running) = self.check(envelope.sender.as_ref())?;
        let peer = running.traffic.with(from);
        peer.received_bytes.inc_by(envelope.body.len() as u64);
        let answer = running.inbox.call(from, envelope.body).await.map_err(Status::aborted)?;
        peer.sent_bytes.inc_by(answer.len() as u64);
        Ok(Response::new(unsigned(answer)))
    }

    type ReplicateStream = BoxStream<'static, Result<Envelope, Status>>;

    async fn replicate(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let (from, running, _, messages) = self.open(request.into_inner()).await?;
        let peer = running.traffic.with(from);
        let answers = running.inbox.replicate(from, messages);
        let answers = answers.inspect(move |answer| {
            peer.sent_bytes.inc_by(answer.as_ref().map_or(0, |body| body.len() as u64));
        });
        Ok(Response::new(answers.map(|answer| answer.map(unsigned).map_err(Status::aborted)).boxed()))
    }

    async fn snapshot(&self, request: Request<Streaming<Envelope>>) -> Result<Response<Envelope>, Status> {
        let (from, running, header, pieces) = self.open(request.into_inner()).await?;
        let answer = running.inbox.snapshot(from, header, pieces).await.map_err(Status::aborted)?;
        Ok(Response::new(unsigned(answer)))
    }

    async fn ping(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        self.check(request.into_inner().sender.as_ref())?;
        Ok(Response::new(unsigned(Bytes::new())))
    }

    async fn introduce(&self, request: Request<Introduction>) -> Result<Response<IntroductionAnswer>, Status> {
        Ok(Response::new(self.reception.introduce(request.into_inner()).await))
    }
}
