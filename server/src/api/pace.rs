//! What a client that reads slowly may cost: an answer sent in pieces holds a revision and memory until it is read.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// How long one piece may wait for the client to take it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second that a client has to take on the whole, once [`PATIENCE`] is used up.
pub const SLOWEST: u64 = 256 << 10;

/// Why there is no use in sending more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The client has gone.
    Gone,
    /// The client takes too long.
    Slow,
}

/// Sends pieces to a client for as long as it reads them. Only the time spent on waiting for the client counts.
#[derive(Debug)]
pub struct Pace {
    patience: Duration,
    waited: Duration,
    sent: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { patience: PATIENCE, waited: Duration::ZERO, sent: 0 }
    }
}

impl Pace {
    /// `patience` instead of [`PATIENCE`].
    pub fn new(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Waits until there is room for a piece of `bytes` bytes and sends it.
    ///
    /// # Errors
    /// [`Unread`]; the piece is lost.
    pub async fn send<T>(&mut self, tx: &mpsc::Sender<T>, piece: T, bytes: usize) -> Result<(), Unread> {
        let piece = match tx.try_send(piece) {
            Ok(()) => {
                self.sent += bytes as u64;
                return Ok(());
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Unread::Gone),
            Err(mpsc::error::TrySendError::Full(piece)) => piece,
        };
        let began = Instant::now();
        let sent = tokio::time::timeout(self.left(), tx.send(piece)).await;
        self.waited += began.elapsed();
        self.sent += bytes as u64;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unread::Gone),
            Err(_) => Err(Unread::Slow),
        }
    }

    /// How long the next piece may wait.
    fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.sent.saturating_mul(1000) / SLOWEST);
        (self.patience + earned).saturating_sub(self.waited).min(self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_never_reads_is_given_up() {
        let (tx, _rx) = mpsc::channel(1);
        let mut pace = Pace::new(Duration::from_millis(1));
        assert_eq!(pace.send(&tx, (), 1).await, Ok(()));
        assert_eq!(pace.send(&tx, (), 1).await, Err(Unread::Slow));
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_noticed() {
        let (tx, rx) = mpsc::channel(1);
        drop(rx);
        assert_eq!(Pace::default().send(&tx, (), 1).await, Err(Unread::Gone));
    }

    #[test]
    fn a_client_that_trickles_is_given_up_too() {
        let minute = 60 * SLOWEST;
        let pace = |waited, sent| Pace { waited: Duration::from_secs(waited), sent, ..Pace::default() };
        assert_eq!(pace(0, 0).left(), PATIENCE);
        assert_eq!(pace(59, 0).left(), Duration::from_secs(1));
        assert_eq!(pace(119, minute).left(), Duration::from_secs(1));
        assert_eq!(pace(121, minute).left(), Duration::ZERO);
        assert_eq!(pace(60, 100 * minute).left(), PATIENCE);
    }
}
