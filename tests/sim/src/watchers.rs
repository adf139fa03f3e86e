//! Clients that watch, over as many streams as it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keepstone::api::watch::{Responses, WatchService};
use keepstone::host;
use keepstone_check::{Delivery, WatchLog};
use keepstone_proto::etcdserverpb::watch_create_request::FilterType;
use keepstone_proto::etcdserverpb::watch_request::RequestUnion;
use keepstone_proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::home::Installed;
use crate::load::Load;
use crate::note;
use crate::plan::Fault;

/// Responses that are on a connection.
const ON_THE_WAY: usize = 4;

type Response = Result<WatchResponse, Status>;

/// Has a call polled by the member, as its connection does.
fn connect(mut call: Responses, mut spoil: Option<Spoil>) -> mpsc::Receiver<Response> {
    let (connection, client) = mpsc::channel(ON_THE_WAY);
    host::spawn(async move {
        loop {
            // A call whose client has gone is dropped.
            let response = tokio::select! {
                biased;
                () = connection.closed() => return,
                response = call.next() => response,
            };
            let Some(response) = response else { return };
            let responses = match &mut spoil {
                Some(spoil) => spoil.one(response),
                None => vec![response],
            };
            for response in responses {
                if connection.send(response).await.is_err() {
                    return;
                }
            }
        }
    });
    client
}

/// A connection with something broken on purpose.
struct Spoil {
    fault: Fault,
    /// The snapshots that the member has installed, and how many of them this watch has lost something to.
    installed: Installed,
    lost_to: u64,
    dice: Dice,
}

impl Spoil {
    fn new(cluster: &Cluster, member: u64, dice: &mut Dice) -> Option<Self> {
        use Fault::{DroppedEvents, EventsLostAtSnapshot, SplitRevisions};
        let spoils = |fault: &Fault| matches!(fault, DroppedEvents | EventsLostAtSnapshot | SplitRevisions);
        let fault = cluster.plan.fault.filter(spoils)?;
        let installed = cluster.running(member)?.installed.clone();
        Some(Self { fault, lost_to: installed.count(), installed, dice: dice.fork() })
    }

    /// Leaves out the first event after a snapshot.
    fn lose(&mut self, response: Response) -> Vec<Response> {
        let mut response = match response {
            Ok(response) if !response.events.is_empty() && self.installed.count() > self.lost_to => response,
            untouched => return vec![untouched],
        };
        self.lost_to = self.installed.count();
        response.events.remove(0);
        if response.events.is_empty() { Vec::new() } else { vec![Ok(response)] }
    }

    fn one(&mut self, response: Response) -> Vec<Response> {
        if self.fault == Fault::EventsLostAtSnapshot {
            return self.lose(response);
        }
        let mut response = match response {
            Ok(response) if !response.events.is_empty() && self.dice.chance(5) => response,
            untouched => return vec![untouched],
        };
        let at = self.dice.within(0..response.events.len() as u64) as usize;
        if self.fault == Fault::DroppedEvents {
            response.events.remove(at);
            return vec![Ok(response)];
        }
        let rest = WatchResponse { events: response.events.split_off(at), ..response.clone() };
        let parts = [response, rest].into_iter().filter(|part| !part.events.is_empty());
        parts.map(Ok).collect()
    }
}

/// What a watcher is like.
#[derive(Clone, Debug)]
pub struct Habit {
    /// Sees everything, fast: the run's history is what it saw.
    pub witness: bool,
    /// Milliseconds between two looks, at most.
    pub slow: u64,
    /// Milliseconds that it stays on one stream, at most.
    pub stays: u64,
    pub from: Option<i64>,
    pub progress_notify: bool,
}

/// One watching client.
pub struct Watcher {
    pub log: Mutex<WatchLog>,
    habit: Habit,
    /// The first revision it has not been given; 0 while it does not know where it begins.
    next: AtomicI64,
    /// The revision to see before it may stop; 0 while it may not.
    goal: Arc<AtomicI64>,
}

impl Watcher {
    pub fn new(number: u64, keys: u64, dice: &mut Dice, goal: Arc<AtomicI64>) -> Self {
        let witness = number == 0;
        let all = Bytes::from_static(&[0]);
        let (key, range_end) = match dice.within(0..4) {
            _ if witness => (all.clone(), all),
            0 => (all.clone(), all),
            1 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            2 => (Bytes::from(format!("k{:02}", dice.within(0..keys))), Bytes::new()),
            _ => (Bytes::from_static(b"k0"), Bytes::from_static(b"k05")),
        };
        let habit = Habit {
            witness,
            slow: if witness { 2 } else { *dice.pick(&[2, 50, 1500]) },
            stays: if witness { 60_000 } else { *dice.pick(&[500, 5000, 60_000]) },
            from: if witness || dice.chance(50) { Some(1) } else { None },
            progress_notify: dice.chance(50),
        };
        let log = WatchLog {
            name: format!("w{number}"),
            key,
            range_end,
            prev_kv: dice.chance(50),
            no_put: !witness && dice.chance(10),
            no_delete: !witness && dice.chance(10),
            deliveries: Vec::new(),
            complete_to: 0,
        };
        let next = AtomicI64::new(habit.from.unwrap_or(0));
        Self { log: Mutex::new(log), habit, next, goal }
    }

    /// The first revision that it has not been given.
    pub fn next(&self) -> i64 {
        self.next.load(Ordering::Relaxed)
    }

    fn reached(&self) -> bool {
        let goal = self.goal.load(Ordering::Relaxed);
        goal > 0 && self.next.load(Ordering::Relaxed) > goal
    }

    fn saw(&self, delivery: Delivery) {
        match &delivery {
            Delivery::Started(_) => {}
            Delivery::Created(revision) if self.next.load(Ordering::Relaxed) == 0 => {
                self.next.store(revision + 1, Ordering::Relaxed);
            }
            Delivery::Created(_) => {}
            Delivery::Events { events, .. } => {
                let last = events.last().map_or(0, |event| event.kv().mod_revision());
                self.next.fetch_max(last + 1, Ordering::Relaxed);
            }
            Delivery::Progress(revision) => {
                self.next.fetch_max(revision + 1, Ordering::Relaxed);
            }
            Delivery::Compacted(revision) => self.next.store(*revision, Ordering::Relaxed),
        }
        let mut log = self.log.lock();
        match &delivery {
            Delivery::Events { revision, events } => note!("{} {} events to {revision}", log.name, events.len()),
            other => note!("{} {other:?}", log.name),
        }
        log.deliveries.push(delivery);
    }

    fn create(&self) -> WatchRequest {
        let log = self.log.lock();
        let mut filters = Vec::new();
        filters.extend(log.no_put.then_some(FilterType::Noput as i32));
        filters.extend(log.no_delete.then_some(FilterType::Nodelete as i32));
        let create = WatchCreateRequest {
            key: log.key.clone(),
            range_end: log.range_end.clone(),
            start_revision: self.next.load(Ordering::Relaxed),
            prev_kv: log.prev_kv,
            progress_notify: self.habit.progress_notify,
            filters,
            ..Default::default()
        };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    /// Watches until everything up to the goal was seen.
    pub async fn run(self: Arc<Self>, cluster: Arc<Cluster>, load: Arc<Load>, mut dice: Dice) {
        while !self.reached() {
            let member = *dice.pick(&cluster.ids());
            if let Err(why) = self.stream(&cluster, &load, member, &mut dice).await {
                cluster.break_with(format!("watch {}: {why}", self.log.lock().name));
                return;
            }
            tokio::time::sleep(dice.millis(1..100)).await;
        }
        self.log.lock().complete_to = self.goal.load(Ordering::Relaxed);
    }

    /// One stream's life.
    async fn stream(&self, cluster: &Arc<Cluster>, load: &Load, member: u64, dice: &mut Dice) -> Result<(), String> {
        let (requests, receiver) = mpsc::channel::<Result<WatchRequest, Status>>(8);
        let spoil = Spoil::new(cluster, member, dice);
        let open = move |ctx| async move {
            connect(WatchService::new(ctx).open(Box::pin(ReceiverStream::new(receiver))), spoil)
        };
        let Some(mut responses) = cluster.ask(member, open).await else { return Ok(()) };
        self.saw(Delivery::Started(self.next.load(Ordering::Relaxed)));
        drop(requests.try_send(Ok(self.create())));
        let until = tokio::time::Instant::now() + dice.millis(100..self.habit.stays + 101);
        while tokio::time::Instant::now() < until && !self.reached() {
            let wait = Duration::from_millis(200);
            match tokio::time::timeout(wait, responses.recv()).await {
                Ok(Some(Ok(response))) => {
                    if !self.take(response)? {
                        return Ok(());
                    }
                }
                Ok(Some(Err(_)) | None) => return Ok(()),
                Err(_) => {
                    if dice.chance(30) || self.goal.load(Ordering::Relaxed) > 0 {
                        let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                        drop(requests.try_send(Ok(WatchRequest { request_union: Some(ask) })));
                    }
                }
            }
            if self.habit.witness {
                load.witnessed.store(self.next.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            if self.goal.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(dice.millis(0..self.habit.slow)).await;
            }
        }
        Ok(())
    }

    /// Takes a response in; whether the watch goes on.
    fn take(&self, response: WatchResponse) -> Result<bool, String> {
        let revision = response.header.map_or(0, |header| header.revision);
        if response.canceled {
            if response.compact_revision == 0 {
                return Err(format!("was canceled: {:?}", response.cancel_reason));
            }
            self.saw(Delivery::Compacted(response.compact_revision));
            return Ok(false);
        }
        let delivery = if response.created {
            Delivery::Created(revision)
        } else if response.events.is_empty() {
            Delivery::Progress(revision)
        } else {
            Delivery::Events { revision, events: response.events }
        };
        self.saw(delivery);
        Ok(true)
    }
}
