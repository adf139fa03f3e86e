//! HTTP/2 frame layout (RFC 9113, section 4 and 6): nothing here knows about connections.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEAD: usize = 9;
/// The largest payload the peer may send us: the protocol's default, which we do not raise.
pub const MAX_PAYLOAD: usize = 16384;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub len: usize,
    pub kind: u8,
    pub flags: u8,
    pub id: u32,
}

impl Head {
    /// None when `bytes` is shorter than a frame's head.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; HEAD] = bytes.first_chunk()?;
        Some(Self {
            len: usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]),
            kind: b[3],
            flags: b[4],
            id: u32_at(&b[5..]) & 0x7fff_ffff,
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload of a DATA or HEADERS frame without padding and priority; None when they do not fit.
    pub fn strip<'a>(&self, mut payload: &'a [u8]) -> Option<&'a [u8]> {
        let mut pad = 0;
        if self.has(PADDED) {
            let (&n, rest) = payload.split_first()?;
            (pad, payload) = (usize::from(n), rest);
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            payload = payload.get(5..)?;
        }
        payload.get(..payload.len().checked_sub(pad)?)
    }
}

pub fn put_head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, id: u32) {
    let n = len as u32;
    out.extend_from_slice(&[(n >> 16) as u8, (n >> 8) as u8, n as u8, kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
}

pub fn put_setting(out: &mut Vec<u8>, id: u16, value: u32) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn put_window_update(out: &mut Vec<u8>, id: u32, by: u32) {
    put_head(out, 4, WINDOW_UPDATE, 0, id);
    out.extend_from_slice(&by.to_be_bytes());
}

/// The settings of a SETTINGS payload.
pub fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    payload.chunks_exact(6).map(|c| (u16::from_be_bytes([c[0], c[1]]), u32_at(&c[2..])))
}

/// The first four octets, big endian; 0 when there are fewer.
pub fn u32_at(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_the_round_trip() {
        let mut out = Vec::new();
        put_head(&mut out, 0x0001_0203, HEADERS, END_HEADERS | END_STREAM, 0x7fff_fffd);
        let head = Head::parse(&out).unwrap();
        assert_eq!(head, Head { len: 0x0001_0203, kind: HEADERS, flags: 5, id: 0x7fff_fffd });
        assert!(head.has(END_STREAM) && !head.has(PADDED));
        assert_eq!(Head::parse(&out[..8]), None);
    }

    #[test]
    fn padding_and_priority_are_stripped() {
        let head = |kind, flags| Head { len: 0, kind, flags, id: 1 };
        assert_eq!(head(DATA, 0).strip(b"abc"), Some(&b"abc"[..]));
        assert_eq!(head(DATA, PADDED).strip(b"\x02abcd"), Some(&b"ab"[..]));
        assert_eq!(head(HEADERS, PADDED | PRIORITY).strip(b"\x0112345ab"), Some(&b"a"[..]));
        assert_eq!(head(DATA, PADDED).strip(b"\x05abcd"), None);
        assert_eq!(head(DATA, PADDED).strip(b""), None);
    }

    #[test]
    fn settings_are_read_in_order() {
        let mut out = Vec::new();
        put_setting(&mut out, MAX_CONCURRENT_STREAMS, 100);
        put_setting(&mut out, INITIAL_WINDOW_SIZE, 1 << 20);
        assert_eq!(settings(&out).collect::<Vec<_>>(), [(3, 100), (4, 1 << 20)]);
    }
}
