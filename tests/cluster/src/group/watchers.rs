//! Clients that watch: over as many streams, and on as many members, as it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use keepstone_check::{Delivery, WatchLog};
use keepstone_proto::etcdserverpb::watch_create_request::FilterType;
use keepstone_proto::etcdserverpb::watch_request::RequestUnion;
use keepstone_proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::clients::World;
use super::ops::Plant;
use crate::client::{Client, revision};

const REACH: Duration = Duration::from_secs(1);
/// How long a stream may be silent before progress is asked for.
const SILENCE: Duration = Duration::from_millis(200);
/// How many of the first watchers see everything: the history is what they saw.
const WITNESSES: u64 = 2;

/// One watching client.
pub struct Watcher {
    log: WatchLog,
    witness: bool,
    world: Arc<World>,
    rng: StdRng,
    /// The first revision it was not given; 0 while it does not know where it begins.
    next: i64,
    /// The revision to see before it may stop; 0 while it may not.
    goal: Arc<AtomicI64>,
}

impl Watcher {
    pub fn new(number: u64, seed: u64, world: Arc<World>, goal: Arc<AtomicI64>) -> Self {
        let mut rng = StdRng::seed_from_u64(!seed.wrapping_mul(1_000_003).wrapping_add(number));
        let witness = number < WITNESSES;
        let all = Bytes::from_static(&[0]);
        let (key, range_end) = match rng.random_range(0..3) {
            _ if witness => (all.clone(), all),
            0 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            1 => (Bytes::from(format!("k{:02}", rng.random_range(0..40))), Bytes::new()),
            _ => (Bytes::from_static(b"k0"), Bytes::from_static(b"k1")),
        };
        let log = WatchLog {
            name: format!("w{number}"),
            key,
            range_end,
            prev_kv: rng.random(),
            no_put: !witness && rng.random_ratio(1, 8),
            no_delete: !witness && rng.random_ratio(1, 8),
            ..WatchLog::default()
        };
        let next = if witness || rng.random() { 1 } else { 0 };
        Self { log, witness, world, rng, next, goal }
    }

    fn reached(&self) -> bool {
        let goal = self.goal.load(Ordering::Relaxed);
        goal > 0 && self.next > goal
    }

    /// Watches until everything up to the goal was seen.
    ///
    /// # Errors
    /// When a watch is ended for no reason.
    pub async fn run(mut self) -> Result<WatchLog> {
        while !self.reached() {
            self.stream().await?;
            let rest = Duration::from_millis(self.rng.random_range(1..80));
            tokio::time::sleep(rest).await;
        }
        self.log.complete_to = self.goal.load(Ordering::Relaxed);
        Ok(self.log)
    }

    /// One stream's life.
    async fn stream(&mut self) -> Result<()> {
        let door = self.rng.random_range(0..self.world.doors.len());
        let Ok(mut client) = Client::connect_within(&self.world.doors[door].url, REACH).await else { return Ok(()) };
        let (requests, receiver) = mpsc::channel(8);
        drop(requests.try_send(self.create()));
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        if self.rng.random() {
            request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
        }
        let Ok(Ok(answer)) = tokio::time::timeout(REACH, client.watch.watch(request)).await else { return Ok(()) };
        let mut responses = answer.into_inner();
        self.log.deliveries.push(Delivery::Started(self.next));
        let stays = if self.rng.random() { 1500 } else { 20_000 };
        let until = Instant::now() + Duration::from_millis(self.rng.random_range(100..stays));
        let slow = if self.witness { 2 } else { 40 };
        while Instant::now() < until && !self.reached() {
            match tokio::time::timeout(SILENCE, responses.message()).await {
                Ok(Ok(Some(response))) => {
                    if !self.take(response)? {
                        return Ok(());
                    }
                }
                Ok(Ok(None) | Err(_)) => return Ok(()),
                Err(_) => {
                    let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    drop(requests.try_send(WatchRequest { request_union: Some(ask) }));
                }
            }
            if self.witness {
                self.world.shared.witnessed.fetch_max(self.next, Ordering::Relaxed);
            }
            if self.goal.load(Ordering::Relaxed) == 0 {
                let rest = Duration::from_millis(self.rng.random_range(0..slow));
                tokio::time::sleep(rest).await;
            }
        }
        Ok(())
    }

    fn create(&mut self) -> WatchRequest {
        let mut filters = Vec::new();
        filters.extend(self.log.no_put.then_some(FilterType::Noput as i32));
        filters.extend(self.log.no_delete.then_some(FilterType::Nodelete as i32));
        let create = WatchCreateRequest {
            key: self.log.key.clone(),
            range_end: self.log.range_end.clone(),
            start_revision: self.next,
            prev_kv: self.log.prev_kv,
            progress_notify: self.rng.random(),
            filters,
            ..Default::default()
        };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    /// Takes a response in; whether the watch goes on.
    fn take(&mut self, response: WatchResponse) -> Result<bool> {
        let revision = revision(response.header);
        if response.canceled {
            if response.compact_revision == 0 {
                bail!("watch {} was canceled: {:?}", self.log.name, response.cancel_reason);
            }
            self.next = response.compact_revision;
            self.log.deliveries.push(Delivery::Compacted(response.compact_revision));
            return Ok(false);
        }
        let delivery = if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            Delivery::Created(revision)
        } else if response.events.is_empty() {
            self.next = self.next.max(revision + 1);
            Delivery::Progress(revision)
        } else {
            let last = response.events.last().map_or(0, |event| event.kv().mod_revision());
            self.next = self.next.max(last + 1);
            if self.world.shared.plant == Some(Plant::LostEvents) && !self.witness && self.rng.random_ratio(1, 50) {
                return Ok(true);
            }
            Delivery::Events { revision, events: response.events }
        };
        self.log.deliveries.push(delivery);
        Ok(true)
    }
}
