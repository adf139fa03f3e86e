//! The body of an answer that is made while it is sent: pieces come from whoever makes it, as the client takes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::Status;

use super::write::{Format, Writer};
use crate::api::pace::{Pace, Unread};

/// Bytes of a piece.
pub const PIECE_BYTES: usize = 128 << 10;
/// Pieces made ahead of the client.
const PIECES_AHEAD: usize = 2;

/// What goes from the maker to the body. Nothing after an end or a failure; a maker that goes without either has broken
/// off, and so does the body.
enum Piece {
    Bytes(Bytes),
    End,
    Failed(Status),
}

/// The maker's side.
pub struct Sender {
    tx: mpsc::Sender<Piece>,
    pace: Pace,
}

/// The client's side. A gRPC body ends with trailers.
pub struct Answer {
    rx: mpsc::Receiver<Piece>,
    format: Format,
    ended: bool,
}

pub fn channel(format: Format, pace: Pace) -> (Sender, Answer) {
    let (tx, rx) = mpsc::channel(PIECES_AHEAD);
    (Sender { tx, pace }, Answer { rx, format, ended: false })
}

impl Sender {
    /// Sends what is written in whole pieces, and leaves the rest.
    ///
    /// # Errors
    /// The client has gone or does not read.
    pub async fn send(&mut self, writer: &mut Writer) -> Result<(), Unread> {
        while writer.len() >= PIECE_BYTES {
            self.piece(writer.take(PIECE_BYTES)).await?;
        }
        Ok(())
    }

    /// Sends the rest and the end.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn finish(mut self, writer: &mut Writer) -> Result<(), Unread> {
        let whole = writer.finish();
        self.send(writer).await?;
        if !whole {
            tracing::error!("a list has changed under its pin: its answer is broken off");
            return Err(Unread::Gone);
        }
        self.piece(writer.take(PIECE_BYTES)).await?;
        self.pace.send(&self.tx, Piece::End, 0).await
    }

    /// Tells the client why there is no more.
    pub async fn fail(mut self, why: Status) {
        // A client that has gone needs no reason.
        let _ = self.pace.send(&self.tx, Piece::Failed(why), 0).await;
    }

    async fn piece(&mut self, bytes: Bytes) -> Result<(), Unread> {
        let len = bytes.len();
        self.pace.send(&self.tx, Piece::Bytes(bytes), len).await
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(piece) = self.rx.poll_recv(cx) else { return Poll::Pending };
        if let Some(Piece::Bytes(bytes)) = piece {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.ended = true;
        let status = match (piece, self.format) {
            (Some(Piece::Failed(status)), Format::Grpc) => status,
            (Some(Piece::Failed(status)), Format::Json) => return Poll::Ready(Some(Err(status))),
            (Some(_), Format::Grpc) => Status::ok(""),
            (Some(_), Format::Json) => return Poll::Ready(None),
            (None, _) => return Poll::Ready(Some(Err(Status::deadline_exceeded("the answer was not read in time")))),
        };
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(unsayable) => Err(unsayable),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
