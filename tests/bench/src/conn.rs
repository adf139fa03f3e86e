//! One client connection: the socket, the reading half of HTTP/2, and the write buffer's way out. Any protocol error, GOAWAY
//! or closed socket is an error of the whole run: a load generator that hides one reports nonsense.

use crate::frame::{self, Head};
use crate::hpack::Decoder;
use crate::tx::{Failure, Handler, Tx};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const READ_BUFFER: usize = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Conn {
    pub sock: TcpStream,
    pub tx: Tx,
    /// The server's SETTINGS have come.
    pub ready: bool,
    /// The socket took less than there was: wait until it is writable.
    pub stuck: bool,
    /// Octets read so far.
    pub received: u64,
    decoder: Decoder,
    buf: Vec<u8>,
    filled: usize,
    written: usize,
    /// A header block that continues: stream, flags of its HEADERS frame, what has come.
    pending: Option<(u32, u8, Vec<u8>)>,
}

impl Conn {
    pub fn connect(addr: SocketAddr, index: usize) -> Result<Self> {
        let sock = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT).with_context(|| format!("connect to {addr}"))?;
        sock.set_nodelay(true)?;
        sock.set_nonblocking(true)?;
        Ok(Self {
            sock,
            tx: Tx::new(index, &addr.to_string()),
            ready: false,
            stuck: false,
            received: 0,
            decoder: Decoder::new(),
            buf: vec![0; READ_BUFFER],
            filled: 0,
            written: 0,
            pending: None,
        })
    }

    /// Writes what it can of the buffer.
    pub fn flush(&mut self) -> Result<()> {
        self.stuck = false;
        while self.written < self.tx.out.len() {
            match self.sock.write(&self.tx.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.stuck = true;
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("write to the server"),
            }
        }
        self.tx.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once and handles every whole frame. After an error the connection is of no more use.
    pub fn read<H: Handler>(&mut self, handler: &mut H, now: impl FnOnce() -> u64) -> Result<()> {
        match self.sock.read(&mut self.buf[self.filled..]) {
            Ok(0) => bail!("the server closed connection {}", self.tx.index),
            Ok(n) => {
                self.filled += n;
                self.received += n as u64;
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(e) => return Err(e).context("read from the server"),
        }
        self.tx.now = now();
        let buf = std::mem::take(&mut self.buf);
        let mut at = 0;
        while let Some(head) = Head::parse(&buf[at..self.filled]) {
            ensure!(head.len <= frame::MAX_PAYLOAD, "frame of {} octets", head.len);
            let start = at + frame::HEAD;
            if start + head.len > self.filled {
                break;
            }
            self.frame(handler, head, &buf[start..start + head.len])?;
            at = start + head.len;
        }
        self.buf = buf;
        self.buf.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn frame<H: Handler>(&mut self, handler: &mut H, head: Head, payload: &[u8]) -> Result<()> {
        ensure!(self.pending.is_none() || head.kind == frame::CONTINUATION, "a header block was interrupted");
        match head.kind {
            frame::DATA => {
                let data = head.strip(payload).context("padding of a DATA frame")?;
                self.tx.credit(head.id, head.len);
                self.tx.deliver(handler, head.id, data);
                if head.has(frame::END_STREAM) {
                    self.tx.finish(handler, head.id, failed(2, "stream ended without trailers"));
                }
            }
            frame::HEADERS => {
                let block = head.strip(payload).context("padding of a HEADERS frame")?;
                if head.has(frame::END_HEADERS) {
                    return self.headers(handler, head.id, head.flags, block);
                }
                self.pending = Some((head.id, head.flags, block.to_vec()));
            }
            frame::CONTINUATION => {
                let (id, flags, mut block) = self.pending.take().context("CONTINUATION without HEADERS")?;
                ensure!(id == head.id, "CONTINUATION of another stream");
                block.extend_from_slice(payload);
                if head.has(frame::END_HEADERS) {
                    return self.headers(handler, id, flags, &block);
                }
                self.pending = Some((id, flags, block));
            }
            frame::RST_STREAM => {
                let text = format!("RST_STREAM with code {}", frame::u32_at(payload));
                self.tx.finish(handler, head.id, failed(13, &text));
            }
            frame::SETTINGS if !head.has(frame::ACK) => self.settings(payload),
            frame::PING if !head.has(frame::ACK) => {
                frame::put_head(&mut self.tx.out, payload.len(), frame::PING, frame::ACK, 0);
                self.tx.out.extend_from_slice(payload);
            }
            frame::GOAWAY => {
                let text = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
                bail!("GOAWAY with code {} {text}", frame::u32_at(payload.get(4..).unwrap_or_default()));
            }
            frame::WINDOW_UPDATE => self.tx.widen(head.id, frame::u32_at(payload) & 0x7fff_ffff),
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        for (id, value) in frame::settings(payload) {
            match id {
                frame::HEADER_TABLE_SIZE if value < 4096 => self.tx.encoder.make_stateless(),
                frame::MAX_CONCURRENT_STREAMS => self.tx.max_streams = value,
                frame::INITIAL_WINDOW_SIZE => self.tx.set_initial_window(value),
                frame::MAX_FRAME_SIZE => self.tx.max_frame = value as usize,
                _ => {}
            }
        }
        frame::put_head(&mut self.tx.out, 0, frame::SETTINGS, frame::ACK, 0);
        self.ready = true;
    }

    fn headers<H: Handler>(&mut self, handler: &mut H, id: u32, flags: u8, block: &[u8]) -> Result<()> {
        let (mut status, mut message, mut http) = (None, String::new(), Vec::new());
        self.decoder
            .decode(block, |name, value| match name {
                b"grpc-status" => status = std::str::from_utf8(value).ok().and_then(|v| v.parse::<u32>().ok()),
                b"grpc-message" if !value.is_empty() => message = String::from_utf8_lossy(value).into_owned(),
                b":status" if value != b"200" => http = value.to_vec(),
                _ => {}
            })
            .map_err(|_| anyhow!("a header block that HPACK does not allow"))?;
        if !http.is_empty() {
            message = format!("HTTP status {} {message}", String::from_utf8_lossy(&http));
        }
        if flags & frame::END_STREAM != 0 {
            let outcome = match status {
                Some(0) if message.is_empty() => Ok(()),
                Some(code) => failed(code, &message),
                None => failed(2, &format!("no grpc-status {message}")),
            };
            self.tx.finish(handler, id, outcome);
        }
        Ok(())
    }
}

fn failed(code: u32, message: &str) -> Result<(), Failure> {
    Err(Failure { code, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[derive(Default)]
    struct Heard {
        bodies: Vec<Vec<u8>>,
        outcomes: Vec<(u32, Result<(), u32>)>,
    }

    impl Handler for Heard {
        fn message(&mut self, _: &mut Tx, _: u32, body: &[u8]) {
            self.bodies.push(body.to_vec());
        }
        fn ended(&mut self, _: &mut Tx, tag: u32, outcome: Result<(), Failure>) {
            self.outcomes.push((tag, outcome.map_err(|f| f.code)));
        }
    }

    /// A connection and the server's end of it.
    fn pair() -> (Conn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let conn = Conn::connect(listener.local_addr().unwrap(), 0).unwrap();
        // A blocking socket: a read waits for what the peer has sent.
        conn.sock.set_nonblocking(false).unwrap();
        (conn, listener.accept().unwrap().0)
    }

    fn opened(conn: &mut Conn, count: u32) {
        for tag in 0..count {
            conn.tx.open("/p", tag, false);
        }
    }

    fn framed(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::put_head(&mut out, payload.len(), kind, flags, id);
        out.extend_from_slice(payload);
        out
    }

    /// Hands `bytes` to the connection, `step` octets at a time.
    fn hear(conn: &mut Conn, server: &mut TcpStream, heard: &mut Heard, bytes: &[u8], step: usize) -> Result<()> {
        for piece in bytes.chunks(step) {
            server.write_all(piece).unwrap();
            let wanted = conn.received + piece.len() as u64;
            while conn.received < wanted {
                conn.read(heard, || 1)?;
            }
        }
        Ok(())
    }

    const GRPC_STATUS: &[u8] = b"\x40\x0bgrpc-status\x01";

    fn trailers(code: u8) -> Vec<u8> {
        [GRPC_STATUS, &[b'0' + code]].concat()
    }

    #[test]
    fn an_answer_is_heard_however_it_is_cut() {
        let body = b"\0\0\0\0\x03abc";
        let bytes = [
            framed(frame::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 7]),
            framed(frame::HEADERS, frame::END_HEADERS, 1, &[0x88]),
            framed(frame::DATA, 0, 1, body),
            framed(frame::HEADERS, frame::END_STREAM, 1, &trailers(0)[..5]),
            framed(frame::CONTINUATION, frame::END_HEADERS, 1, &trailers(0)[5..]),
            framed(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 3, &trailers(5)),
            framed(frame::RST_STREAM, 0, 5, &[0, 0, 0, 8]),
        ]
        .concat();
        for step in [1, 7, 50, bytes.len()] {
            let ((mut conn, mut server), mut heard) = (pair(), Heard::default());
            opened(&mut conn, 3);
            hear(&mut conn, &mut server, &mut heard, &bytes, step).unwrap();
            assert_eq!(heard.bodies, [b"abc"]);
            assert_eq!(heard.outcomes, [(0, Ok(())), (1, Err(5)), (2, Err(13))], "cut at {step}");
            assert_eq!((conn.ready, conn.tx.max_streams), (true, 7));
        }
    }

    #[test]
    fn an_end_without_a_status_is_a_failure() {
        let ((mut conn, mut server), mut heard) = (pair(), Heard::default());
        opened(&mut conn, 2);
        let bytes = [
            framed(frame::DATA, frame::END_STREAM, 1, b""),
            framed(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 3, &[0x88]),
        ];
        hear(&mut conn, &mut server, &mut heard, &bytes.concat(), 99).unwrap();
        assert_eq!(heard.outcomes, [(0, Err(2)), (1, Err(2))]);
    }

    #[test]
    fn pings_and_settings_are_acknowledged() {
        let ((mut conn, mut server), mut heard) = (pair(), Heard::default());
        conn.tx.out.clear();
        let bytes = [framed(frame::SETTINGS, 0, 0, b""), framed(frame::PING, 0, 0, b"12345678")].concat();
        hear(&mut conn, &mut server, &mut heard, &bytes, 99).unwrap();
        let wanted = [framed(frame::SETTINGS, frame::ACK, 0, b""), framed(frame::PING, frame::ACK, 0, b"12345678")];
        assert_eq!(conn.tx.out, wanted.concat());
    }

    #[test]
    fn goaway_and_a_closed_socket_end_the_run() {
        let ((mut conn, mut server), mut heard) = (pair(), Heard::default());
        let bytes = framed(frame::GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0btoo many pings");
        let error = hear(&mut conn, &mut server, &mut heard, &bytes, 99).unwrap_err().to_string();
        assert!(error.contains("code 11 too many pings"), "{error}");
        let (mut conn, server) = pair();
        drop(server);
        assert!(conn.read(&mut heard, || 1).is_err());
    }
}
