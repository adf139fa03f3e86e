//! A `mvccpb.KeyValue` that is its own encoding.
//!
//! The bytes are canonical: exactly what Go's generated code writes. Fields stand in the order of their numbers, each at
//! most once, zero values are left out, every varint is as short as it can be. That makes equal revisions equal bytes, on
//! every member and in every backup. No value of this type ever holds anything else.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plain;

const KEY: u32 = 1;
const CREATE_REVISION: u32 = 2;
const MOD_REVISION: u32 = 3;
const VERSION: u32 = 4;
const VALUE: u32 = 5;
const LEASE: u32 = 6;

/// Bytes to spare when decoding field by field: the four integers, each at its longest.
const ROOM: usize = 4 * 11;

/// The bytes offered are no canonical `mvccpb.KeyValue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical mvccpb.KeyValue: {what} at byte {at}")]
pub struct NotCanonical {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the start of the encoding.
    pub at: usize,
}

/// The fields of a [`KeyValue`], borrowed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyValueParts<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created the key's current life.
    pub create_revision: i64,
    /// The revision that wrote this.
    pub mod_revision: i64,
    /// How many writes the key's current life has seen; 0 in a tombstone.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease the key hangs on; 0 for none.
    pub lease: i64,
}

/// One revision of a key, as its canonical encoding. A clone shares the bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyValue(Bytes);

impl KeyValue {
    /// Encodes `parts`. One allocation, of exactly the encoded size.
    #[must_use]
    pub fn new(parts: &KeyValueParts<'_>) -> Self {
        let mut out = BytesMut::with_capacity(parts.encoded_len());
        parts.encode(&mut out);
        Self(out.freeze())
    }

    /// Takes bytes from a disk or a peer as they are.
    ///
    /// # Errors
    /// [`NotCanonical`] if encoding their fields again would give other bytes.
    pub fn from_canonical(bytes: Bytes) -> Result<Self, NotCanonical> {
        scan(&bytes)?;
        Ok(Self(bytes))
    }

    /// What a deletion leaves in the store: the key alone.
    #[must_use]
    pub fn tombstone(key: &[u8]) -> Self {
        Self::new(&KeyValueParts { key, ..KeyValueParts::default() })
    }

    /// All fields, in one pass over the encoding.
    #[must_use]
    pub fn parts(&self) -> KeyValueParts<'_> {
        scan(&self.0).expect("every constructor leaves canonical bytes").0
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.parts().key
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.parts().value
    }

    /// The key, sharing these bytes.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        self.0.slice_ref(self.key())
    }

    /// The value, sharing these bytes.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        self.0.slice_ref(self.value())
    }

    /// The lease, 0 for none.
    #[must_use]
    pub fn lease(&self) -> i64 {
        self.parts().lease
    }

    /// The revision that created the key's current life.
    #[must_use]
    pub fn create_revision(&self) -> i64 {
        self.parts().create_revision
    }

    /// The revision that wrote this.
    #[must_use]
    pub fn mod_revision(&self) -> i64 {
        self.parts().mod_revision
    }

    /// How many writes the key's current life has seen.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.parts().version
    }

    /// The encoding.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0
    }

    /// The same revision without its value, as a Range with `keys_only` answers it.
    #[must_use]
    pub fn without_value(&self) -> Self {
        let parts = self.parts();
        if parts.value.is_empty() {
            return self.clone();
        }
        Self::new(&KeyValueParts { value: &[], ..parts })
    }

    /// Whether every field has its default.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that are known to be canonical: a part of an encoding that was checked as a whole.
    pub(crate) fn trusted(bytes: Bytes) -> Self {
        debug_assert!(scan(&bytes).is_ok());
        Self(bytes)
    }

    /// Appends one field. The caller has seen that it comes after all fields that are there.
    fn append(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) {
        let mut out = match std::mem::take(&mut self.0).try_into_mut() {
            Ok(own) => own,
            Err(shared) => {
                let mut copy = BytesMut::with_capacity(shared.len() + len + ROOM);
                copy.put_slice(&shared);
                copy
            }
        };
        write(&mut out);
        self.0 = out.freeze();
    }

    fn set_int(&mut self, tag: u32, to: i64) {
        let (parts, last) = scan(&self.0).expect("every constructor leaves canonical bytes");
        if tag > last {
            self.append(int_len(tag, to), |out| put_int(tag, to, out));
            return;
        }
        let mut parts = parts;
        match tag {
            CREATE_REVISION => parts.create_revision = to,
            MOD_REVISION => parts.mod_revision = to,
            VERSION => parts.version = to,
            _ => parts.lease = to,
        }
        *self = Self::new(&parts);
    }

    fn set_bytes(&mut self, tag: u32, to: &[u8]) {
        let (parts, last) = scan(&self.0).expect("every constructor leaves canonical bytes");
        if tag > last {
            self.append(bytes_len(tag, to), |out| put_bytes(tag, to, out));
            return;
        }
        let mut parts = parts;
        match tag {
            KEY => parts.key = to,
            _ => parts.value = to,
        }
        *self = Self::new(&parts);
    }
}

impl KeyValueParts<'_> {
    /// Bytes that [`KeyValue::new`] makes of these.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        bytes_len(KEY, self.key)
            + int_len(CREATE_REVISION, self.create_revision)
            + int_len(MOD_REVISION, self.mod_revision)
            + int_len(VERSION, self.version)
            + bytes_len(VALUE, self.value)
            + int_len(LEASE, self.lease)
    }

    /// Appends the canonical encoding to `out`: what [`KeyValue::raw`] would hold.
    pub fn encode(&self, out: &mut impl BufMut) {
        put_bytes(KEY, self.key, out);
        put_int(CREATE_REVISION, self.create_revision, out);
        put_int(MOD_REVISION, self.mod_revision, out);
        put_int(VERSION, self.version, out);
        put_bytes(VALUE, self.value, out);
        put_int(LEASE, self.lease, out);
    }
}

impl Message for KeyValue {
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
        match tag {
            KEY | VALUE => {
                let mut to = Bytes::new();
                encoding::bytes::merge(wire_type, &mut to, buf, ctx)?;
                self.set_bytes(tag, &to);
            }
            CREATE_REVISION | MOD_REVISION | VERSION | LEASE => {
                let mut to = 0;
                encoding::int64::merge(wire_type, &mut to, buf, ctx)?;
                self.set_int(tag, to);
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx)?,
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

impl fmt::Debug for KeyValueParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &format_args!("\"{}\"", self.key.escape_ascii()))
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("version", &self.version)
            .field("value", &format_args!("\"{}\"", self.value.escape_ascii()))
            .field("lease", &self.lease)
            .finish()
    }
}

impl From<&KeyValue> for plain::KeyValue {
    fn from(kv: &KeyValue) -> Self {
        let parts = kv.parts();
        Self {
            key: kv.0.slice_ref(parts.key),
            create_revision: parts.create_revision,
            mod_revision: parts.mod_revision,
            version: parts.version,
            value: kv.0.slice_ref(parts.value),
            lease: parts.lease,
        }
    }
}

impl From<&plain::KeyValue> for KeyValue {
    fn from(kv: &plain::KeyValue) -> Self {
        Self::new(&KeyValueParts {
            key: &kv.key,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: &kv.value,
            lease: kv.lease,
        })
    }
}

impl Serialize for KeyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        plain::KeyValue::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&plain::KeyValue::deserialize(deserializer)?))
    }
}

/// The fields, and the number of the last one that is there.
fn scan(bytes: &[u8]) -> Result<(KeyValueParts<'_>, u32), NotCanonical> {
    let mut parts = KeyValueParts::default();
    let mut last = 0;
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let wrong = |what| NotCanonical { what, at: start };
        // Every field number is below 16: its key is one byte.
        let (tag, wire) = (u32::from(bytes[at] >> 3), bytes[at] & 7);
        at += 1;
        if tag <= last {
            return Err(wrong("field out of order"));
        }
        last = tag;
        let number = take_varint(bytes, &mut at)?;
        if number == 0 {
            return Err(wrong("zero field"));
        }
        match (tag, wire) {
            (KEY | VALUE, 2) => {
                let len = usize::try_from(number).map_err(|_| wrong("field too long"))?;
                let rest = &bytes[at..];
                let field = rest.get(..len).ok_or_else(|| wrong("field cut short"))?;
                at += len;
                if tag == KEY {
                    parts.key = field;
                } else {
                    parts.value = field;
                }
            }
            (CREATE_REVISION, 0) => parts.create_revision = number.cast_signed(),
            (MOD_REVISION, 0) => parts.mod_revision = number.cast_signed(),
            (VERSION, 0) => parts.version = number.cast_signed(),
            (LEASE, 0) => parts.lease = number.cast_signed(),
            _ => return Err(wrong("unknown field")),
        }
    }
    Ok((parts, last))
}

/// A varint of the shortest form.
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Result<u64, NotCanonical> {
    let start = *at;
    let wrong = |what| NotCanonical { what, at: start };
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(|| wrong("number cut short"))?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return Err(wrong("number too large"));
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                return Err(wrong("number longer than needed"));
            }
            return Ok(number);
        }
    }
    Err(wrong("number too large"))
}

fn int_len(tag: u32, to: i64) -> usize {
    if to == 0 { 0 } else { encoding::int64::encoded_len(tag, &to) }
}

fn put_int(tag: u32, to: i64, out: &mut impl BufMut) {
    if to != 0 {
        encoding::int64::encode(tag, &to, out);
    }
}

fn bytes_len(tag: u32, to: &[u8]) -> usize {
    if to.is_empty() { 0 } else { encoding::key_len(tag) + encoding::encoded_len_varint(to.len() as u64) + to.len() }
}

fn put_bytes(tag: u32, to: &[u8], out: &mut impl BufMut) {
    if !to.is_empty() {
        encoding::encode_key(tag, WireType::LengthDelimited, out);
        encoding::encode_varint(to.len() as u64, out);
        out.put_slice(to);
    }
}
