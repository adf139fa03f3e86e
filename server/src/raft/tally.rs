//! Counts what was applied, the way etcd counts: operations inside a transaction as such, and the transaction itself if
//! it had more than one.

use keepstone_proto::etcdserverpb::TxnResponse;
use keepstone_proto::etcdserverpb::response_op::Response;
use keepstone_state::{Effects, Record, Reply};

use crate::metrics::Mvcc;

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
    use keepstone_proto::etcdserverpb::{PutResponse, ResponseOp};
    use keepstone_proto::{KeyValue, KeyValueParts};
    use keepstone_state::Revision;

    use super::*;
    use crate::metrics::{Metrics, Options};

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
