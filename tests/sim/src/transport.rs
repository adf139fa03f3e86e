//! The members' transport on the simulated wires: single messages are delayed, overtake each other and get lost; a stream
//! keeps its order as a connection does, stalls while nothing gets through, and breaks at times.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use keepstone::host;
use keepstone::peer::inbox::MemberInbox;
use keepstone::peer::{Answers, Inbox, PeerError, Transport};
use keepstone_state::MemberId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::member::Member;
use crate::plan::Fault;

/// How long the sender's end of a lost message stays open.
const FORGOTTEN: Duration = Duration::from_secs(3);
/// When what did not get through a stream is sent again.
const AGAIN: Duration = Duration::from_millis(100);
/// Messages of a stream on their way.
const ON_THE_WAY: usize = 64;

/// One member's way to the others.
pub struct SimTransport {
    from: u64,
    cluster: Weak<Cluster>,
}

impl SimTransport {
    pub fn new(from: u64, cluster: &Arc<Cluster>) -> Self {
        Self { from, cluster: Arc::downgrade(cluster) }
    }
}

type Answer = Result<Bytes, PeerError>;

fn failed(to: MemberId) -> impl Fn(String) -> PeerError {
    move |why| PeerError::Failed { to, why }
}

fn unreachable(to: MemberId) -> PeerError {
    PeerError::Unreachable { to, why: "the connection broke".to_owned() }
}

fn inbox(member: &Member) -> MemberInbox {
    MemberInbox::new(member.ctx.clone())
}

impl Transport for SimTransport {
    fn call(&self, to: MemberId, message: Bytes) -> BoxFuture<'static, Answer> {
        let (from, cluster) = (self.from, self.cluster.clone());
        let (answer, answered) = oneshot::channel();
        async move {
            let Some(cluster) = cluster.upgrade() else { return Err(unreachable(to)) };
            // A message on its way outlives its sender.
            tokio::spawn(travel(cluster, from, to, message, answer));
            answered.await.unwrap_or_else(|_| Err(unreachable(to)))
        }
        .boxed()
    }

    fn replicate(
        &self,
        to: MemberId,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Answers, PeerError>> {
        let (from, cluster) = (self.from, self.cluster.clone());
        async move {
            let cluster = cluster.upgrade().ok_or_else(|| unreachable(to))?;
            let arriving = pipe(&cluster, from, to.0, messages.map(Ok).boxed());
            let member = connect(&cluster, from, to).await?;
            let (back, machine) = (cluster.clone(), member.machine.clone());
            let serving = async move {
                let asked = arriving.filter_map(|one| std::future::ready(one.ok())).boxed();
                let said = inbox(&member).replicate(MemberId(from), asked);
                pipe(&back, to.0, from, said.map(move |one| one.map_err(failed(to))).boxed())
            };
            host::spawn_on(machine, serving).await.map_err(|_| unreachable(to))
        }
        .boxed()
    }

    fn snapshot(&self, to: MemberId, header: Bytes, pieces: BoxStream<'static, Bytes>) -> BoxFuture<'static, Answer> {
        let (from, cluster) = (self.from, self.cluster.clone());
        async move {
            let cluster = cluster.upgrade().ok_or_else(|| unreachable(to))?;
            let arriving = pipe(&cluster, from, to.0, pieces.map(Ok).boxed());
            let member = connect(&cluster, from, to).await?;
            crate::note!("m{from} -> m{} snapshot", to.0);
            let (back, machine) = (cluster.clone(), member.machine.clone());
            let serving = async move {
                let pieces = arriving.filter_map(|one| std::future::ready(one.ok())).boxed();
                let said = inbox(&member).snapshot(MemberId(from), header, pieces).await;
                pipe(&back, to.0, from, stream::iter([said.map_err(failed(to))]).boxed())
            };
            let mut said = host::spawn_on(machine, serving).await.map_err(|_| unreachable(to))?;
            said.next().await.unwrap_or_else(|| Err(unreachable(to)))
        }
        .boxed()
    }
}

/// Waits until a connection stands.
async fn connect(cluster: &Arc<Cluster>, from: u64, to: MemberId) -> Result<Arc<Member>, PeerError> {
    match cluster.wires.send(from, to.0) {
        Some(there) => tokio::time::sleep(there).await,
        None => {
            tokio::time::sleep(FORGOTTEN).await;
            return Err(unreachable(to));
        }
    }
    open_door(cluster, from, to)
}

/// The member, if it runs and talks to the sender.
fn open_door(cluster: &Cluster, from: u64, to: MemberId) -> Result<Arc<Member>, PeerError> {
    let refused = || PeerError::NotSent { to, why: "connection refused".to_owned() };
    let member = cluster.running(to.0).ok_or_else(refused)?;
    let core = &member.ctx.core;
    let from = MemberId(from);
    if core.state.read().members().is_removed(from) && !core.in_raft(from) {
        return Err(PeerError::Removed { to });
    }
    Ok(member)
}

async fn travel(cluster: Arc<Cluster>, from: u64, to: MemberId, message: Bytes, answer: oneshot::Sender<Answer>) {
    let Some(there) = cluster.wires.send(from, to.0) else {
        crate::note!("m{from} -> m{} {} bytes lost", to.0, message.len());
        tokio::time::sleep(FORGOTTEN).await;
        return;
    };
    tokio::time::sleep(there).await;
    let member = match open_door(&cluster, from, to) {
        Ok(member) => member,
        Err(error) => {
            drop(answer.send(Err(error)));
            return;
        }
    };
    crate::note!("m{from} -> m{} {} bytes", to.0, message.len());
    if cluster.plan.fault == Some(Fault::RepeatedProposals) && message.len() > 60 {
        drop(host::spawn_on(member.machine.clone(), inbox(&member).call(MemberId(from), message.clone())));
    }
    let taking = inbox(&member).call(MemberId(from), message);
    let Ok(said) = host::spawn_on(member.machine.clone(), taking).await else { return };
    drop(member);
    let Some(back) = cluster.wires.send(to.0, from) else {
        tokio::time::sleep(FORGOTTEN).await;
        return;
    };
    tokio::time::sleep(back).await;
    // Who asked may have given up.
    drop(answer.send(said.map_err(failed(to))));
}

/// One direction of a connection. The caller's machine sends; what comes out may be read on another.
fn pipe(
    cluster: &Arc<Cluster>,
    from: u64,
    to: u64,
    mut input: BoxStream<'static, Answer>,
) -> BoxStream<'static, Answer> {
    let (sender, receiver) = mpsc::channel::<(Instant, Answer)>(ON_THE_WAY);
    let cluster = cluster.clone();
    host::spawn(async move {
        let mut last = Instant::now();
        loop {
            // Whoever reads may have hung up while nothing was to be sent.
            let message = tokio::select! {
                biased;
                () = sender.closed() => return,
                message = input.next() => message,
            };
            let Some(message) = message else { return };
            let took = loop {
                match cluster.wires.send(from, to) {
                    Some(took) => break took,
                    None if cluster.wires.breaks() => return,
                    None => tokio::time::sleep(AGAIN).await,
                }
            };
            last = last.max(Instant::now() + took);
            if let Ok(bytes) = &message {
                crate::note!("m{from} => m{to} {} bytes", bytes.len());
            }
            if sender.send((last, message)).await.is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        let (at, message) = receiver.recv().await?;
        tokio::time::sleep_until(at).await;
        Some((message, receiver))
    })
    .boxed()
}
