//! A watch that goes on where it ended, over any number of connections, and refuses what a watch must never do: an
//! event twice, out of order, half a revision.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use keepstone_proto::Event;
use keepstone_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::Client;
use crate::member::PATIENCE;

/// How often a watch that waits for a revision asks for progress.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// All events of one revision that the watch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub revision: i64,
    pub events: Vec<Event>,
}

/// A watch and what it has seen so far.
#[derive(Debug)]
pub struct Watcher {
    key: Bytes,
    range_end: Bytes,
    /// The first revision not seen yet.
    pub next: i64,
    pub seen: Vec<Revision>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is complete up to the revision that was asked for.
    Reached,
    /// The connection broke.
    Broken,
}

impl Watcher {
    /// Watches everything from `next`.
    pub fn everything(next: i64) -> Self {
        Self::range(&[0], &[0], next)
    }

    /// Watches `key` to `range_end` from `next`.
    pub fn range(key: &[u8], range_end: &[u8], next: i64) -> Self {
        let (key, range_end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(range_end));
        Self { key, range_end, next, seen: Vec::new() }
    }

    /// Whether the watch covers `key`.
    pub fn covers(&self, key: &[u8]) -> bool {
        key >= &self.key[..] && (self.range_end == [0][..] || key < &self.range_end[..])
    }

    /// Follows until the connection breaks, or everything up to `until` has come.
    ///
    /// # Errors
    /// When the watch does what it must not, or is canceled, or does not reach `until` in [`PATIENCE`].
    pub async fn follow(&mut self, client: &mut Client, until: Option<i64>) -> Result<End> {
        let (requests, receiver) = mpsc::channel(4);
        let create = WatchCreateRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            start_revision: self.next,
            ..Default::default()
        };
        requests.try_send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
        let Ok(answer) = client.watch.watch(ReceiverStream::new(receiver)).await else { return Ok(End::Broken) };
        let mut stream = answer.into_inner();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let next = match until {
                None => stream.message().await,
                Some(until) => {
                    ensure!(Instant::now() < deadline, "a watch at {} does not reach {until}", self.next);
                    match tokio::time::timeout(ASK_EVERY, stream.message()).await {
                        Ok(next) => next,
                        Err(_) => {
                            let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                            drop(requests.try_send(WatchRequest { request_union: Some(ask) }));
                            continue;
                        }
                    }
                }
            };
            let Ok(Some(response)) = next else { return Ok(End::Broken) };
            let progress = self.take(response)?;
            if until.is_some_and(|until| progress >= until || self.next > until) {
                return Ok(End::Reached);
            }
        }
    }

    /// Takes a response in; answers the revision up to which it says that all is there, or 0.
    fn take(&mut self, response: WatchResponse) -> Result<i64> {
        if response.canceled {
            bail!(
                "a watch from {} was canceled: compact revision {}, {:?}",
                self.next,
                response.compact_revision,
                response.cancel_reason
            );
        }
        let header = crate::client::revision(response.header);
        if response.events.is_empty() {
            // Created says nothing about what is still to come.
            return Ok(if response.created { 0 } else { header });
        }
        let mut last = 0;
        for event in response.events {
            let revision = event.kv().mod_revision();
            ensure!(revision >= self.next, "a watch that was to go on at {} got {revision} again", self.next);
            ensure!(self.covers(event.kv().key()), "a watch got an event of another key: {event:?}");
            ensure!(revision >= last, "a watch response has {revision} after {last}");
            if revision == last {
                self.seen.last_mut().context("the revision's first event is there")?.events.push(event);
            } else {
                self.seen.push(Revision { revision, events: vec![event] });
            }
            last = revision;
        }
        ensure!(header >= last, "a watch response's header has revision {header}, its events {last}");
        self.next = last + 1;
        Ok(0)
    }
}
