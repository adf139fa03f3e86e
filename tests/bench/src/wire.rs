//! The few etcd messages a load needs, encoded and read by hand: only the fields used here, in protobuf's wire format.

pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";

pub fn varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 128 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// A varint field; zero is left out, as proto3 does.
pub fn int(field: u64, v: u64, out: &mut Vec<u8>) {
    if v != 0 {
        varint(field << 3, out);
        varint(v, out);
    }
}

/// A length-delimited field; an empty one is left out.
pub fn bytes(field: u64, v: &[u8], out: &mut Vec<u8>) {
    if !v.is_empty() {
        varint(field << 3 | 2, out);
        varint(v.len() as u64, out);
        out.extend_from_slice(v);
    }
}

fn nested(field: u64, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::with_capacity(64);
    fill(&mut inner);
    varint(field << 3 | 2, out);
    varint(inner.len() as u64, out);
    out.extend_from_slice(&inner);
}

pub fn put(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    bytes(1, key, out);
    bytes(2, value, out);
}

/// What a Range asks for; `end` empty is one key.
#[derive(Default, Clone, Copy)]
pub struct Range<'a> {
    pub key: &'a [u8],
    pub end: &'a [u8],
    pub limit: u64,
    pub serializable: bool,
    pub count_only: bool,
}

impl Range<'_> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        bytes(1, self.key, out);
        bytes(2, self.end, out);
        int(3, self.limit, out);
        int(7, self.serializable.into(), out);
        int(9, self.count_only.into(), out);
    }
}

/// Put if the key's mod revision is `expected`, else get it: how kube-apiserver updates an object.
pub fn guarded_put(key: &[u8], expected: u64, value: &[u8], out: &mut Vec<u8>) {
    nested(1, out, |c| {
        int(2, 2, c);
        bytes(3, key, c);
        // A oneof field is written even when it is zero.
        varint(6 << 3, c);
        varint(expected, c);
    });
    nested(2, out, |op| nested(2, op, |p| put(key, value, p)));
    nested(3, out, |op| nested(1, op, |r| bytes(1, key, r)));
}

pub fn watch_create(key: &[u8], end: &[u8], out: &mut Vec<u8>) {
    nested(1, out, |c| {
        bytes(1, key, c);
        bytes(2, end, c);
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    /// A fixed32 or fixed64, which none of the fields used here is.
    Other,
}

impl<'a> Value<'a> {
    pub fn int(self) -> u64 {
        if let Value::Int(v) = self { v } else { 0 }
    }
    pub fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(v) = self { v } else { &[] }
    }
}

pub fn read_varint(b: &mut &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for i in 0..10 {
        let byte = *b.get(i)?;
        v |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *b = &b[i + 1..];
            return Some(v);
        }
    }
    None
}

/// The fields of a message, in order. It ends early at bytes that are no protobuf; `whole` tells.
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = read_varint(&mut self.rest)?;
        let mut take = |n: usize| {
            let (head, tail) = self.rest.split_at_checked(n)?;
            self.rest = tail;
            Some(head)
        };
        let value = match tag & 7 {
            0 => Value::Int(read_varint(&mut self.rest)?),
            1 => take(8).map(|_| Value::Other)?,
            2 => {
                let n = read_varint(&mut self.rest)? as usize;
                let (head, tail) = self.rest.split_at_checked(n)?;
                self.rest = tail;
                Value::Bytes(head)
            }
            5 => take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

pub fn field<'a>(message: &'a [u8], wanted: u64) -> Option<Value<'a>> {
    Fields::of(message).find(|(f, _)| *f == wanted).map(|(_, v)| v)
}

/// `header.revision` of any response.
pub fn revision(response: &[u8]) -> u64 {
    field(response, 1).and_then(|h| field(h.bytes(), 3)).map_or(0, Value::int)
}

/// Mod revision of the first key of a RangeResponse.
pub fn first_mod_revision(range: &[u8]) -> u64 {
    field(range, 2).and_then(|kv| field(kv.bytes(), 3)).map_or(0, Value::int)
}

/// Reads the top level of a message that arrives in pieces: how often each field came, and the last value of the integer
/// ones. Bodies of length-delimited fields are skipped, so its memory does not depend on the message.
pub struct Scan {
    pub counts: [u64; 16],
    pub ints: [u64; 16],
    skip: usize,
    head: Vec<u8>,
}

impl Scan {
    pub fn new() -> Self {
        Self { counts: [0; 16], ints: [0; 16], skip: 0, head: Vec::with_capacity(20) }
    }

    pub fn clear(&mut self) {
        (self.counts, self.ints, self.skip) = ([0; 16], [0; 16], 0);
        self.head.clear();
    }

    pub fn feed(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(part.len());
                self.skip -= n;
                part = &part[n..];
                continue;
            }
            self.head.push(part[0]);
            part = &part[1..];
            let mut at = self.head.as_slice();
            let (Some(tag), Some(v)) = (read_varint(&mut at), read_varint(&mut at)) else {
                continue;
            };
            let slot = (tag >> 3) as usize & 15;
            self.counts[slot] += 1;
            match tag & 7 {
                0 => self.ints[slot] = v,
                _ => self.skip = v as usize,
            }
            self.head.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_has_the_bytes_protobuf_gives_it() {
        let mut out = Vec::new();
        put(b"k", &[7; 200], &mut out);
        assert_eq!(out[..6], [0x0a, 1, b'k', 0x12, 0xc8, 0x01]);
        assert_eq!(field(&out, 2), Some(Value::Bytes(&[7; 200])));
    }

    #[test]
    fn a_guarded_put_compares_and_falls_back_to_a_get() {
        let mut out = Vec::new();
        guarded_put(b"k", 0, b"v", &mut out);
        let fields: Vec<_> = Fields::of(&out).collect();
        assert_eq!(fields[0], (1, Value::Bytes(&[0x10, 2, 0x1a, 1, b'k', 0x30, 0])));
        assert_eq!(fields[1], (2, Value::Bytes(&[0x12, 6, 0x0a, 1, b'k', 0x12, 1, b'v'])));
        assert_eq!(fields[2], (3, Value::Bytes(&[0x0a, 3, 0x0a, 1, b'k'])));
    }

    #[test]
    fn broken_bytes_end_the_fields() {
        assert_eq!(Fields::of(&[0x0a, 5, 1]).count(), 0);
        assert_eq!(Fields::of(&[0xff; 11]).count(), 0);
        assert_eq!(Fields::of(&[0x0d, 1, 2, 3, 4, 0x08, 1]).last(), Some((1, Value::Int(1))));
    }

    #[test]
    fn a_scan_counts_however_the_message_is_cut() {
        let mut msg = Vec::new();
        bytes(1, b"header", &mut msg);
        for _ in 0..5 {
            bytes(2, &[0x22; 300], &mut msg);
        }
        int(4, 70_000, &mut msg);
        for size in [1, 2, 7, 100, msg.len()] {
            let mut scan = Scan::new();
            msg.chunks(size).for_each(|c| scan.feed(c));
            assert_eq!((scan.counts[2], scan.counts[1], scan.ints[4]), (5, 1, 70_000), "cut at {size}");
        }
    }
}
