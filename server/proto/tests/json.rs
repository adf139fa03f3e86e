//! JSON as etcd's gateway takes and gives it.

use bytes::Bytes;
use keepstone_proto::{
    Event, KeyValue, KeyValueParts,
    etcdserverpb::{
        AlarmMember, AlarmResponse, AlarmType, Compare, LeaseGrantRequest, LeaseTimeToLiveResponse, Member,
        MemberAddRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
        TxnRequest, TxnResponse, WatchRequest, WatchResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        response_op::Response,
        watch_request::RequestUnion,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect(text)
}

fn write(message: &impl Serialize) -> Value {
    serde_json::to_value(message).expect("serializes")
}

fn kv() -> KeyValue {
    KeyValue::new(&KeyValueParts {
        key: b"foo",
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: b"bar\xff",
        lease: i64::MAX,
    })
}

fn kv_json() -> Value {
    json!({
        "key": "Zm9v",
        "create_revision": "2",
        "mod_revision": "3",
        "version": "2",
        "value": "YmFy/w==",
        "lease": "9223372036854775807",
    })
}

#[test]
fn a_range_request_comes_in_either_spelling() {
    let expected = RangeRequest {
        key: Bytes::from_static(b"foo"),
        range_end: Bytes::from_static(b"fop"),
        limit: 10,
        revision: 4,
        sort_order: SortOrder::Descend as i32,
        sort_target: SortTarget::Mod as i32,
        keys_only: true,
        min_mod_revision: 1,
        ..RangeRequest::default()
    };
    let snake = r#"{"key":"Zm9v","range_end":"Zm9w","limit":"10","revision":4,"sort_order":"DESCEND",
        "sort_target":"MOD","keys_only":true,"min_mod_revision":"1"}"#;
    let camel = r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":10,"revision":"4","sortOrder":2,
        "sortTarget":3,"keysOnly":true,"minModRevision":"1"}"#;
    assert_eq!(read::<RangeRequest>(snake), expected);
    assert_eq!(read::<RangeRequest>(camel), expected);
}

#[test]
fn bytes_come_in_either_alphabet_with_or_without_padding() {
    for text in ["-_8=", "-_8", "+/8=", "+/8"] {
        let request: PutRequest = read(&format!(r#"{{"key":"{text}"}}"#));
        assert_eq!(request.key, Bytes::from_static(&[0xfb, 0xff]), "{text}");
    }
    assert!(serde_json::from_str::<PutRequest>(r#"{"key":"no base64!"}"#).is_err());
}

#[test]
fn unknown_names_are_let_pass() {
    let request: PutRequest = read(r#"{"key":"Zm9v","later":{"version":[1,2]}}"#);
    assert_eq!(request.key, Bytes::from_static(b"foo"));
}

#[test]
fn a_range_response_goes_out_as_etcd_prints_it() {
    let response = RangeResponse {
        header: Some(ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision: 3, raft_term: 2 }),
        kvs: vec![kv()],
        more: false,
        count: 1,
    };
    let expected = json!({
        "header": {
            "cluster_id": "18446744073709551615",
            "member_id": "1",
            "revision": "3",
            "raft_term": "2",
        },
        "kvs": [kv_json()],
        "count": "1",
    });
    assert_eq!(write(&response), expected);
    assert_eq!(read::<RangeResponse>(&expected.to_string()), response);
}

#[test]
fn defaults_are_left_out() {
    assert_eq!(write(&RangeResponse::default()), json!({}));
    assert_eq!(write(&KeyValue::default()), json!({}));
    assert_eq!(write(&KeyValue::tombstone(b"foo")), json!({ "key": "Zm9v" }));
    assert_eq!(write(&Event::default()), json!({}));
}

#[test]
fn a_key_value_comes_in_either_spelling() {
    assert_eq!(read::<KeyValue>(&kv_json().to_string()), kv());
    let camel = r#"{"key":"Zm9v","createRevision":2,"modRevision":"3","version":2,"value":"YmFy/w",
        "lease":"9223372036854775807"}"#;
    assert_eq!(read::<KeyValue>(camel), kv());
    assert_eq!(read::<KeyValue>("{}"), KeyValue::default());
}

#[test]
fn events_go_out_as_etcd_prints_them() {
    let response = WatchResponse {
        events: vec![Event::put(&kv(), None), Event::delete(b"foo", 4, Some(&kv()))],
        ..WatchResponse::default()
    };
    let expected = json!({ "events": [
        { "kv": kv_json() },
        { "type": "DELETE", "kv": { "key": "Zm9v", "mod_revision": "4" }, "prev_kv": kv_json() },
    ]});
    assert_eq!(write(&response), expected);
    assert_eq!(read::<WatchResponse>(&expected.to_string()), response);
}

#[test]
fn a_transaction_comes_in_either_spelling() {
    let expected = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::NotEqual as i32,
            target: CompareTarget::Create as i32,
            key: Bytes::from_static(b"foo"),
            target_union: Some(TargetUnion::CreateRevision(5)),
            range_end: Bytes::new(),
        }],
        success: vec![RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: Bytes::from_static(b"foo"),
                value: Bytes::from_static(b"bar"),
                ..PutRequest::default()
            })),
        }],
        failure: vec![RequestOp {
            request: Some(Request::RequestRange(RangeRequest {
                key: Bytes::from_static(b"foo"),
                ..RangeRequest::default()
            })),
        }],
    };
    let camel = r#"{"compare":[{"result":"NOT_EQUAL","target":"CREATE","key":"Zm9v","createRevision":"5"}],
        "success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}}],
        "failure":[{"requestRange":{"key":"Zm9v"}}]}"#;
    let snake = r#"{"compare":[{"result":3,"target":"CREATE","key":"Zm9v","create_revision":5}],
        "success":[{"request_put":{"key":"Zm9v","value":"YmFy"}}],
        "failure":[{"request_range":{"key":"Zm9v"}}]}"#;
    assert_eq!(read::<TxnRequest>(camel), expected);
    assert_eq!(read::<TxnRequest>(snake), expected);
}

#[test]
fn a_transaction_nests() {
    let request: TxnRequest =
        read(r#"{"success":[{"requestTxn":{"success":[{"requestDeleteRange":{"key":"Zm9v"}}]}}]}"#);
    let Some(Request::RequestTxn(inner)) = &request.success[0].request else {
        panic!("{request:?}");
    };
    assert!(matches!(inner.success[0].request, Some(Request::RequestDeleteRange(_))));
}

#[test]
fn a_oneof_set_to_zero_is_set() {
    let compare: Compare = read(r#"{"target":"VERSION","key":"Zm9v","version":"0"}"#);
    assert_eq!(compare.target_union, Some(TargetUnion::Version(0)));
    assert_eq!(write(&compare), json!({ "key": "Zm9v", "version": "0" }));
}

#[test]
fn a_transaction_s_answer_keeps_empty_members() {
    let response = TxnResponse {
        header: None,
        succeeded: true,
        responses: vec![ResponseOp { response: Some(Response::ResponsePut(PutResponse::default())) }],
    };
    assert_eq!(write(&response), json!({ "succeeded": true, "responses": [{ "response_put": {} }] }));
}

#[test]
fn a_watch_is_created() {
    let request: WatchRequest = read(r#"{"create_request":{"key":"Zm9v","filters":["NODELETE"],"watch_id":"7"}}"#);
    let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
        panic!("{request:?}");
    };
    assert_eq!((create.watch_id, create.filters), (7, vec![1]));
}

#[test]
fn names_in_capitals_stay_in_capitals() {
    let grant = LeaseGrantRequest { ttl: 10, id: 5 };
    assert_eq!(write(&grant), json!({ "TTL": "10", "ID": "5" }));
    assert_eq!(read::<LeaseGrantRequest>(r#"{"TTL":10,"ID":"5"}"#), grant);

    let left = LeaseTimeToLiveResponse { granted_ttl: 9, keys: vec![Bytes::from_static(b"foo")], ..Default::default() };
    assert_eq!(write(&left), json!({ "grantedTTL": "9", "keys": ["Zm9v"] }));

    let urls = vec!["http://127.0.0.1:2380".to_owned()];
    let member =
        Member { id: 1, name: "a".into(), peer_urls: urls.clone(), client_urls: urls.clone(), is_learner: true };
    let expected = json!({ "ID": "1", "name": "a", "peerURLs": urls, "clientURLs": urls, "isLearner": true });
    assert_eq!(write(&member), expected);
    assert_eq!(read::<Member>(&expected.to_string()), member);

    let add: MemberAddRequest = read(r#"{"peerURLs":["http://127.0.0.1:2380"],"isLearner":true}"#);
    assert_eq!((add.peer_urls, add.is_learner), (urls, true));
}

#[test]
fn enums_go_out_by_name() {
    let response =
        AlarmResponse { header: None, alarms: vec![AlarmMember { member_id: 3, alarm: AlarmType::Nospace as i32 }] };
    assert_eq!(write(&response), json!({ "alarms": [{ "memberID": "3", "alarm": "NOSPACE" }] }));
}
