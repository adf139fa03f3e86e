//! A connection's writes, gathered: what it writes during one turn leaves in one system call at the turn's end.
//!
//! An HTTP/2 connection writes frame by frame, and a write to a socket costs more than making most answers. A turn
//! takes up whatever was ready together, so nothing is held back longer than the rest of it takes to make.
//! Nothing is reordered or dropped here, and what a frame means is not known.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes gathered at most. What goes beyond is written together with them, uncopied.
const GATHERED_BYTES: usize = 32 << 10;

thread_local! {
    /// Room for [`GATHERED_BYTES`]. Between turns there is nothing gathered, so a thread's connections share it.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes a socket apart: the end that a connection is made on, and what writes when one of its turns is over.
pub fn gather<IO>(io: IO) -> (Gather<IO>, Turns<IO>) {
    let shared = Arc::new(Mutex::new(Shared { io, out: Vec::new(), written: 0, alone: false }));
    (Gather { shared: shared.clone() }, Turns { shared })
}

/// The connection's end of a socket.
pub struct Gather<IO> {
    shared: Arc<Mutex<Shared<IO>>>,
}

/// The other one.
pub struct Turns<IO> {
    shared: Arc<Mutex<Shared<IO>>>,
}

impl<IO: AsyncWrite + Unpin> Turns<IO> {
    /// Runs a connection, and writes at the end of each of its turns.
    ///
    /// # Errors
    /// The socket can't be written to; the connection is dropped then.
    pub async fn run<F: Future>(self, connection: F) -> io::Result<F::Output> {
        let mut connection = pin!(connection);
        std::future::poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx);
            let mut shared = self.shared.lock();
            // Who ends in order has shut down, and so written everything. After an upgrade the other end goes on alone.
            shared.alone = ended.is_ready();
            match (ended, shared.poll_drain(cx)) {
                (Poll::Ready(output), _) => Poll::Ready(Ok(output)),
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (Poll::Pending, _) => Poll::Pending,
            }
        })
        .await
    }
}

struct Shared<IO> {
    io: IO,
    out: Vec<u8>,
    /// How much of `out` is with the socket already.
    written: usize,
    /// Nobody writes at the end of turns any more.
    alone: bool,
}

impl<IO: AsyncWrite + Unpin> Shared<IO> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.capacity() == 0 {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..]))?;
            self.advance(n)?;
        }
        ROOM.set(std::mem::take(&mut self.out));
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn advance(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += n;
        if self.written == self.out.len() {
            self.written = 0;
            self.out.clear();
        }
        Ok(())
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        while self.out.len() + len > GATHERED_BYTES {
            let gathered = self.out.len() - self.written;
            let mut all = Vec::with_capacity(1 + bufs.len());
            all.extend((gathered > 0).then(|| IoSlice::new(&self.out[self.written..])));
            all.extend(bufs.iter().map(|buf| IoSlice::new(buf)));
            let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &all))?;
            if gathered == 0 {
                return Poll::Ready(Ok(n));
            }
            self.advance(n.min(gathered))?;
            if n > gathered {
                return Poll::Ready(Ok(n - gathered));
            }
        }
        if self.out.capacity() == 0 {
            self.out = ROOM.take();
            self.out.reserve_exact(GATHERED_BYTES);
        }
        bufs.iter().for_each(|buf| self.out.extend_from_slice(buf));
        Poll::Ready(Ok(len))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gather<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.shared.lock().io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gather<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_take(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        if shared.alone { shared.poll_drain(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        ready!(shared.poll_drain(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Default)]
    struct Socket {
        got: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl AsyncWrite for Socket {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.got.lock().push(buf.to_vec());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_at_its_end_in_one_write() {
        let socket = Socket::default();
        let got = socket.got.clone();
        let (mut io, turns) = gather(socket);
        let connection = async {
            for part in [&b"one "[..], b"two"] {
                io.write_all(part).await.unwrap();
                io.flush().await.unwrap();
            }
            assert!(got.lock().is_empty());
            tokio::task::yield_now().await;
            assert_eq!(*got.lock(), [b"one two"]);
            io.write_all(b"three").await.unwrap();
            io.shutdown().await.unwrap();
        };
        turns.run(connection).await.unwrap();
        assert_eq!(*got.lock(), [&b"one two"[..], b"three"]);
    }

    #[tokio::test]
    async fn large_and_small_writes_arrive_whole_and_in_order_at_a_slow_reader() {
        let (socket, mut client) = tokio::io::duplex(1000);
        let sizes = [1, 5000, 3, 70_000, GATHERED_BYTES, 10, GATHERED_BYTES + 1, 0, 9];
        let sent: Vec<Vec<u8>> = (1..).zip(sizes).map(|(n, size)| vec![n; size]).collect();
        let (mut io, turns) = gather(socket);
        let connection = async {
            for part in &sent {
                io.write_all(part).await.unwrap();
                io.flush().await.unwrap();
            }
            io.shutdown().await.unwrap();
        };
        let reading = async {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got
        };
        let (served, got) = tokio::join!(turns.run(connection), reading);
        served.unwrap();
        let expected = sent.concat();
        assert!(got == expected, "{} bytes instead of {}", got.len(), expected.len());
    }

    #[tokio::test]
    async fn an_end_that_outlives_the_connection_writes_by_itself() {
        let (socket, mut client) = tokio::io::duplex(64);
        let (mut io, turns) = gather(socket);
        turns.run(io.write_all(b"101 ")).await.unwrap().unwrap();
        io.write_all(b"upgraded").await.unwrap();
        io.flush().await.unwrap();
        let mut got = [0; 12];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"101 upgraded");
    }

    #[tokio::test]
    async fn a_socket_that_is_gone_ends_the_connection() {
        let (socket, client) = tokio::io::duplex(64);
        drop(client);
        let (mut io, turns) = gather(socket);
        let connection = async {
            io.write_all(b"lost").await.unwrap();
            std::future::pending::<()>().await;
        };
        assert!(turns.run(connection).await.is_err());
    }
}
