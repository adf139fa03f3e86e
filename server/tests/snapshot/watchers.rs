//! What watchers of a member see of a snapshot that it installs.

use std::future::poll_fn;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use keepstone::watch::{Feeder, Settings, first_message};
use keepstone_proto::etcdserverpb::watch_request::RequestUnion;
use keepstone_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use prost::Message;

use crate::member::{Cluster, Member};
use crate::transfer::history;

/// The responses of one call, as a connection would take them.
struct Responses {
    feeder: Feeder,
    chunk: Bytes,
}

impl Responses {
    async fn next(&mut self) -> WatchResponse {
        if self.chunk.is_empty() {
            let chunk = poll_fn(|cx| self.feeder.poll_chunk(cx));
            let chunk = tokio::time::timeout(Duration::from_secs(60), chunk).await.expect("a response in time");
            self.chunk = chunk.expect("the stream goes on");
        }
        let (message, len) = first_message(&self.chunk).expect("a whole message");
        let response = WatchResponse::decode(message).expect("a response");
        self.chunk.advance(len);
        response
    }

    /// Whether nothing is there to be taken now.
    fn is_silent(&mut self) -> bool {
        self.chunk.is_empty() && self.feeder.poll_chunk(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

async fn watch(member: &Member, start_revision: i64) -> Responses {
    let create = WatchCreateRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        start_revision,
        ..Default::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let settings = Settings { progress_interval: Duration::from_secs(600), fragment_bytes: 1 << 20 };
    let requests = Box::pin(stream::iter([Ok(request)]).chain(stream::pending()));
    let feeder = Feeder::new(member.core.clone(), &member.hub_thread, settings, requests);
    let mut responses = Responses { feeder, chunk: Bytes::new() };
    let created = responses.next().await;
    assert!(created.created && !created.canceled);
    responses
}

/// The revisions of all events up to `last`.
async fn revisions(responses: &mut Responses, last: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| *seen < last) {
        let response = responses.next().await;
        assert!(!response.canceled, "canceled at {}", response.compact_revision);
        for event in &response.events {
            seen.push(event.kv().parts().mod_revision);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_go_on_from_their_cursor_without_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    let leader = cluster.leader();
    leader.put("first", "x").await;
    cluster.settled().await;
    let from = leader.core.revision();
    // One in step, one that begins in the past, one that begins in the future.
    let mut in_step = watch(cluster.last(), 0).await;
    let mut past = watch(cluster.last(), 2).await;
    assert_eq!(revisions(&mut past, from).await, (2..=from).collect::<Vec<_>>());
    let mut future = watch(cluster.last(), from + 50).await;
    cluster.net.cut_off(3);
    for n in 0..100 {
        leader.put(&format!("key-{n}"), "x").await;
    }
    leader.purge().await;
    cluster.net.heal(3);
    cluster.settled().await;
    assert_eq!(cluster.last().core.epoch(), 1, "it was a snapshot");
    for n in 0..10 {
        leader.put(&format!("after-{n}"), "x").await;
    }
    let last = leader.core.revision();
    assert_eq!(revisions(&mut in_step, last).await, (from + 1..=last).collect::<Vec<_>>());
    assert_eq!(revisions(&mut past, last).await, (from + 1..=last).collect::<Vec<_>>());
    assert_eq!(revisions(&mut future, last).await, (from + 50..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_whose_history_is_gone_are_told_the_compact_revision() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    let mut watcher = watch(cluster.last(), 0).await;
    let mut later = watch(cluster.last(), 10_000).await;
    cluster.net.cut_off(3);
    history(cluster.leader(), 100, 40).await;
    cluster.leader().purge().await;
    cluster.net.heal(3);
    cluster.settled().await;
    assert_eq!(cluster.last().core.epoch(), 1, "it was a snapshot");
    let gone = watcher.next().await;
    assert!(gone.canceled);
    assert_eq!(gone.compact_revision, cluster.leader().core.compact_revision());
    assert!(later.is_silent(), "a watcher of what is to come waits");
}
