//! What clients ask for. Every value is written once, so that a change tells whose it is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use keepstone_check::Op;
use keepstone_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keepstone_proto::etcdserverpb::request_op::Request;
use keepstone_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use rand::Rng as _;
use rand::rngs::StdRng;

/// Keys that all clients share.
const KEYS: u32 = 40;
/// Keys of a transaction follow each other and go past the others by at most this.
const TXN: u32 = 3;

/// Something broken on purpose between members and clients, which the verdict must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// All reads are sent as serializable ones.
    StaleReads,
    /// A watch now and then loses an event.
    LostEvents,
    /// A write now and then is acknowledged, but another was carried out.
    LostWrites,
}

/// What all clients of a round know of each other.
#[derive(Debug, Default)]
pub struct Shared {
    pub plant: Option<Plant>,
    pub unique: AtomicU64,
    /// The newest revision that any answer named.
    pub newest: AtomicI64,
    /// The first revision that a watch of everything has not seen. Compactions stay below it.
    pub witnessed: AtomicI64,
}

/// Chooses for one client.
pub struct Chooser<'a> {
    pub rng: &'a mut StdRng,
    pub shared: &'a Shared,
    /// Leases that it was granted.
    pub leases: &'a [i64],
}

impl Chooser<'_> {
    pub fn choose(&mut self) -> Op {
        match self.rng.random_range(0..100) {
            0..36 => Op::Put(self.put(0)),
            36..42 => Op::Delete(self.delete()),
            42..58 => Op::Range(self.get()),
            58..68 => Op::Range(RangeRequest { serializable: true, ..self.get() }),
            68..84 => Op::Txn(self.txn()),
            84..88 => Op::Grant { id: self.unique(), ttl: if self.rng.random() { 2 } else { 60 } },
            88..92 if !self.leases.is_empty() => {
                let lease = self.lease();
                Op::Put(self.put(lease))
            }
            92..94 if !self.leases.is_empty() => Op::Revoke(self.lease()),
            94..98 if !self.leases.is_empty() => Op::KeepAlive(self.lease()),
            98 => {
                let below = self.shared.witnessed.load(Ordering::Relaxed) - self.rng.random_range(1..300);
                if below > 1 { Op::Compact(below) } else { Op::Put(self.put(0)) }
            }
            _ => Op::Put(self.put(0)),
        }
    }

    fn unique(&self) -> i64 {
        self.shared.unique.fetch_add(1, Ordering::Relaxed) as i64 + 1
    }

    fn lease(&mut self) -> i64 {
        self.leases[self.rng.random_range(0..self.leases.len())]
    }

    fn key(&mut self) -> Bytes {
        format!("k{:02}", self.rng.random_range(0..KEYS)).into()
    }

    fn value(&mut self) -> Bytes {
        let most = if self.rng.random_ratio(1, 40) { 6000 } else { 80 };
        let len = self.rng.random_range(0..most);
        format!("{} {}", self.unique(), "x".repeat(len)).into()
    }

    pub fn put(&mut self, lease: i64) -> PutRequest {
        let prev_kv = self.rng.random_ratio(1, 4);
        PutRequest { key: self.key(), value: self.value(), lease, prev_kv, ..Default::default() }
    }

    fn range(&mut self) -> (Bytes, Bytes) {
        match self.rng.random_range(0..12) {
            0 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            1 => {
                let from = self.rng.random_range(0..KEYS);
                (format!("k{from:02}").into(), format!("k{:02}", from + 4).into())
            }
            _ => (self.key(), Bytes::new()),
        }
    }

    fn get(&mut self) -> RangeRequest {
        let (key, range_end) = self.range();
        let newest = self.shared.newest.load(Ordering::Relaxed);
        let past = newest > 2 && self.rng.random_ratio(1, 8);
        RangeRequest {
            key,
            range_end,
            limit: if self.rng.random_ratio(1, 5) { 3 } else { 0 },
            revision: if past { self.rng.random_range((newest - 500).max(1)..=newest) } else { 0 },
            count_only: self.rng.random_ratio(1, 20),
            keys_only: self.rng.random_ratio(1, 20),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (mut key, mut range_end) = self.range();
        if range_end.len() > 1 && self.rng.random_ratio(2, 3) {
            (key, range_end) = (self.key(), Bytes::new());
        }
        DeleteRangeRequest { key, range_end, prev_kv: self.rng.random_ratio(1, 4) }
    }

    /// Compares a key's version or newest revision, then does some of everything.
    fn txn(&mut self) -> TxnRequest {
        let newest = self.shared.newest.load(Ordering::Relaxed);
        let (target, target_union) = match self.rng.random_range(0..3) {
            0 => (CompareTarget::Version, TargetUnion::Version(0)),
            1 => (CompareTarget::Version, TargetUnion::Version(self.rng.random_range(0..4))),
            _ => {
                (CompareTarget::Mod, TargetUnion::ModRevision(self.rng.random_range((newest - 60).max(0)..=newest + 1)))
            }
        };
        let result = [CompareResult::Equal, CompareResult::Greater, CompareResult::Less][self.rng.random_range(0..3)];
        let compare = Compare {
            result: result as i32,
            target: target as i32,
            key: self.key(),
            target_union: Some(target_union),
            ..Default::default()
        };
        TxnRequest { compare: vec![compare], success: self.ops(), failure: self.ops() }
    }

    fn ops(&mut self) -> Vec<RequestOp> {
        let first = self.rng.random_range(0..KEYS);
        let many = self.rng.random_range(1..=TXN);
        let mut ops = Vec::new();
        for n in 0..many {
            // A key is written once in a transaction.
            let key = Bytes::from(format!("k{:02}", first + n));
            let request = match self.rng.random_range(0..5) {
                0..3 => Request::RequestPut(PutRequest { key, value: self.value(), ..Default::default() }),
                3 => Request::RequestDeleteRange(DeleteRangeRequest { key, ..Default::default() }),
                _ => Request::RequestRange(RangeRequest { key: self.key(), ..Default::default() }),
            };
            ops.push(RequestOp { request: Some(request) });
        }
        ops
    }
}
