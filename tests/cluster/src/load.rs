//! Writers and readers that keep a member busy, and remember every call: when it began and ended, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use keepstone_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tonic::{Code, Status};

use crate::client::{Client, revision};

/// Keys that all writers share.
const KEYS: u32 = 40;
/// The time between two attempts while no member is there.
const RETRY: Duration = Duration::from_millis(3);

/// What a call was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    Delete {
        key: String,
        range_end: String,
    },
    /// Where `guard` is not there, puts it and `second`; else deletes it and puts `third`. All with their values.
    Txn {
        guard: (String, String),
        second: (String, String),
        third: (String, String),
    },
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    Compact {
        revision: i64,
    },
    Get {
        key: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At this revision; the number is how many keys were deleted, or 1 for a txn whose guard was not there.
    Acked { revision: i64, number: i64 },
    /// A read's header revision, and the key's revision, 0 without the key.
    Read { revision: i64, key_revision: i64 },
    /// Refused for good: it has no effect.
    Refused,
    /// The connection broke or the time ran out: it may have an effect.
    Unknown,
}

/// A call. Its stamps come from [`Load::stamp`].
#[derive(Clone, Debug)]
pub struct Call {
    pub what: What,
    pub begun: u64,
    pub ended: u64,
    pub outcome: Outcome,
}

impl Call {
    /// The values it may write, each unique to it.
    pub fn values(&self) -> Vec<&str> {
        match &self.what {
            What::Put { value, .. } => vec![value],
            What::Txn { guard, second, third } => vec![&guard.1, &second.1, &third.1],
            _ => Vec::new(),
        }
    }
}

/// A stamp that never goes back: a later one that is greater was taken later.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What a load is made of.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub writers: u32,
    pub readers: u32,
    /// Leases of two seconds beside those of ten minutes.
    pub short_leases: bool,
    /// One value in this many is large.
    pub one_large_in: u32,
    pub large_bytes: usize,
}

/// A running load. Shared by its tasks.
pub struct Load {
    pub url: String,
    pub stop: AtomicBool,
    pub stamp: Clock,
    pub mix: Mix,
    /// Numbers that make values and lease IDs unique over all rounds.
    pub unique: Arc<AtomicU64>,
    /// Compactions stay below this.
    pub floor: Arc<AtomicI64>,
}

impl Load {
    /// Starts all tasks; each ends once `stop` is set and answers its calls.
    pub fn start(self: &Arc<Self>, seed: u64) -> Vec<tokio::task::JoinHandle<anyhow::Result<Vec<Call>>>> {
        let mut tasks = Vec::new();
        for n in 0..self.mix.writers + self.mix.readers {
            let (load, rng) = (self.clone(), StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) + u64::from(n)));
            let reads = n >= self.mix.writers;
            tasks.push(tokio::spawn(async move {
                Ok(Worker { load, rng, calls: Vec::new(), leases: Vec::new() }.run(reads).await)
            }));
        }
        let (load, rng) = (self.clone(), StdRng::seed_from_u64(!seed));
        tasks.push(tokio::spawn(async move { load.keep_house(rng).await }));
        tasks
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A connection, as soon as there is one; `None` once stopped.
    pub async fn connect(&self) -> Option<Client> {
        while !self.stopped() {
            if let Ok(client) = Client::connect(&self.url).await {
                return Some(client);
            }
            tokio::time::sleep(RETRY).await;
        }
        None
    }

    /// Compacts behind everybody's back and takes snapshots.
    async fn keep_house(&self, mut rng: StdRng) -> anyhow::Result<Vec<Call>> {
        let mut calls = Vec::new();
        let Some(mut client) = self.connect().await else { return Ok(calls) };
        while !self.stopped() {
            tokio::time::sleep(Duration::from_millis(rng.random_range(10..120))).await;
            let floor = self.floor.load(Ordering::Relaxed) - rng.random_range(0..400);
            if rng.random_bool(0.2) {
                client.snapshot().await?;
            } else if floor > 1 {
                let begun = (self.stamp)();
                let outcome = match client.compact(floor, rng.random()).await {
                    Ok(()) => Outcome::Acked { revision: floor, number: 0 },
                    Err(status) => failed(&status),
                };
                calls.push(Call { what: What::Compact { revision: floor }, begun, ended: (self.stamp)(), outcome });
            }
        }
        Ok(calls)
    }
}

struct Worker {
    load: Arc<Load>,
    rng: StdRng,
    calls: Vec<Call>,
    leases: Vec<i64>,
}

fn failed(status: &Status) -> Outcome {
    match status.code() {
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

fn put_op((key, value): &(String, String)) -> RequestOp {
    let put = PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

impl Worker {
    async fn run(mut self, reads: bool) -> Vec<Call> {
        let Some(mut client) = self.load.connect().await else { return self.calls };
        while !self.load.stopped() {
            let what = if reads { What::Get { key: self.key() } } else { self.choose() };
            let begun = (self.load.stamp)();
            let outcome = carry_out(&mut client, &what).await.unwrap_or_else(|status| failed(&status));
            let ended = (self.load.stamp)();
            match (&what, &outcome) {
                (What::Grant { id, .. }, Outcome::Acked { .. }) => self.leases.push(*id),
                (What::Revoke { id }, _) => self.leases.retain(|lease| lease != id),
                _ => {}
            }
            let unknown = outcome == Outcome::Unknown;
            self.calls.push(Call { what, begun, ended, outcome });
            if unknown {
                tokio::time::sleep(RETRY).await;
            }
        }
        self.calls
    }

    fn key(&mut self) -> String {
        format!("k/{:03}", self.rng.random_range(0..KEYS))
    }

    fn value(&mut self) -> String {
        let id = self.load.unique.fetch_add(1, Ordering::Relaxed);
        let mix = self.load.mix;
        let large = mix.one_large_in > 0 && self.rng.random_ratio(1, mix.one_large_in);
        let len = if large { mix.large_bytes } else { self.rng.random_range(10..300) };
        format!("{id} {}", "x".repeat(len))
    }

    fn choose(&mut self) -> What {
        match self.rng.random_range(0..100) {
            0..55 => What::Put { key: self.key(), value: self.value(), lease: 0 },
            55..63 => What::Delete { key: self.key(), range_end: String::new() },
            63..65 => {
                let from = self.rng.random_range(0..KEYS);
                What::Delete { key: format!("k/{from:03}"), range_end: format!("k/{:03}", from + 4) }
            }
            65..82 => {
                let guard = (self.key(), self.value());
                let mut second = self.key();
                while second == guard.0 {
                    second = self.key();
                }
                What::Txn { third: (second.clone(), self.value()), second: (second, self.value()), guard }
            }
            82..86 => {
                let id = self.load.unique.fetch_add(1, Ordering::Relaxed) as i64 + 1000;
                What::Grant { id, ttl: if self.load.mix.short_leases && self.rng.random() { 2 } else { 600 } }
            }
            86..89 if !self.leases.is_empty() => What::Revoke { id: self.lease() },
            89..100 if !self.leases.is_empty() => {
                let key = format!("l/{:03}", self.rng.random_range(0..KEYS));
                What::Put { key, value: self.value(), lease: self.lease() }
            }
            _ => What::Put { key: self.key(), value: self.value(), lease: 0 },
        }
    }

    fn lease(&mut self) -> i64 {
        self.leases[self.rng.random_range(0..self.leases.len())]
    }
}

async fn carry_out(client: &mut Client, what: &What) -> Result<Outcome, Status> {
    const LIMIT: Duration = Duration::from_secs(20);
    match tokio::time::timeout(LIMIT, call(client, what)).await {
        Ok(outcome) => outcome,
        Err(_) => Ok(Outcome::Unknown),
    }
}

async fn call(client: &mut Client, what: &What) -> Result<Outcome, Status> {
    let (revision, number) = match what {
        What::Put { key, value, lease } => {
            let (key, value) = (key.clone().into(), value.clone().into());
            let put = PutRequest { key, value, lease: *lease, ..Default::default() };
            (revision(client.kv.put(put).await?.into_inner().header), 0)
        }
        What::Delete { key, range_end } => {
            let (key, range_end) = (key.clone().into(), range_end.clone().into());
            let delete = DeleteRangeRequest { key, range_end, ..Default::default() };
            let answer = client.kv.delete_range(delete).await?.into_inner();
            (revision(answer.header), answer.deleted)
        }
        What::Txn { guard, second, third } => {
            let answer = client.kv.txn(txn(guard, second, third)).await?.into_inner();
            (revision(answer.header), i64::from(answer.succeeded))
        }
        What::Grant { id, ttl } => {
            let grant = LeaseGrantRequest { ttl: *ttl, id: *id };
            (revision(client.lease.lease_grant(grant).await?.into_inner().header), 0)
        }
        What::Revoke { id } => {
            let revoke = LeaseRevokeRequest { id: *id };
            (revision(client.lease.lease_revoke(revoke).await?.into_inner().header), 0)
        }
        What::Compact { revision } => {
            client.compact(*revision, false).await?;
            (*revision, 0)
        }
        What::Get { key } => {
            let get = RangeRequest { key: key.clone().into(), ..Default::default() };
            let answer = client.kv.range(get).await?.into_inner();
            let key_revision = answer.kvs.first().map_or(0, |kv| kv.mod_revision());
            return Ok(Outcome::Read { revision: revision(answer.header), key_revision });
        }
    };
    Ok(Outcome::Acked { revision, number })
}

fn txn(guard: &(String, String), second: &(String, String), third: &(String, String)) -> TxnRequest {
    let not_there = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: guard.0.clone().into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let delete = DeleteRangeRequest { key: guard.0.clone().into(), ..Default::default() };
    let delete = RequestOp { request: Some(Request::RequestDeleteRange(delete)) };
    TxnRequest {
        compare: vec![not_there],
        success: vec![put_op(guard), put_op(second)],
        failure: vec![delete, put_op(third)],
    }
}
