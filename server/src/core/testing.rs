//! A member's heart without the member, for tests: over any store, without a log or a clock.

use keepstone_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use keepstone_store::{Options, Store};

use super::*;

/// An empty one.
pub fn core(store: Arc<dyn Store>, options: Options, watch: Hub) -> Arc<Core> {
    let identity = Identity { cluster_id: 7, member_id: MemberId(8) };
    let (records, _) = RecordStore::open(store, options).expect("open");
    let metrics = Metrics::new(crate::metrics::Options::default());
    let checkpoint = Checkpoint { records, state: State::new(), applied: Applied::default(), rebuilt: false };
    Arc::new(Core::new(identity, checkpoint, watch, metrics, Awaiting::default(), Book::default()))
}

/// Applies one put.
pub fn put(core: &Core, key: impl Into<Bytes>, value: impl Into<Bytes>) {
    let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    let request = InternalRaftRequest { put: Some(put), ..Default::default() };
    let mut effects = Effects::default();
    let mut state = core.state.write();
    state.apply(1, 1, &request, &*core.records, &mut effects).expect("the store is there").expect("a put");
    core.publish(&state, effects, &Applied::default());
}
