//! Clients: each asks for one thing after another, and remembers what it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use keepstone::api::context::Context;
use keepstone::api::kv::KvService;
use keepstone::api::lease::LeaseService;
use keepstone_check::{Call, Op, Outcome};
use keepstone_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keepstone_proto::etcdserverpb::request_op::Request;
use keepstone_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
};
use parking_lot::Mutex;
use tonic::{Code, Status};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::plan::Fault;
use crate::{note, trace};

/// What all clients of a run share.
#[derive(Default)]
pub struct Load {
    pub calls: Mutex<Vec<Call>>,
    pub stop: AtomicBool,
    /// The first revision that nobody who watches everything has seen yet: compactions stay below it, so that the
    /// history stays known.
    pub witnessed: AtomicI64,
    unique: AtomicU64,
    leases: Mutex<Vec<i64>>,
    newest: AtomicI64,
    last_look: AtomicI64,
}

impl Load {
    /// Whether the last look at everything saw this revision already: nothing ends any more.
    pub fn quiet(&self, revision: i64) -> bool {
        self.last_look.swap(revision, Ordering::Relaxed) == revision
    }
}

struct Client {
    number: u64,
    cluster: Arc<Cluster>,
    load: Arc<Load>,
    dice: Dice,
    member: u64,
}

/// Runs a client until the load stops.
pub async fn client(number: u64, cluster: Arc<Cluster>, load: Arc<Load>, dice: Dice) {
    let mut client = Client { number, cluster, load, dice, member: 1 };
    while !client.load.stop.load(Ordering::Relaxed) {
        let op = client.choose();
        client.carry_out(op).await;
        let rest = client.dice.millis(0..60);
        tokio::time::sleep(rest).await;
    }
}

impl Client {
    async fn carry_out(&mut self, op: Op) {
        if self.dice.chance(40)
            && let Some(leader) = self.cluster.leader()
        {
            self.member = leader;
        } else {
            self.member = *self.dice.pick(&self.cluster.ids());
        }
        let patience = self.dice.millis(200..9000);
        let begun = trace::now();
        let asked = op.clone();
        let unchecked = self.cluster.plan.fault == Some(Fault::UncheckedReads);
        let asking = self.cluster.ask(self.member, move |ctx| ask(ctx, asked, unchecked));
        let answer = tokio::time::timeout(patience, asking).await.ok().flatten();
        let outcome = match answer {
            Some(Ok(outcome)) => outcome,
            Some(Err(status)) => refusal(&status),
            None => Outcome::Unknown,
        };
        let (client, ended) = (self.number, trace::now());
        let call = Call { client, begun, ended, op, outcome };
        self.remember(&call);
        self.load.calls.lock().push(call);
    }

    fn remember(&self, call: &Call) {
        let (client, member) = (self.number, self.member);
        note!("c{client} m{member} {} -> {}", brief(&call.op), brief_outcome(call));
        self.load.newest.fetch_max(call.revision().unwrap_or(0), Ordering::Relaxed);
        if let (Op::Grant { id, .. }, Outcome::Done(_)) = (&call.op, &call.outcome) {
            self.load.leases.lock().push(*id);
        }
    }

    fn key(&mut self) -> Bytes {
        format!("k{:02}", self.dice.within(0..self.cluster.plan.keys)).into()
    }

    fn value(&mut self) -> Bytes {
        let unique = self.load.unique.fetch_add(1, Ordering::Relaxed);
        let long = if self.dice.chance(3) { 4000 } else { 60 };
        let filling = self.dice.within(0..long) as usize;
        format!("{unique} {}", "x".repeat(filling)).into()
    }

    fn put(&mut self, lease: i64) -> PutRequest {
        PutRequest { key: self.key(), value: self.value(), lease, prev_kv: self.dice.chance(30), ..Default::default() }
    }

    fn range(&mut self) -> (Bytes, Bytes) {
        match self.dice.within(0..4) {
            0 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            1 => (self.key(), Bytes::from_static(&[0])),
            _ => (self.key(), Bytes::new()),
        }
    }

    fn get(&mut self) -> RangeRequest {
        let (key, range_end) = self.range();
        let newest = self.load.newest.load(Ordering::Relaxed);
        let past = self.dice.chance(15) && newest > 2;
        RangeRequest {
            key,
            range_end,
            limit: if self.dice.chance(20) { 3 } else { 0 },
            revision: if past { self.dice.within(1..newest as u64 + 1) as i64 } else { 0 },
            serializable: self.dice.chance(10),
            count_only: self.dice.chance(5),
            keys_only: self.dice.chance(5),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.range();
        let prev_kv = self.dice.chance(30);
        DeleteRangeRequest { key, range_end, prev_kv }
    }

    fn lease(&mut self) -> i64 {
        let leases = self.load.leases.lock();
        if leases.is_empty() { 0 } else { *self.dice.pick(&leases[leases.len().saturating_sub(8)..]) }
    }

    fn choose(&mut self) -> Op {
        let (chance, grants) = (self.dice.within(0..100), 45..45 + self.cluster.plan.leases);
        match chance {
            _ if grants.contains(&chance) => {
                let id = self.load.unique.fetch_add(1, Ordering::Relaxed) as i64 + 1;
                Op::Grant { id, ttl: self.dice.within(1..8) as i64 }
            }
            0..15 if self.cluster.plan.leases > 2 => {
                let lease = self.lease();
                Op::Put(self.put(lease))
            }
            0..38 => Op::Put(self.put(0)),
            38..45 => Op::Delete(self.delete()),
            45..72 => Op::Range(self.get()),
            72..86 => Op::Txn(self.txn()),
            86..92 => {
                let lease = self.lease();
                Op::Put(self.put(lease))
            }
            92..93 => Op::Revoke(self.lease()),
            93..96 => Op::KeepAlive(self.lease()),
            96..98 => {
                let below = self.load.witnessed.load(Ordering::Relaxed);
                let back = self.dice.within(0..30) as i64;
                Op::Compact((below - 1 - back).max(1))
            }
            _ => Op::Range(RangeRequest { serializable: true, ..self.get() }),
        }
    }

    /// Compares the version or the newest revision of a key, then does some of everything.
    fn txn(&mut self) -> TxnRequest {
        let (target, target_union) = match self.dice.within(0..3) {
            0 => (CompareTarget::Version, TargetUnion::Version(0)),
            1 => (CompareTarget::Version, TargetUnion::Version(self.dice.within(0..4) as i64)),
            _ => {
                let newest = self.load.newest.load(Ordering::Relaxed) as u64;
                (CompareTarget::Mod, TargetUnion::ModRevision(self.dice.within(0..newest + 2) as i64))
            }
        };
        let result = *self.dice.pick(&[CompareResult::Equal, CompareResult::Greater, CompareResult::Less]);
        let compare = Compare {
            result: result as i32,
            target: target as i32,
            key: self.key(),
            target_union: Some(target_union),
            ..Default::default()
        };
        let (success, failure) = (self.ops(), self.ops());
        TxnRequest { compare: vec![compare], success, failure }
    }

    fn ops(&mut self) -> Vec<RequestOp> {
        let mut ops = Vec::new();
        let first = self.dice.within(0..self.cluster.plan.keys);
        for n in 0..self.dice.within(1..4) {
            // A key is written once in a transaction.
            let key = Bytes::from(format!("k{:02}", first + n));
            let request = match self.dice.within(0..5) {
                0..3 => Request::RequestPut(PutRequest { key, value: self.value(), ..Default::default() }),
                3 => Request::RequestDeleteRange(DeleteRangeRequest { key, ..Default::default() }),
                _ => Request::RequestRange(RangeRequest { key: self.key(), ..Default::default() }),
            };
            ops.push(RequestOp { request: Some(request) });
        }
        ops
    }
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Asks the services as a connection's task does.
async fn ask(ctx: Arc<Context>, op: Op, unchecked: bool) -> Result<Outcome, Status> {
    let (kv, leases) = (KvService::new(ctx.clone()), LeaseService::new(ctx));
    Ok(match op {
        Op::Put(put) => Outcome::Put(kv.put(put).await?),
        Op::Delete(delete) => Outcome::Delete(kv.delete_range(delete).await?),
        Op::Range(mut range) => {
            range.serializable |= unchecked;
            Outcome::Range(kv.range_message(range).await?)
        }
        Op::Txn(txn) => Outcome::Txn(kv.txn(txn).await?),
        Op::Compact(revision_to) => {
            let compaction = CompactionRequest { revision: revision_to, physical: false };
            Outcome::Done(revision(kv.compact(compaction).await?.header))
        }
        Op::Grant { id, ttl } => Outcome::Done(revision(leases.grant(LeaseGrantRequest { ttl, id }).await?.header)),
        Op::Revoke(id) => Outcome::Done(revision(leases.revoke(LeaseRevokeRequest { id }).await?.header)),
        Op::KeepAlive(id) => {
            let one = futures_util::stream::iter([Ok(LeaseKeepAliveRequest { id })]);
            let mut answers = std::pin::pin!(leases.keep_alive_stream(one));
            match answers.next().await {
                Some(answer) => {
                    let answer = answer?;
                    if answer.ttl > 0 {
                        Outcome::Done(revision(answer.header))
                    } else {
                        Outcome::Refused("gone".to_owned())
                    }
                }
                None => Outcome::Unknown,
            }
        }
    })
}

/// What an error means for the call: only what the state machine or the checks before it refuse is for certain.
fn refusal(status: &Status) -> Outcome {
    match status.code() {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::ResourceExhausted => Outcome::Refused(status.message().to_owned()),
        _ => Outcome::Unknown,
    }
}

fn brief(op: &Op) -> String {
    match op {
        Op::Put(put) => format!("put {:?} lease {}", put.key, put.lease),
        Op::Delete(delete) => format!("delete {:?} {:?}", delete.key, delete.range_end),
        Op::Range(range) => format!("get {:?} {:?} at {}", range.key, range.range_end, range.revision),
        Op::Txn(txn) => format!("txn {:?}", txn.compare[0].key),
        other => format!("{other:?}"),
    }
}

fn brief_outcome(call: &Call) -> String {
    match (&call.outcome, call.revision()) {
        (_, Some(revision)) => revision.to_string(),
        (Outcome::Refused(why), _) => format!("refused: {why}"),
        _ => "?".to_owned(),
    }
}

/// How long a client waits for anything at the end of a run.
pub const PATIENCE: Duration = Duration::from_secs(120);
