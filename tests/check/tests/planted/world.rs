//! A made-up history that is right: calls that overlap in time, carried out one after another on the model.

use std::time::Duration;

use bytes::Bytes;
use keepstone_check::{
    Call, Checked, Delivery, History, Model, Op, Outcome, Summary, WatchLog, check_calls, check_watch,
};
use keepstone_proto::Event;
use keepstone_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keepstone_proto::etcdserverpb::request_op::Request;
use keepstone_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub struct World {
    pub calls: Vec<Call>,
    pub watch: WatchLog,
    pub model: Model,
    rng: StdRng,
    values: u64,
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), prev_kv: true, ..Default::default() }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

pub fn everything() -> WatchLog {
    let all = Bytes::from_static(&[0]);
    let deliveries = vec![Delivery::Started(1), Delivery::Created(1)];
    WatchLog {
        name: "all".to_owned(),
        key: all.clone(),
        range_end: all,
        prev_kv: true,
        deliveries,
        ..Default::default()
    }
}

fn with_header(outcome: Outcome, revision: i64) -> Outcome {
    let header = Some(ResponseHeader { revision, ..Default::default() });
    match outcome {
        Outcome::Put(answer) => Outcome::Put(keepstone_proto::etcdserverpb::PutResponse { header, ..answer }),
        Outcome::Delete(answer) => {
            Outcome::Delete(keepstone_proto::etcdserverpb::DeleteRangeResponse { header, ..answer })
        }
        Outcome::Range(answer) => Outcome::Range(keepstone_proto::etcdserverpb::RangeResponse { header, ..answer }),
        Outcome::Txn(answer) => Outcome::Txn(keepstone_proto::etcdserverpb::TxnResponse { header, ..answer }),
        other => other,
    }
}

impl World {
    pub fn empty(seed: u64) -> Self {
        let (watch, rng) = (everything(), StdRng::seed_from_u64(seed));
        Self { calls: Vec::new(), watch, model: Model::default(), rng, values: 0 }
    }

    /// With so many calls of all kinds.
    pub fn random(seed: u64, calls: usize) -> Self {
        let mut world = Self::empty(seed);
        for _ in 0..calls {
            let op = world.any_op();
            let unknown = world.rng.random_ratio(1, 8);
            let happens = !unknown || world.rng.random();
            world.call(op, unknown, happens);
        }
        world
    }

    fn key(&mut self) -> String {
        format!("k{}", self.rng.random_range(0..6))
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    fn any_op(&mut self) -> Op {
        let (key, other, value) = (self.key(), self.key(), self.value());
        match self.rng.random_range(0..10) {
            0..4 => Op::Put(put(&key, &value)),
            4 => Op::Delete(DeleteRangeRequest { key: key.into(), prev_kv: true, ..Default::default() }),
            5 => Op::Delete(DeleteRangeRequest { key: "k2".into(), range_end: "k5".into(), ..Default::default() }),
            6 => Op::Range(RangeRequest { range_end: "z".into(), limit: 3, ..get("a") }),
            7 => Op::Range(RangeRequest { revision: self.rng.random_range(1..=self.model.revision()), ..get(&key) }),
            8 => Op::Range(get(&key)),
            _ => Op::Txn(txn(&key, &other, &value, &self.value())),
        }
    }

    /// Carries a call out at the next moment, begun before and ended after it.
    pub fn call(&mut self, op: Op, unknown: bool, happens: bool) {
        let now = Duration::from_millis(100 * (self.calls.len() as u64 + 10));
        let begun = now - Duration::from_millis(self.rng.random_range(1..400));
        let ended = now + Duration::from_millis(self.rng.random_range(1..400));
        let outcome = if happens { self.carry_out(&op) } else { Outcome::Unknown };
        let outcome = if unknown { Outcome::Unknown } else { outcome };
        self.calls.push(Call { client: self.calls.len() as u64, begun, ended, op, outcome });
    }

    pub fn carry_out(&mut self, op: &Op) -> Outcome {
        let before = self.model.revision();
        let (answer, events) = self.model.write(op);
        let now = self.model.revision();
        self.deliver(events);
        with_header(if now > before { answer } else { self.model.read(op, now) }, now)
    }

    pub fn deliver(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let revision = self.model.revision();
        match self.watch.deliveries.last_mut() {
            Some(Delivery::Events { revision: header, events: many }) if self.rng.random() => {
                *header = revision;
                many.extend(events);
            }
            _ => self.watch.deliveries.push(Delivery::Events { revision, events }),
        }
        if self.rng.random_ratio(1, 9) {
            self.watch.deliveries.push(Delivery::Progress(revision));
        }
    }

    pub fn check(&self) -> Checked<Summary> {
        let history = History::of([&self.watch])?;
        let (summary, model) = check_calls(&history, &self.calls, 0)?;
        check_watch(&self.watch, &history, &model, &[])?;
        Ok(summary)
    }

    pub fn broken(&self, says: &str) {
        let violation = self.check().expect_err(says).to_string();
        assert!(violation.contains(says), "{violation} does not say {says:?}");
    }
}

/// Puts both keys if the first is not there; otherwise deletes it and reads.
pub fn txn(key: &str, other: &str, value: &str, second: &str) -> TxnRequest {
    let absent = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let op = |request| RequestOp { request: Some(request) };
    let delete = DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    let mut success = vec![op(Request::RequestPut(put(key, value)))];
    if other != key {
        success.push(op(Request::RequestPut(put(other, second))));
    }
    let failure = vec![op(Request::RequestDeleteRange(delete)), op(Request::RequestRange(get(other)))];
    TxnRequest { compare: vec![absent], success, failure }
}
