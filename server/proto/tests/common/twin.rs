//! Messages written down a second time, with prost's own encoding, to hold the hand-written ones against.

#![allow(dead_code, reason = "each test uses its part")]

use bytes::Bytes;
use proptest::prelude::*;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TwinKeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TwinEvent {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub kv: Option<TwinKeyValue>,
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<TwinKeyValue>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TwinRangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<TwinKeyValue>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TwinWatchResponse {
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<TwinEvent>,
}

/// Long enough for lengths of two bytes, and often empty.
fn some_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), prop::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from)]
}

fn some_int() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 1..300_i64, Just(i64::MAX), Just(i64::MIN), Just(-1), any::<i64>()]
}

pub fn key_value() -> impl Strategy<Value = TwinKeyValue> {
    (some_bytes(), some_int(), some_int(), some_int(), some_bytes(), some_int()).prop_map(
        |(key, create_revision, mod_revision, version, value, lease)| TwinKeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        },
    )
}

pub fn event() -> impl Strategy<Value = TwinEvent> {
    (-2..4_i32, prop::option::of(key_value()), prop::option::of(key_value()))
        .prop_map(|(kind, kv, prev_kv)| TwinEvent { kind, kv, prev_kv })
}
