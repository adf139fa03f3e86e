//! HPACK (RFC 7541), as much as a gRPC client needs: a request encoder that keeps its headers in the dynamic table, so that
//! a request costs seven octets, and a full response decoder.

use crate::huffman::Huffman;
use std::collections::VecDeque;

const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
const TABLE_MAX: usize = 4096;
const ENTRY_OVERHEAD: usize = 32;

/// Encodes the header block of a gRPC request. It relies on the peer's default table of 4096 octets; `stateless` is for a
/// peer that announced a smaller one. Twenty paths fit the table, which is more than etcd's API that a load needs.
pub struct Encoder {
    names: Vec<(String, String)>,
    authority: String,
    stateless: bool,
    resize_owed: bool,
}

impl Encoder {
    pub fn new(authority: &str) -> Self {
        Self { names: Vec::new(), authority: authority.to_owned(), stateless: false, resize_owed: false }
    }

    /// The peer's table is smaller than the default: every header is a literal from now on.
    pub fn make_stateless(&mut self) {
        self.resize_owed = !self.stateless;
        self.stateless = true;
        self.names.clear();
    }

    pub fn request(&mut self, path: &str, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.resize_owed) {
            out.push(0x20);
        }
        out.extend_from_slice(&[0x83, 0x86]);
        self.header(4, ":path", path, out);
        let authority = std::mem::take(&mut self.authority);
        self.header(1, ":authority", &authority, out);
        self.authority = authority;
        self.header(31, "content-type", "application/grpc", out);
        self.header(58, "user-agent", "keepstone-bench", out);
        self.header(0, "te", "trailers", out);
    }

    fn header(&mut self, static_name: u64, name: &str, value: &str, out: &mut Vec<u8>) {
        if let Some(i) = self.names.iter().rposition(|(n, v)| n == name && v == value) {
            put_int(0x80, 7, (STATIC.len() + self.names.len() - i) as u64, out);
            return;
        }
        if self.stateless {
            put_int(0x00, 4, static_name, out);
        } else {
            put_int(0x40, 6, static_name, out);
            self.names.push((name.to_owned(), value.to_owned()));
        }
        if static_name == 0 {
            put_str(name, out);
        }
        put_str(value, out);
    }
}

fn put_str(s: &str, out: &mut Vec<u8>) {
    put_int(0, 7, s.len() as u64, out);
    out.extend_from_slice(s.as_bytes());
}

fn put_int(flags: u8, prefix: u32, value: u64, out: &mut Vec<u8>) {
    let max = (1u64 << prefix) - 1;
    if value < max {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Name and value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// Decodes response header blocks; one per connection, every block in order.
pub struct Decoder {
    huffman: Huffman,
    /// Newest first.
    table: VecDeque<Entry>,
    size: usize,
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct BadHpack;

impl Decoder {
    pub fn new() -> Self {
        Self {
            huffman: Huffman::new(),
            table: VecDeque::new(),
            size: 0,
            limit: TABLE_MAX,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Calls `field(name, value)` for each header.
    pub fn decode(&mut self, mut block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), BadHpack> {
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let (name, value) = self.entry(int(&mut block, 7)?)?;
                field(name, value);
            } else if first & 0xe0 == 0x20 {
                self.limit = (int(&mut block, 5)? as usize).min(TABLE_MAX);
                self.evict(0);
            } else {
                let keep = first & 0x40 != 0;
                let name = int(&mut block, if keep { 6 } else { 4 })?;
                self.literal(&mut block, name)?;
                field(&self.name, &self.value);
                if keep {
                    self.insert();
                }
            }
        }
        Ok(())
    }

    fn entry(&self, index: u64) -> Result<(&[u8], &[u8]), BadHpack> {
        let i = usize::try_from(index).ok().and_then(|i| i.checked_sub(1)).ok_or(BadHpack)?;
        if let Some((n, v)) = STATIC.get(i) {
            return Ok((n.as_bytes(), v.as_bytes()));
        }
        self.table.get(i - STATIC.len()).map(|(n, v)| (&**n, &**v)).ok_or(BadHpack)
    }

    fn literal(&mut self, block: &mut &[u8], name: u64) -> Result<(), BadHpack> {
        let mut buf = std::mem::take(&mut self.name);
        buf.clear();
        if name == 0 {
            self.string(block, &mut buf)?;
        } else {
            buf.extend_from_slice(self.entry(name)?.0);
        }
        self.name = buf;
        let mut buf = std::mem::take(&mut self.value);
        buf.clear();
        self.string(block, &mut buf)?;
        self.value = buf;
        Ok(())
    }

    fn string(&self, block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadHpack> {
        let coded = block.first().ok_or(BadHpack)? & 0x80 != 0;
        let len = int(block, 7)? as usize;
        let bytes = block.get(..len).ok_or(BadHpack)?;
        *block = &block[len..];
        if coded {
            return self.huffman.decode(bytes, out).then_some(()).ok_or(BadHpack);
        }
        out.extend_from_slice(bytes);
        Ok(())
    }

    fn insert(&mut self) {
        let size = self.name.len() + self.value.len() + ENTRY_OVERHEAD;
        self.evict(size);
        if size <= self.limit {
            self.table.push_front((self.name.as_slice().into(), self.value.as_slice().into()));
            self.size += size;
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some((n, v)) = self.table.pop_back() else {
                return;
            };
            self.size -= n.len() + v.len() + ENTRY_OVERHEAD;
        }
    }
}

fn int(block: &mut &[u8], prefix: u32) -> Result<u64, BadHpack> {
    let max = (1u64 << prefix) - 1;
    let (&first, mut rest) = block.split_first().ok_or(BadHpack)?;
    let mut value = u64::from(first) & max;
    if value == max {
        for shift in (0..).step_by(7) {
            let (&b, tail) = rest.split_first().ok_or(BadHpack)?;
            rest = tail;
            if shift > 28 {
                return Err(BadHpack);
            }
            value += u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(d: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        d.decode(block, |n, v| out.push((text(n), text(v)))).unwrap();
        out
    }

    #[test]
    fn what_the_encoder_writes_the_decoder_reads() {
        let (mut e, mut d) = (Encoder::new("127.0.0.1:2379"), Decoder::new());
        let mut sizes = Vec::new();
        for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"]
        {
            let mut block = Vec::new();
            e.request(path, &mut block);
            let got = all(&mut d, &block);
            assert_eq!(got[2], (":path".to_owned(), path.to_owned()));
            assert_eq!(got[3], (":authority".to_owned(), "127.0.0.1:2379".to_owned()));
            assert_eq!(got[6], ("te".to_owned(), "trailers".to_owned()));
            assert_eq!(got.len(), 7);
            sizes.push(block.len());
        }
        assert_eq!(sizes[2..], [7, 7]);
    }

    #[test]
    fn a_stateless_encoder_needs_no_table() {
        let mut e = Encoder::new("h");
        e.request("/a", &mut Vec::new());
        e.make_stateless();
        for _ in 0..2 {
            let mut block = Vec::new();
            e.request("/a", &mut block);
            assert_eq!(all(&mut Decoder::new(), &block)[2].1, "/a");
        }
    }

    #[test]
    fn decodes_the_response_examples_of_the_rfc() {
        // RFC 7541 C.6.1 and C.6.2, but with the full table, so that nothing is evicted.
        let mut d = Decoder::new();
        let first = [
            0x48, 0x82, 0x64, 0x02, 0x58, 0x85, 0xae, 0xc3, 0x77, 0x1a, 0x4b, 0x61, 0x96, 0xd0, 0x7a, 0xbe, 0x94, 0x10,
            0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff, 0x6e,
            0x91, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae, 0x43, 0xd3,
        ];
        let got = all(&mut d, &first);
        assert_eq!(got[0], (":status".to_owned(), "302".to_owned()));
        assert_eq!(got[3], ("location".to_owned(), "https://www.example.com".to_owned()));
        let got = all(&mut d, &[0x48, 0x83, 0x64, 0x0e, 0xff, 0xc1, 0xc0, 0xbf]);
        assert_eq!(got[0].1, "307");
        assert_eq!(got[3].1, "https://www.example.com");
    }

    #[test]
    fn an_evicted_entry_is_gone() {
        let mut d = Decoder::new();
        assert_eq!(all(&mut d, &[0x40, 1, b'a', 1, b'b', 0xbe]).len(), 2);
        // The table shrinks to nothing.
        assert_eq!(d.decode(&[0x20, 0xbe], |_, _| {}), Err(BadHpack));
    }

    #[test]
    fn truncated_blocks_are_errors() {
        for block in [&[0x40][..], &[0x40, 5, b'a'], &[0xff], &[0x00, 1, b'a', 0x7f]] {
            assert_eq!(Decoder::new().decode(block, |_, _| {}), Err(BadHpack));
        }
    }
}
