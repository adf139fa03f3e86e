//! `KeyValue` against a twin that prost derives: the same bytes out, the same fields in.

#[path = "common/twin.rs"]
mod twin;

use bytes::{BufMut, Bytes, BytesMut};
use keepstone_proto::{KeyValue, KeyValueParts, etcdserverpb::RangeResponse};
use proptest::prelude::*;
use prost::{Message, encoding};
use twin::{TwinKeyValue, TwinRangeResponse, key_value};

fn ours(twin: &TwinKeyValue) -> KeyValue {
    KeyValue::new(&parts(twin))
}

fn parts(twin: &TwinKeyValue) -> KeyValueParts<'_> {
    KeyValueParts {
        key: &twin.key,
        create_revision: twin.create_revision,
        mod_revision: twin.mod_revision,
        version: twin.version,
        value: &twin.value,
        lease: twin.lease,
    }
}

/// One field as a careless writer might put it: any order, zeros and all.
fn put_field(twin: &TwinKeyValue, field: usize, out: &mut BytesMut) {
    match field {
        0 => encoding::bytes::encode(1, &twin.key, out),
        1 => encoding::int64::encode(2, &twin.create_revision, out),
        2 => encoding::int64::encode(3, &twin.mod_revision, out),
        3 => encoding::int64::encode(4, &twin.version, out),
        4 => encoding::bytes::encode(5, &twin.value, out),
        5 => encoding::int64::encode(6, &twin.lease, out),
        _ => encoding::string::encode(15, &"from a later version".to_owned(), out),
    }
}

proptest! {
    #[test]
    fn encodes_as_the_twin_does(twin in key_value()) {
        let kv = ours(&twin);
        let bytes = twin.encode_to_vec();
        prop_assert_eq!(&kv.encode_to_vec(), &bytes);
        prop_assert_eq!(&kv.raw()[..], &bytes[..]);
        prop_assert_eq!(kv.encoded_len(), bytes.len());
        prop_assert_eq!(parts(&twin).encoded_len(), bytes.len());
        prop_assert_eq!(KeyValue::decode(&bytes[..]).expect("sound"), kv.clone());
        prop_assert_eq!(KeyValue::from_canonical(bytes.into()).expect("canonical"), kv);
    }

    #[test]
    fn answers_the_twin_s_fields(twin in key_value()) {
        let kv = ours(&twin);
        prop_assert_eq!(kv.parts(), parts(&twin));
        prop_assert_eq!(kv.key(), &twin.key[..]);
        prop_assert_eq!(kv.value(), &twin.value[..]);
        prop_assert_eq!(kv.key_bytes(), twin.key.clone());
        prop_assert_eq!(kv.value_bytes(), twin.value.clone());
        prop_assert_eq!(kv.create_revision(), twin.create_revision);
        prop_assert_eq!(kv.mod_revision(), twin.mod_revision);
        prop_assert_eq!(kv.version(), twin.version);
        prop_assert_eq!(kv.lease(), twin.lease);
        let bare = TwinKeyValue { value: Bytes::new(), ..twin };
        prop_assert_eq!(kv.without_value(), ours(&bare));
    }

    #[test]
    fn decodes_to_canonical_bytes_whatever_the_order(
        first in key_value(),
        second in key_value(),
        fields in prop::collection::vec((any::<bool>(), 0_usize..7), 0..20),
    ) {
        let mut wire = BytesMut::new();
        for (which, field) in fields {
            put_field(if which { &first } else { &second }, field, &mut wire);
        }
        let twin = TwinKeyValue::decode(&wire[..]).expect("sound");
        let kv = KeyValue::decode(&wire[..]).expect("sound");
        prop_assert_eq!(&kv.raw()[..], &twin.encode_to_vec()[..]);
    }

    #[test]
    fn is_spliced_into_an_answer(twins in prop::collection::vec(key_value(), 0..5)) {
        let answer = RangeResponse { kvs: twins.iter().map(ours).collect(), ..RangeResponse::default() };
        let bytes = TwinRangeResponse { kvs: twins }.encode_to_vec();
        prop_assert_eq!(&answer.encode_to_vec(), &bytes);
        prop_assert_eq!(RangeResponse::decode(&bytes[..]).expect("sound"), answer);
    }

    #[test]
    fn takes_canonical_bytes_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let again = TwinKeyValue::decode(&bytes[..]).map(|twin| twin.encode_to_vec());
        let canonical = again.is_ok_and(|again| again == bytes);
        prop_assert_eq!(KeyValue::from_canonical(bytes.into()).is_ok(), canonical);
    }

    #[test]
    fn takes_no_damaged_encoding(twin in key_value(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = twin.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = to;
        let again = TwinKeyValue::decode(&bytes[..]).map(|twin| twin.encode_to_vec());
        let canonical = again.is_ok_and(|again| again == bytes);
        prop_assert_eq!(KeyValue::from_canonical(bytes.into()).is_ok(), canonical);
    }
}

#[test]
fn refuses_what_go_would_not_write() {
    let cases: [(&[u8], &str); 8] = [
        (b"\x10\x01\x0a\x01k", "field out of order"),
        (b"\x0a\x01k\x0a\x01k", "field out of order"),
        (b"\x0a\x00", "zero field"),
        (b"\x10\x81\x00", "number longer than needed"),
        (b"\x0a\x02k", "field cut short"),
        (b"\x10\x80", "number cut short"),
        (b"\x38\x01", "unknown field"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "number too large"),
    ];
    for (bytes, what) in cases {
        let error = KeyValue::from_canonical(Bytes::from_static(bytes)).expect_err(what);
        assert_eq!(error.what, what, "{bytes:?}");
    }
}

#[test]
fn a_clone_shares_the_bytes() {
    let kv = KeyValue::new(&KeyValueParts { key: b"k", value: b"v", ..Default::default() });
    let clone = kv.clone();
    assert_eq!(kv.raw().as_ptr(), clone.raw().as_ptr());
    assert_eq!(kv.value_bytes().as_ptr(), kv.value().as_ptr());
}

#[test]
fn merging_leaves_a_clone_as_it_was() {
    let mut kv = KeyValue::tombstone(b"k");
    let before = kv.clone();
    let mut wire = BytesMut::new();
    encoding::int64::encode(3, &7, &mut wire);
    kv.merge(&wire[..]).expect("sound");
    assert_eq!(kv.mod_revision(), 7);
    assert_eq!(before, KeyValue::tombstone(b"k"));
}

#[test]
fn the_default_is_empty() {
    let mut kv = KeyValue::tombstone(b"k");
    assert!(!kv.is_empty());
    assert_eq!(kv.raw(), &Bytes::from_static(b"\x0a\x01k"));
    kv.clear();
    assert!(kv.is_empty());
    assert_eq!(kv, KeyValue::default());
    assert_eq!(kv.parts(), KeyValueParts::default());
}

#[test]
fn parts_encode_to_the_same_bytes() {
    let parts = KeyValueParts { key: b"key", create_revision: -1, lease: i64::MIN, ..Default::default() };
    let mut out = Vec::new();
    out.put_u8(0xff);
    parts.encode(&mut out);
    assert_eq!(&out[1..], &KeyValue::new(&parts).raw()[..]);
}

#[test]
fn prints_its_fields() {
    let kv = KeyValue::new(&KeyValueParts { key: b"a\x00", mod_revision: 3, ..Default::default() });
    let text = format!("{kv:?}");
    assert!(text.contains(r#"key: "a\x00""#) && text.contains("mod_revision: 3"), "{text}");
}
