//! Counts what was applied, the way etcd counts: operations inside a transaction as such, and the transaction itself if
//! it had more than one.

use std::time::Duration;

use keepstone_proto::etcdserverpb::response_op::Response;
use keepstone_proto::etcdserverpb::{InternalRaftRequest, TxnResponse};
use keepstone_state::{Effects, Error, Record, Reply};

use super::types::Proposal;
use crate::metrics::{Metrics, Mvcc};

/// What a request asks for, by etcd's name of it; none for what is no request there.
fn op(request: &InternalRaftRequest) -> Option<&'static str> {
    Some(match request {
        r if r.put.is_some() => "Put",
        r if r.txn.is_some() => "Txn",
        r if r.delete_range.is_some() => "DeleteRange",
        r if r.range.is_some() => "Range",
        r if r.lease_grant.is_some() => "LeaseGrant",
        r if r.lease_revoke.is_some() || r.lease_expire.is_some() => "LeaseRevoke",
        r if r.lease_checkpoint.is_some() => "LeaseCheckpoint",
        r if r.compaction.is_some() => "Compaction",
        r if r.alarm.is_some() => "Alarm",
        r if r.cluster_version_set.is_some() => "ClusterVersionSet",
        r if r.cluster_member_attr_set.is_some() => "ClusterMemberAttrSet",
        r if r.downgrade_info_set.is_some() => "DowngradeInfoSet",
        _ => return None,
    })
}

/// Notes how long an entry took to apply: each of its requests the same part, for they are not timed one by one.
pub fn timed(metrics: &Metrics, proposal: &Proposal, replies: &[Result<Reply, Error>], took: Duration) {
    let server = &metrics.server;
    let requests = proposal.requests.len().max(1);
    if let Some(slow) = metrics.slow_apply().filter(|slow| took > *slow) {
        server.slow_applies.inc_by(requests as u64);
        tracing::warn!(?took, "expected-duration" = ?slow, requests, "apply request took too long");
    }
    let seconds = took.as_secs_f64() / requests as f64;
    let each = proposal.requests.iter().zip(replies);
    let each: Vec<_> = each.filter_map(|(request, reply)| Some((op(&request.decoded)?, reply.is_ok()))).collect();
    for alike in each.chunk_by(|a, b| a == b) {
        let (op, success) = alike[0];
        server.apply.observe_many(op, success, seconds, alike.len());
    }
}

/// Operations of one run of requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    ranges: u64,
    puts: u64,
    deletes: u64,
    txns: u64,
}

impl Tally {
    /// Counts an applied request by its answer.
    pub fn add(&mut self, reply: &Reply) {
        match reply {
            Reply::Range(_) => self.ranges += 1,
            Reply::Put(_) => self.puts += 1,
            Reply::DeleteRange(_) => self.deletes += 1,
            Reply::Txn(txn) => {
                let before = self.operations();
                self.add_txn(txn);
                self.txns += u64::from(self.operations() > before + 1);
            }
            _ => {}
        }
    }

    fn operations(&self) -> u64 {
        self.ranges + self.puts + self.deletes
    }

    fn add_txn(&mut self, txn: &TxnResponse) {
        for response in txn.responses.iter().filter_map(|op| op.response.as_ref()) {
            match response {
                Response::ResponseRange(_) => self.ranges += 1,
                Response::ResponsePut(_) => self.puts += 1,
                Response::ResponseDeleteRange(_) => self.deletes += 1,
                Response::ResponseTxn(nested) => self.add_txn(nested),
            }
        }
    }

    /// Hands the counts on; `effects` are the run's.
    pub fn report(&self, mvcc: &Mvcc, effects: &Effects) {
        mvcc.ranges.inc_by(self.ranges);
        mvcc.puts.inc_by(self.puts);
        mvcc.deletes.inc_by(self.deletes);
        mvcc.txns.inc_by(self.txns);
        let puts = effects.records.iter().filter(|record| !record.tombstone);
        let bytes = |record: &Record| {
            let kv = record.kv.parts();
            (kv.key.len() + kv.value.len()) as i64
        };
        mvcc.put_bytes.add(puts.map(bytes).sum());
    }
}

#[cfg(test)]
mod tests {
    use keepstone_proto::etcdserverpb::{LeaseGrantRequest, PutRequest, PutResponse, ResponseOp};
    use keepstone_proto::{KeyValue, KeyValueParts};
    use keepstone_state::Revision;

    use super::*;
    use crate::metrics::Options;
    use crate::raft::types::Request;

    #[test]
    fn bytes_put_are_those_of_keys_and_values() {
        let metrics = Metrics::new(Options::default());
        let record = |main, tombstone, value: &'static [u8]| {
            let parts = KeyValueParts { key: b"key", mod_revision: main, value, ..Default::default() };
            Record { at: Revision::new(main, 0), tombstone, prev: None, kv: KeyValue::new(&parts) }
        };
        let records = vec![record(2, false, b"value"), record(3, false, b""), record(4, true, b"")];
        Tally::default().report(&metrics.mvcc, &Effects { records, ..Effects::default() });
        assert_eq!(metrics.mvcc.put_bytes.get(), 11);
    }

    #[test]
    fn an_entrys_time_is_shared_out_by_what_was_asked_for() {
        let slow_apply = Some(Duration::from_millis(100));
        let metrics = Metrics::new(Options { slow_apply, ..Options::default() });
        let put = || InternalRaftRequest { put: Some(PutRequest::default()), ..Default::default() };
        let grant = InternalRaftRequest { lease_grant: Some(LeaseGrantRequest::default()), ..Default::default() };
        let requests = [put(), put(), put(), grant, InternalRaftRequest::default()].map(Request::new);
        let answers = [Ok(Reply::Done), Ok(Reply::Done), Err(Error::NoSpace), Ok(Reply::Done), Ok(Reply::Done)];
        timed(&metrics, &Proposal { requests: requests.into() }, &answers, Duration::from_millis(500));
        assert_eq!(metrics.server.slow_applies.get(), 5);
        let text = metrics.render();
        for (labels, count, sum) in [
            (r#"op="Put",success="true""#, 2, "0.2"),
            (r#"op="Put",success="false""#, 1, "0.1"),
            (r#"op="LeaseGrant",success="true""#, 1, "0.1"),
        ] {
            let family = "etcd_server_apply_duration_seconds";
            assert!(text.contains(&format!("{family}_count{{{labels},version=\"v3\"}} {count}\n")), "{text}");
            assert!(text.contains(&format!("{family}_sum{{{labels},version=\"v3\"}} {sum}\n")), "{text}");
        }
    }

    #[test]
    fn a_txn_counts_when_it_did_more_than_one_thing() {
        let put = || ResponseOp { response: Some(Response::ResponsePut(PutResponse::default())) };
        let mut tally = Tally::default();
        tally.add(&Reply::Txn(TxnResponse { responses: vec![put()], ..Default::default() }));
        assert_eq!(tally, Tally { puts: 1, ..Tally::default() });
        let nested = TxnResponse { responses: vec![put(), put()], ..Default::default() };
        let nested = ResponseOp { response: Some(Response::ResponseTxn(nested)) };
        tally.add(&Reply::Txn(TxnResponse { responses: vec![nested], ..Default::default() }));
        assert_eq!(tally, Tally { puts: 3, txns: 1, ..Tally::default() });
    }
}
