//! Counts what goes to the other members and comes from them, under etcd's names. Nothing here decides anything.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use keepstone_state::MemberId;
use parking_lot::Mutex;

use super::PeerError;
use crate::metrics::{Metrics, Peer};

/// All of a member's traffic with the others. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Traffic {
    inner: Arc<Inner>,
}

struct Inner {
    me: MemberId,
    metrics: Arc<Metrics>,
    peers: Mutex<HashMap<MemberId, Peer>>,
}

impl Traffic {
    pub fn new(me: MemberId, metrics: Arc<Metrics>) -> Self {
        Self { inner: Arc::new(Inner { me, metrics, peers: Mutex::default() }) }
    }

    /// The counters of the traffic with one member.
    pub fn with(&self, other: MemberId) -> Peer {
        let Inner { me, metrics, peers } = &*self.inner;
        peers.lock().entry(other).or_insert_with(|| metrics.network.peer(me.0, other.0)).clone()
    }

    /// A message had an answer: the member is there.
    pub fn answered(&self, by: MemberId) {
        let peer = self.with(by);
        if peer.active.get() == 0 {
            peer.active.set(1);
            tracing::info!("remote-peer-id" = format!("{:x}", by.0), "peer became active");
        }
    }

    /// A message had none. Counts as a failure to send if the member was not reached; one that refuses or fails was.
    pub fn failed(&self, error: &PeerError) {
        let to = match error {
            PeerError::NotSent { to, .. } | PeerError::Unreachable { to, .. } | PeerError::Timeout { to } => *to,
            PeerError::Refused { .. } | PeerError::Removed { .. } | PeerError::Failed { .. } => return,
        };
        let peers = self.with(to);
        peers.send_failures.inc();
        // Under the lock: of several connections that break at once one counts.
        let _one_at_a_time = self.inner.peers.lock();
        if peers.active.get() == 1 {
            peers.active.set(0);
            peers.disconnected.inc();
            tracing::warn!("remote-peer-id" = format!("{:x}", to.0), %error, "peer became inactive");
        }
    }

    /// Counts bodies as they are sent.
    pub fn sending(&self, to: MemberId, bodies: BoxStream<'static, Bytes>) -> BoxStream<'static, Bytes> {
        let peer = self.with(to);
        bodies.inspect(move |body| peer.sent_bytes.inc_by(body.len() as u64)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Options;

    const OTHER: MemberId = MemberId(0xab);

    #[test]
    fn a_member_that_is_not_reached_is_disconnected_once() {
        let metrics = Metrics::new(Options::default());
        let traffic = Traffic::new(MemberId(1), metrics.clone());
        let unreachable = PeerError::Unreachable { to: OTHER, why: "no".to_owned() };
        traffic.failed(&unreachable);
        traffic.answered(OTHER);
        traffic.failed(&PeerError::Failed { to: OTHER, why: "it can't".to_owned() });
        let peer = traffic.with(OTHER);
        assert_eq!((peer.active.get(), peer.disconnected.get(), peer.send_failures.get()), (1, 0, 1));
        traffic.failed(&unreachable);
        traffic.failed(&PeerError::Timeout { to: OTHER });
        assert_eq!((peer.active.get(), peer.disconnected.get(), peer.send_failures.get()), (0, 1, 3));
        let text = metrics.render();
        assert!(text.contains("etcd_network_disconnected_peers_total{Local=\"1\",Remote=\"ab\"} 1\n"), "{text}");
    }
}
