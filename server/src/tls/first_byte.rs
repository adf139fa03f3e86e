//! Tells TLS from plain HTTP by a connection's first byte, and puts the byte back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Every TLS connection begins with a handshake record.
const HANDSHAKE: u8 = 0x16;

/// A stream of which one byte was read ahead.
#[derive(Debug)]
pub struct Replayed<IO> {
    first: Option<u8>,
    io: IO,
}

/// Reads one byte. The answer is whether it begins a TLS connection.
///
/// # Errors
/// The connection failed or ended before its first byte.
pub async fn first_byte<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<(bool, Replayed<IO>)> {
    let first = io.read_u8().await?;
    Ok((first == HANDSHAKE, Replayed { first: Some(first), io }))
}

impl<IO> Replayed<IO> {
    /// A stream that is left as it is.
    pub fn untouched(io: IO) -> Self {
        Self { first: None, io }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Replayed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Replayed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_lost() {
        for (sent, tls) in [(&b"\x16\x03\x01"[..], true), (b"GET / HTTP/1.1", false)] {
            let (is_tls, mut stream) = first_byte(sent).await.expect("a byte");
            assert_eq!(is_tls, tls);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("readable");
            assert_eq!(all, sent);
        }
        assert!(first_byte(&b""[..]).await.is_err());
    }
}
