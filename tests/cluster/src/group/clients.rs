//! Clients: each asks one member for one thing after another, and remembers what it was told. They move to other members
//! now and then, and when theirs fails them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keepstone_check::{Call, Op, Outcome, Time};
use keepstone_proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tonic::{Code, Status};

use super::ops::{Chooser, Plant, Shared};
use crate::client::{Client, revision};

/// How long a client tries to reach a member.
const REACH: Duration = Duration::from_secs(1);

/// A place where a member is, whichever process is there just now.
#[derive(Debug)]
pub struct Door {
    pub url: String,
    /// Counts the processes: changed before one is started.
    pub process: AtomicU64,
}

/// What all clients share.
pub struct World {
    pub doors: Vec<Door>,
    pub shared: Shared,
    pub stop: AtomicBool,
    pub began: Instant,
    /// When a write was last acknowledged, and the longest time between two; microseconds since the beginning.
    last_write: AtomicU64,
    longest_pause: AtomicU64,
}

/// A call, and who was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub call: Call,
    pub door: usize,
    pub process: u64,
}

impl World {
    pub fn new(urls: Vec<String>, plant: Option<Plant>) -> Self {
        Self {
            doors: urls.into_iter().map(|url| Door { url, process: AtomicU64::new(0) }).collect(),
            shared: Shared { plant, ..Shared::default() },
            stop: AtomicBool::new(false),
            began: Instant::now(),
            last_write: AtomicU64::new(0),
            longest_pause: AtomicU64::new(0),
        }
    }

    pub fn now(&self) -> Time {
        self.began.elapsed()
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The longest time without an acknowledged write.
    pub fn longest_pause(&self) -> Duration {
        Duration::from_micros(self.longest_pause.load(Ordering::Relaxed))
    }

    fn saw(&self, call: &Call) {
        self.shared.newest.fetch_max(call.revision().unwrap_or(0), Ordering::Relaxed);
        if call.wrote() {
            let at = u64::try_from(call.ended.as_micros()).unwrap_or(u64::MAX);
            let before = self.last_write.fetch_max(at, Ordering::Relaxed);
            if before > 0 {
                self.longest_pause.fetch_max(at.saturating_sub(before), Ordering::Relaxed);
            }
        }
    }
}

/// One client.
pub struct Caller {
    number: u64,
    world: Arc<World>,
    rng: StdRng,
    /// Where it is connected, and to which process.
    at: Option<(usize, u64, Client)>,
    leases: Vec<i64>,
    pub asked: Vec<Asked>,
}

impl Caller {
    pub fn new(number: u64, seed: u64, world: Arc<World>) -> Self {
        let rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        Self { number, world, rng, at: None, leases: Vec::new(), asked: Vec::new() }
    }

    /// Asks until the load stops.
    pub async fn run(mut self) -> Vec<Asked> {
        while !self.world.stopped() {
            let op = Chooser { rng: &mut self.rng, shared: &self.world.shared, leases: &self.leases }.choose();
            let patience = Duration::from_millis(self.rng.random_range(200..6000));
            self.ask(op, patience).await;
            if self.rng.random_ratio(1, 100) {
                self.at = None;
            }
            let rest = Duration::from_millis(self.rng.random_range(0..20));
            tokio::time::sleep(rest).await;
        }
        self.asked
    }

    /// Asks for one thing; whether there was an answer. Nothing was asked when no member could be reached.
    pub async fn ask(&mut self, op: Op, patience: Duration) -> bool {
        let Some((door, process, mut client)) = self.connected().await else { return false };
        let begun = self.world.now();
        let asking = carry_out(&mut client, self.planted(op.clone()));
        let answer = tokio::time::timeout(patience, asking).await;
        let outcome = match answer {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(status)) => failed(&status),
            Err(_) => Outcome::Unknown,
        };
        let call = Call { client: self.number, begun, ended: self.world.now(), op, outcome };
        match (&call.op, &call.outcome) {
            (Op::Grant { id, .. }, Outcome::Done(_)) => {
                self.leases.push(*id);
                let many = self.leases.len();
                self.leases.drain(..many.saturating_sub(8));
            }
            (Op::Revoke(id), Outcome::Done(_) | Outcome::Refused(_)) => self.leases.retain(|lease| lease != id),
            _ => {}
        }
        let answered = call.outcome != Outcome::Unknown;
        if !answered {
            self.at = None;
        }
        self.world.saw(&call);
        self.asked.push(Asked { call, door, process });
        answered
    }

    /// What is sent in the place of a call.
    fn planted(&mut self, op: Op) -> Op {
        match (self.world.shared.plant, op) {
            (Some(Plant::StaleReads), Op::Range(range)) => Op::Range(RangeRequest { serializable: true, ..range }),
            // Somebody else's value: this one is never written.
            (Some(Plant::LostWrites), Op::Put(put)) if self.rng.random_ratio(1, 500) => {
                Op::Put(PutRequest { key: "elsewhere".into(), value: "planted".into(), ..put })
            }
            (_, op) => op,
        }
    }

    /// The connection it has, or one to any member.
    async fn connected(&mut self) -> Option<(usize, u64, Client)> {
        if self.at.is_none() {
            let at = self.rng.random_range(0..self.world.doors.len());
            let door = &self.world.doors[at];
            let process = door.process.load(Ordering::Relaxed);
            let client = Client::connect_within(&door.url, REACH).await;
            // A process that was started meanwhile may be the one that was reached, or not.
            if let Ok(client) = client
                && door.process.load(Ordering::Relaxed) == process
            {
                self.at = Some((at, process, client));
            }
        }
        self.at.clone()
    }
}

/// What an error means for the call: only what is refused for what the call says is for certain not carried out.
fn failed(status: &Status) -> Outcome {
    match status.code() {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::ResourceExhausted => Outcome::Refused(status.message().to_owned()),
        _ => Outcome::Unknown,
    }
}

async fn carry_out(client: &mut Client, op: Op) -> Result<Outcome, Status> {
    Ok(match op {
        Op::Put(put) => Outcome::Put(client.kv.put(put).await?.into_inner()),
        Op::Delete(delete) => Outcome::Delete(client.kv.delete_range(delete).await?.into_inner()),
        Op::Range(range) => Outcome::Range(client.kv.range(range).await?.into_inner()),
        Op::Txn(txn) => Outcome::Txn(client.kv.txn(txn).await?.into_inner()),
        Op::Compact(at) => {
            let request = CompactionRequest { revision: at, physical: false };
            Outcome::Done(revision(client.kv.compact(request).await?.into_inner().header))
        }
        Op::Grant { id, ttl } => {
            let grant = LeaseGrantRequest { ttl, id };
            Outcome::Done(revision(client.lease.lease_grant(grant).await?.into_inner().header))
        }
        Op::Revoke(id) => {
            Outcome::Done(revision(client.lease.lease_revoke(LeaseRevokeRequest { id }).await?.into_inner().header))
        }
        Op::KeepAlive(id) => {
            let one = tokio_stream::once(LeaseKeepAliveRequest { id });
            match client.lease.lease_keep_alive(one).await?.into_inner().message().await? {
                Some(answer) if answer.ttl > 0 => Outcome::Done(revision(answer.header)),
                Some(_) => Outcome::Refused("gone".to_owned()),
                None => Outcome::Unknown,
            }
        }
    })
}
