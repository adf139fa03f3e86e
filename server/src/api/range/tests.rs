//! Long answers against the same answers made in memory, and what becomes of those that nobody reads.

use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt as _;
use keepstone_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keepstone_store::testing::MemStore;
use prost::Message as _;

use super::allowance::{ALL_BYTES, Allowance, KEPT_BYTES};
use super::*;
use crate::api::pace::Pace;
use crate::core::testing;
use crate::watch::Hub;

const KEYS: usize = 3000;

/// Applies `value` under a numbered key.
fn put(core: &Core, key: usize, value: Vec<u8>) {
    testing::put(core, format!("k{key:06}"), value);
}

/// About 6 MB: more than is kept, in an order of values, versions and revisions that is not the keys'.
pub fn filled() -> Arc<Core> {
    let core = testing::core(Arc::new(MemStore::new()), keepstone_store::Options::default(), Hub::new(0).0);
    for n in 0..KEYS {
        put(&core, n * 7919 % KEYS, vec![b'a' + (n % 23) as u8; 2000 + n % 300]);
    }
    for n in 0..KEYS / 3 {
        put(&core, n * 4801 % KEYS, vec![b'A' + (n % 20) as u8; 2100 - n % 300]);
    }
    core
}

pub fn everything() -> RangeRequest {
    RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() }
}

fn requests() -> Vec<RangeRequest> {
    let all = everything();
    let mut requests = vec![
        all.clone(),
        RangeRequest { revision: 3100, ..all.clone() },
        RangeRequest { revision: 2500, limit: 2400, ..all.clone() },
        RangeRequest { limit: 2990, ..all.clone() },
        RangeRequest { limit: 3000, ..all.clone() },
        RangeRequest { limit: 9000, ..all.clone() },
        RangeRequest { min_mod_revision: 300, ..all.clone() },
        RangeRequest { max_create_revision: 2900, limit: 2500, ..all.clone() },
        RangeRequest { keys_only: true, ..all.clone() },
        RangeRequest { count_only: true, ..all.clone() },
    ];
    for target in [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value] {
        for order in [SortOrder::None, SortOrder::Ascend, SortOrder::Descend] {
            for (limit, keys_only) in [(0, false), (0, true), (5, false), (2700, false), (5000, false)] {
                let (sort_target, sort_order) = (target as i32, order as i32);
                requests.push(RangeRequest { sort_target, sort_order, limit, keys_only, ..all.clone() });
            }
        }
    }
    requests
}

async fn whole(core: &Core, request: &RangeRequest) -> RangeResponse {
    let mut response =
        finish(Reading::start(core, request).expect("a revision"), &mut usize::MAX.clone()).await.expect("an answer");
    response.header = Some(core.header(response.header.expect("a header").revision));
    response
}

async fn large(core: &Arc<Core>, allowance: &Allowance, request: RangeRequest) -> Option<Large> {
    match answer(core, allowance, request).await.expect("an answer") {
        Answered::Small(_) => None,
        Answered::Large(large) => Some(large),
    }
}

/// Waits for what another thread is about to do.
async fn until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it happens soon");
}

#[tokio::test]
async fn a_long_answer_is_that_of_a_short_one() {
    let (core, allowance) = (filled(), Allowance::default());
    let mut long = 0;
    for request in requests() {
        let wanted = whole(&core, &request).await;
        for format in [Format::Grpc, Format::Json] {
            match answer(&core, &allowance, request.clone()).await.expect("an answer") {
                Answered::Small(mut response) => {
                    response.header = wanted.header;
                    assert!(response == wanted, "{request:?}");
                }
                Answered::Large(large) => {
                    long += 1;
                    let body = large.body(format).expect("the first to ask").collect().await.expect("a body");
                    assert!(large.body(format).is_none());
                    let ok = body.trailers().map(|trailers| trailers["grpc-status"].as_bytes().to_vec());
                    assert_eq!(ok.as_deref(), (format == Format::Grpc).then_some(&b"0"[..]));
                    let bytes = body.to_bytes();
                    match format {
                        Format::Grpc => assert!(bytes[5..] == wanted.encode_to_vec(), "{request:?}"),
                        Format::Json => assert!(bytes == serde_json::to_vec(&wanted).expect("JSON"), "{request:?}"),
                    }
                }
            }
        }
    }
    assert!(long > 60, "{long} long answers");
    until(|| allowance.is_whole() && core.pins.lowest().is_none()).await;
}

#[tokio::test]
async fn who_needs_a_message_gets_a_long_one_whole() {
    let (core, allowance) = (filled(), Allowance::default());
    let large = large(&core, &allowance, everything()).await.expect("a long answer");
    assert!(large.message().await.expect("a message") == whole(&core, &everything()).await);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_lets_go_of_its_revision_and_memory() {
    let (core, allowance) = (filled(), Allowance::default());
    for request in [everything(), RangeRequest { limit: 1000, ..everything() }] {
        let large = large(&core, &allowance, request).await.expect("a long answer");
        assert!(!allowance.is_whole());
        let body = large.body_at(Format::Grpc, Pace::new(Duration::from_millis(5))).expect("the first to ask");
        until(|| allowance.is_whole() && core.pins.lowest().is_none()).await;
        let error = body.collect().await.expect_err("it broke off");
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn an_answer_whose_client_has_gone_lets_go_too() {
    let (core, allowance) = (filled(), Allowance::default());
    let never_sent = large(&core, &allowance, everything()).await.expect("a long answer");
    let half_sent = large(&core, &allowance, everything()).await.expect("a long answer");
    let mut body = half_sent.body(Format::Grpc).expect("the first to ask");
    assert!(body.frame().await.expect("a frame").is_ok());
    drop((never_sent, body));
    until(|| allowance.is_whole() && core.pins.lowest().is_none()).await;
}

#[tokio::test]
async fn an_answer_waits_for_memory_and_holds_nothing_meanwhile() {
    let (core, allowance) = (filled(), Allowance::default());
    let all = allowance.take(ALL_BYTES).await.expect("it is whole");
    let mut call = std::pin::pin!(large(&core, &allowance, everything()));
    // It looks at the range, and lets go of it again.
    loop {
        let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        if core.pins.lowest().is_none() {
            break;
        }
    }
    put(&core, KEYS, vec![b'z'; 10]);
    drop(all);
    let answered = call.await.expect("a long answer").message().await.expect("a message");
    assert_eq!(answered.header.expect("a header").revision, core.revision());
    assert_eq!(answered.count, KEYS as i64 + 1);
}

#[tokio::test]
async fn a_list_that_lost_its_revision_ends_as_compacted() {
    let (core, allowance) = (filled(), Allowance::default());
    let large = large(&core, &allowance, everything()).await.expect("a long answer");
    let mut body = large.body(Format::Grpc).expect("the first to ask");
    assert!(body.frame().await.expect("a frame").is_ok());
    {
        let _state = core.state.write();
        core.pins.revoke_lists_below(core.pins.lowest().expect("it is pinned") + 1);
    }
    let rest = body.collect().await.expect("trailers");
    let end = Status::from_header_map(rest.trailers().expect("trailers")).expect("a status");
    assert_eq!(end.message(), "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn small_answers_need_no_allowance_and_nothing_is_read_twice_before_one_is_long() {
    let (core, allowance) = (filled(), Allowance::default());
    let _all = allowance.take(ALL_BYTES).await.expect("it is whole");
    let request = RangeRequest { limit: 100, ..everything() };
    assert!(large(&core, &allowance, request).await.is_none());
    let keys = RangeRequest { keys_only: true, ..everything() };
    assert!(large(&core, &allowance, keys).await.is_none());
    const { assert!(KEPT_BYTES < KEYS * 2000, "the long answers of these tests are not kept") };
}

#[tokio::test]
async fn a_txn_answers_only_what_its_memory_holds() {
    let (core, request) = (filled(), everything());
    let reading = || Reading::start(&core, &request).expect("a revision");
    let bytes = finish(reading(), &mut usize::MAX.clone()).await.expect("an answer");
    let bytes: usize = bytes.kvs.iter().map(|kv| kv.raw().len()).sum();
    assert!(finish(reading(), &mut bytes.clone()).await.is_ok());
    let error = finish(reading(), &mut bytes.saturating_sub(1)).await.expect_err("it is too large");
    assert_eq!(error.message(), "etcdserver: request is too large");
}
