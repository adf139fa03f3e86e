//! The sending half of a connection and its table of streams: what a handler may touch while answers are being read.
//! It only fills a buffer; `conn` moves the buffer to the socket.

use crate::frame;
use crate::hpack::Encoder;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Receive windows, as a client with large buffers would set them.
pub const STREAM_WINDOW: u32 = 16 << 20;
pub const CONN_WINDOW: u32 = 64 << 20;
pub const DEFAULT_WINDOW: u32 = 65535;
const GRPC_PREFIX: usize = 5;

/// What a user of the engine hears. `tag` is what it gave when it opened the stream.
pub trait Handler {
    /// A whole message.
    fn message(&mut self, tx: &mut Tx, tag: u32, body: &[u8]);
    /// A piece of a message on a stream opened as chunked; `left` octets of the message are still to come.
    fn chunk(&mut self, _tx: &mut Tx, _tag: u32, _part: &[u8], _left: usize) {}
    /// The stream is over: `Ok` only for grpc-status 0.
    fn ended(&mut self, tx: &mut Tx, tag: u32, outcome: Result<(), Failure>);
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub code: u32,
    pub message: String,
}

pub struct Stream {
    pub tag: u32,
    pub chunked: bool,
    window: i64,
    unread: u32,
    prefix: [u8; GRPC_PREFIX],
    prefix_len: usize,
    left: usize,
    partial: Vec<u8>,
}

struct Blocked {
    id: u32,
    bytes: Vec<u8>,
    at: usize,
    end: bool,
}

/// Stream ids are sequential: a multiplication spreads them well enough.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u32 keys are hashed");
    }
    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub struct Tx {
    /// Nanoseconds of `clock::now` when the bytes being handled were read.
    pub now: u64,
    /// Which connection of the engine this is.
    pub index: usize,
    pub(crate) out: Vec<u8>,
    pub(crate) encoder: Encoder,
    pub(crate) max_frame: usize,
    pub(crate) max_streams: u32,
    streams: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    next_id: u32,
    window: i64,
    initial_window: i64,
    unread: u32,
    blocked: VecDeque<Blocked>,
}

impl Tx {
    pub fn new(index: usize, authority: &str) -> Self {
        let mut out = frame::PREFACE.to_vec();
        frame::put_head(&mut out, 12, frame::SETTINGS, 0, 0);
        frame::put_setting(&mut out, frame::ENABLE_PUSH, 0);
        frame::put_setting(&mut out, frame::INITIAL_WINDOW_SIZE, STREAM_WINDOW);
        frame::put_window_update(&mut out, 0, CONN_WINDOW - DEFAULT_WINDOW);
        Self {
            now: 0,
            index,
            out,
            encoder: Encoder::new(authority),
            max_frame: frame::MAX_PAYLOAD,
            max_streams: u32::MAX,
            streams: HashMap::default(),
            next_id: 1,
            window: i64::from(DEFAULT_WINDOW),
            initial_window: i64::from(DEFAULT_WINDOW),
            unread: 0,
            blocked: VecDeque::new(),
        }
    }

    /// Starts a call and leaves the request side open. Returns the stream's id.
    pub fn open(&mut self, path: &str, tag: u32, chunked: bool) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let at = self.out.len();
        frame::put_head(&mut self.out, 0, frame::HEADERS, frame::END_HEADERS, id);
        self.encoder.request(path, &mut self.out);
        let len = (self.out.len() - at - frame::HEAD) as u32;
        self.out[at..at + 3].copy_from_slice(&len.to_be_bytes()[1..]);
        let stream = Stream {
            tag,
            chunked,
            window: self.initial_window,
            unread: 0,
            prefix: [0; GRPC_PREFIX],
            prefix_len: 0,
            left: 0,
            partial: Vec::new(),
        };
        self.streams.insert(id, stream);
        id
    }

    /// Starts a call with its only request.
    pub fn unary(&mut self, path: &str, tag: u32, chunked: bool, body: &[u8]) {
        let id = self.open(path, tag, chunked);
        self.send(id, body, true);
    }

    /// Sends one message; it waits, in order with all others of this connection, where the peer's windows are used up.
    pub fn send(&mut self, id: u32, body: &[u8], end: bool) {
        let len = GRPC_PREFIX + body.len();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let fits = self.blocked.is_empty() && len <= self.max_frame && len as i64 <= self.window.min(stream.window);
        if fits {
            stream.window -= len as i64;
            self.window -= len as i64;
            frame::put_head(&mut self.out, len, frame::DATA, if end { frame::END_STREAM } else { 0 }, id);
            put_message(&mut self.out, body);
            return;
        }
        let mut bytes = Vec::with_capacity(len);
        put_message(&mut bytes, body);
        self.blocked.push_back(Blocked { id, bytes, at: 0, end });
        self.pump();
    }

    pub(crate) fn pump(&mut self) {
        while let Some(front) = self.blocked.front_mut() {
            let Some(stream) = self.streams.get_mut(&front.id) else {
                self.blocked.pop_front();
                continue;
            };
            let room = self.window.min(stream.window).max(0) as usize;
            let n = (front.bytes.len() - front.at).min(room).min(self.max_frame);
            if n == 0 {
                return;
            }
            let last = front.at + n == front.bytes.len();
            let flags = if last && front.end { frame::END_STREAM } else { 0 };
            frame::put_head(&mut self.out, n, frame::DATA, flags, front.id);
            self.out.extend_from_slice(&front.bytes[front.at..front.at + n]);
            front.at += n;
            stream.window -= n as i64;
            self.window -= n as i64;
            if last {
                self.blocked.pop_front();
            }
        }
    }

    pub(crate) fn set_initial_window(&mut self, size: u32) {
        let by = i64::from(size) - self.initial_window;
        self.initial_window += by;
        self.streams.values_mut().for_each(|s| s.window += by);
        self.pump();
    }

    pub(crate) fn widen(&mut self, id: u32, by: u32) {
        if id == 0 {
            self.window += i64::from(by);
        } else if let Some(s) = self.streams.get_mut(&id) {
            s.window += i64::from(by);
        }
        self.pump();
    }

    /// Gives the peer back what it has sent, at half a window.
    pub(crate) fn credit(&mut self, id: u32, len: usize) {
        self.unread += len as u32;
        if self.unread >= CONN_WINDOW / 2 {
            frame::put_window_update(&mut self.out, 0, std::mem::take(&mut self.unread));
        }
        let Some(s) = self.streams.get_mut(&id) else {
            return;
        };
        s.unread += len as u32;
        if s.unread >= STREAM_WINDOW / 2 {
            let by = std::mem::take(&mut s.unread);
            frame::put_window_update(&mut self.out, id, by);
        }
    }

    /// Cuts the payload of a DATA frame into messages.
    pub(crate) fn deliver<H: Handler>(&mut self, handler: &mut H, id: u32, mut data: &[u8]) {
        while let Some(s) = self.streams.get_mut(&id) {
            if s.prefix_len < GRPC_PREFIX {
                let n = data.len().min(GRPC_PREFIX - s.prefix_len);
                s.prefix[s.prefix_len..s.prefix_len + n].copy_from_slice(&data[..n]);
                s.prefix_len += n;
                data = &data[n..];
                if s.prefix_len < GRPC_PREFIX {
                    return;
                }
                if s.prefix[0] != 0 {
                    let message = "a compressed message, which was not asked for".to_owned();
                    return self.finish(handler, id, Err(Failure { code: 13, message }));
                }
                s.left = frame::u32_at(&s.prefix[1..]) as usize;
            } else if data.is_empty() {
                return;
            }
            let (part, rest) = data.split_at(data.len().min(s.left));
            data = rest;
            s.left -= part.len();
            let (tag, left) = (s.tag, s.left);
            if left == 0 {
                s.prefix_len = 0;
            }
            if s.chunked {
                handler.chunk(self, tag, part, left);
            } else if left > 0 {
                s.partial.extend_from_slice(part);
            } else if s.partial.is_empty() {
                handler.message(self, tag, part);
            } else {
                s.partial.extend_from_slice(part);
                let mut whole = std::mem::take(&mut s.partial);
                handler.message(self, tag, &whole);
                whole.clear();
                if let Some(s) = self.streams.get_mut(&id) {
                    s.partial = whole;
                }
            }
            if data.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn finish<H: Handler>(&mut self, handler: &mut H, id: u32, outcome: Result<(), Failure>) {
        if let Some(s) = self.streams.remove(&id) {
            handler.ended(self, s.tag, outcome);
        }
    }
}

fn put_message(out: &mut Vec<u8>, body: &[u8]) {
    out.push(0);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<Vec<u8>>, Vec<usize>);

    impl Handler for Seen {
        fn message(&mut self, _: &mut Tx, _: u32, body: &[u8]) {
            self.0.push(body.to_vec());
        }
        fn chunk(&mut self, _: &mut Tx, _: u32, part: &[u8], left: usize) {
            self.0.push(part.to_vec());
            self.1.push(left);
        }
        fn ended(&mut self, _: &mut Tx, _: u32, _: Result<(), Failure>) {}
    }

    fn framed(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        bodies.iter().for_each(|b| put_message(&mut out, b));
        out
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let bodies: [&[u8]; 4] = [b"one", b"", b"three is longer", b"4"];
        let bytes = framed(&bodies);
        for size in 1..=bytes.len() {
            let (mut tx, mut seen) = (Tx::new(0, "h"), Seen::default());
            let id = tx.open("/p", 7, false);
            bytes.chunks(size).for_each(|c| tx.deliver(&mut seen, id, c));
            assert_eq!(seen.0, bodies, "cut at {size}");
        }
    }

    #[test]
    fn a_chunked_stream_tells_what_is_left() {
        let (mut tx, mut seen) = (Tx::new(0, "h"), Seen::default());
        let id = tx.open("/p", 7, true);
        framed(&[b"abcdef"]).chunks(4).for_each(|c| tx.deliver(&mut seen, id, c));
        assert_eq!(seen.1, [3, 0]);
        assert_eq!(seen.0.concat(), b"abcdef");
    }

    fn sent(tx: &mut Tx) -> Vec<(u8, usize, u8)> {
        let bytes = std::mem::take(&mut tx.out);
        let (mut at, mut frames) = (0, Vec::new());
        while let Some(h) = frame::Head::parse(&bytes[at..]) {
            frames.push((h.kind, h.len, h.flags));
            at += frame::HEAD + h.len;
        }
        frames
    }

    #[test]
    fn sending_stops_at_the_windows_and_goes_on() {
        let mut tx = Tx::new(0, "h");
        tx.set_initial_window(100);
        let id = tx.open("/p", 0, false);
        tx.out.clear();
        tx.send(id, &[0; 150], true);
        assert_eq!(sent(&mut tx), [(frame::DATA, 100, 0)]);
        let other = tx.open("/p", 1, false);
        tx.out.clear();
        tx.send(other, b"x", true);
        assert_eq!(sent(&mut tx), []);
        tx.widen(id, 100);
        assert_eq!(sent(&mut tx), [(frame::DATA, 55, 1), (frame::DATA, 6, 1)]);
    }

    #[test]
    fn windows_are_given_back_at_half() {
        let mut tx = Tx::new(0, "h");
        let id = tx.open("/p", 0, false);
        tx.out.clear();
        let half = (STREAM_WINDOW / 2) as usize;
        tx.credit(id, half - 1);
        assert_eq!(sent(&mut tx), []);
        tx.credit(id, 1);
        assert_eq!(sent(&mut tx), [(frame::WINDOW_UPDATE, 4, 0)]);
    }
}
