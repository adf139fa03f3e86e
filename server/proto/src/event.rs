//! A `mvccpb.Event` that is its own encoding.
//!
//! As with [`KeyValue`] the bytes are canonical, so that one event is encoded once and sent to every watcher as it is.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::plain::event::EventType;
use crate::{
    key_value::{KeyValue, KeyValueParts, take_varint},
    plain,
};

const TYPE: u32 = 1;
const KV: u32 = 2;
const PREV_KV: u32 = 3;

/// One change of one key, as its canonical encoding. A clone shares the bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Event(Bytes);

/// The fields. The type is kept as its number, which a newer peer may have given a meaning.
#[derive(Default)]
struct Parts {
    kind: i32,
    kv: Option<KeyValue>,
    prev_kv: Option<KeyValue>,
    /// Where `prev_kv`, the last field, begins; the end if there is none.
    prev_at: usize,
}

impl Event {
    /// `kv` was written, over `prev` if the watcher asked for that.
    #[must_use]
    pub fn put(kv: &KeyValue, prev: Option<&KeyValue>) -> Self {
        encode(EventType::Put as i32, Some(kv), prev)
    }

    /// `key` was deleted at `mod_revision`; it was `prev` before.
    #[must_use]
    pub fn delete(key: &[u8], mod_revision: i64, prev: Option<&KeyValue>) -> Self {
        let kv = KeyValue::new(&KeyValueParts { key, mod_revision, ..KeyValueParts::default() });
        encode(EventType::Delete as i32, Some(&kv), prev)
    }

    /// What happened. A number without a name counts as a put, as protobuf has it.
    #[must_use]
    pub fn type_(&self) -> EventType {
        EventType::try_from(self.split().kind).unwrap_or_default()
    }

    /// The key as the change left it; a deletion carries key and `mod_revision` only.
    #[must_use]
    pub fn kv(&self) -> KeyValue {
        self.split().kv.unwrap_or_default()
    }

    /// The key as it was before, if that was asked for and is known.
    #[must_use]
    pub fn prev_kv(&self) -> Option<KeyValue> {
        self.split().prev_kv
    }

    /// The same event for a watcher that did not ask for `prev_kv`, sharing these bytes.
    #[must_use]
    pub fn without_prev_kv(&self) -> Self {
        Self(self.0.slice(..self.split().prev_at))
    }

    /// The encoding.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0
    }

    /// The fields, sharing these bytes.
    fn split(&self) -> Parts {
        const SOUND: &str = "every constructor leaves canonical bytes";
        let mut parts = Parts { prev_at: self.0.len(), ..Parts::default() };
        let mut at = 0;
        while at < self.0.len() {
            let start = at;
            let tag = u32::from(self.0[at] >> 3);
            at += 1;
            let number = take_varint(&self.0, &mut at).expect(SOUND);
            if tag == TYPE {
                // An enum is an int32 on the wire, sign-extended: the low half is the number.
                parts.kind = number as i32;
                continue;
            }
            let end = at + usize::try_from(number).expect(SOUND);
            let kv = KeyValue::trusted(self.0.slice(at..end));
            at = end;
            if tag == KV {
                parts.kv = Some(kv);
            } else {
                parts.prev_kv = Some(kv);
                parts.prev_at = start;
            }
        }
        parts
    }
}

fn encode(kind: i32, kv: Option<&KeyValue>, prev_kv: Option<&KeyValue>) -> Event {
    let embedded = [(KV, kv), (PREV_KV, prev_kv)];
    let mut len = if kind == 0 { 0 } else { encoding::int32::encoded_len(TYPE, &kind) };
    for (tag, kv) in embedded {
        len += kv.map_or(0, |kv| encoding::message::encoded_len(tag, kv));
    }
    let mut out = BytesMut::with_capacity(len);
    if kind != 0 {
        encoding::int32::encode(TYPE, &kind, &mut out);
    }
    for (tag, kv) in embedded {
        if let Some(kv) = kv {
            encoding::message::encode(tag, kv, &mut out);
        }
    }
    Event(out.freeze())
}

impl Message for Event {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if !matches!(tag, TYPE | KV | PREV_KV) {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut parts = self.split();
        match tag {
            TYPE => encoding::int32::merge(wire_type, &mut parts.kind, buf, ctx)?,
            KV => {
                let kv = parts.kv.get_or_insert_default();
                encoding::message::merge(wire_type, kv, buf, ctx)?;
            }
            _ => {
                let kv = parts.prev_kv.get_or_insert_default();
                encoding::message::merge(wire_type, kv, buf, ctx)?;
            }
        }
        *self = encode(parts.kind, parts.kv.as_ref(), parts.prev_kv.as_ref());
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.split();
        f.debug_struct("Event")
            .field("type", &EventType::try_from(parts.kind).unwrap_or_default())
            .field("kv", &parts.kv)
            .field("prev_kv", &parts.prev_kv)
            .finish()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = self.split();
        let event = plain::Event {
            r#type: parts.kind,
            kv: parts.kv.as_ref().map(Into::into),
            prev_kv: parts.prev_kv.as_ref().map(Into::into),
        };
        event.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let event = plain::Event::deserialize(deserializer)?;
        let [kv, prev_kv] = [&event.kv, &event.prev_kv].map(|kv| kv.as_ref().map(KeyValue::from));
        Ok(encode(event.r#type, kv.as_ref(), prev_kv.as_ref()))
    }
}
