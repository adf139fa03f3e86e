//! `Event` against a twin that prost derives.

#[path = "common/twin.rs"]
mod twin;

use bytes::BytesMut;
use keepstone_proto::{Event, KeyValue, KeyValueParts, etcdserverpb::WatchResponse, mvccpb::EventType};
use proptest::prelude::*;
use prost::{Message, encoding};
use twin::{TwinEvent, TwinKeyValue, TwinWatchResponse, event, key_value};

fn canonical(twin: &TwinKeyValue) -> KeyValue {
    KeyValue::from_canonical(twin.encode_to_vec().into()).expect("canonical")
}

proptest! {
    #[test]
    fn a_put_encodes_as_the_twin_does(kv in key_value(), prev_kv in prop::option::of(key_value())) {
        let prev = prev_kv.as_ref().map(canonical);
        let event = Event::put(&canonical(&kv), prev.as_ref());
        prop_assert_eq!(event.type_(), EventType::Put);
        prop_assert_eq!(event.kv(), canonical(&kv));
        prop_assert_eq!(event.prev_kv(), prev);
        let twin = TwinEvent { kind: 0, kv: Some(kv), prev_kv };
        prop_assert_eq!(&event.encode_to_vec(), &twin.encode_to_vec());
        prop_assert_eq!(event.encoded_len(), event.raw().len());
    }

    #[test]
    fn a_deletion_carries_key_and_revision(
        key in prop::collection::vec(any::<u8>(), 0..40),
        mod_revision in any::<i64>(),
        prev_kv in prop::option::of(key_value()),
    ) {
        let prev = prev_kv.as_ref().map(canonical);
        let event = Event::delete(&key, mod_revision, prev.as_ref());
        prop_assert_eq!(event.type_(), EventType::Delete);
        let kv = event.kv();
        prop_assert_eq!(kv.parts(), KeyValueParts { key: &key, mod_revision, ..Default::default() });
        prop_assert_eq!(event.prev_kv(), prev);
        let kv = TwinKeyValue { key: key.into(), mod_revision, ..Default::default() };
        let twin = TwinEvent { kind: 1, kv: Some(kv), prev_kv };
        prop_assert_eq!(&event.encode_to_vec(), &twin.encode_to_vec());
    }

    #[test]
    fn decodes_what_the_twin_decodes(twin in event()) {
        let bytes = twin.encode_to_vec();
        let event = Event::decode(&bytes[..]).expect("sound");
        prop_assert_eq!(&event.raw()[..], &bytes[..]);
        prop_assert_eq!(event.kv(), twin.kv.as_ref().map(canonical).unwrap_or_default());
        prop_assert_eq!(event.prev_kv(), twin.prev_kv.as_ref().map(canonical));
        let kind = EventType::try_from(twin.kind).unwrap_or_default();
        prop_assert_eq!(event.type_(), kind);
        let bare = TwinEvent { prev_kv: None, ..twin };
        prop_assert_eq!(event.without_prev_kv().encode_to_vec(), bare.encode_to_vec());
    }

    #[test]
    fn decodes_fields_in_any_order_and_number(
        twins in prop::collection::vec((event(), 0_usize..4), 0..8),
    ) {
        let mut wire = BytesMut::new();
        for (twin, field) in &twins {
            match (field, &twin.kv, &twin.prev_kv) {
                (0, _, _) => encoding::int32::encode(1, &twin.kind, &mut wire),
                (1, Some(kv), _) => encoding::message::encode(2, kv, &mut wire),
                (2, _, Some(kv)) => encoding::message::encode(3, kv, &mut wire),
                _ => encoding::int64::encode(9, &1, &mut wire),
            }
        }
        let twin = TwinEvent::decode(&wire[..]).expect("sound");
        let event = Event::decode(&wire[..]).expect("sound");
        prop_assert_eq!(&event.raw()[..], &twin.encode_to_vec()[..]);
    }

    #[test]
    fn is_spliced_into_an_answer(twins in prop::collection::vec(event(), 0..4)) {
        let events = twins.iter().map(|twin| Event::decode(&twin.encode_to_vec()[..]).expect("sound"));
        let answer = WatchResponse { events: events.collect(), ..WatchResponse::default() };
        let bytes = TwinWatchResponse { events: twins }.encode_to_vec();
        prop_assert_eq!(&answer.encode_to_vec(), &bytes);
        prop_assert_eq!(WatchResponse::decode(&bytes[..]).expect("sound"), answer);
    }
}

#[test]
fn what_it_answers_shares_its_bytes() {
    let event = Event::put(&KeyValue::tombstone(b"k"), None);
    let within = event.raw().as_ptr_range();
    assert!(within.contains(&event.kv().raw().as_ptr()));
}

#[test]
fn prints_its_fields() {
    let text = format!("{:?}", Event::delete(b"gone", 9, None));
    assert!(text.contains("Delete") && text.contains("gone") && text.contains('9'), "{text}");
}
