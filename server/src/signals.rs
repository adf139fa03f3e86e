//! SIGTERM and SIGINT ask a member to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a member in good order.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    received: bool,
}

impl Stop {
    /// # Errors
    /// When the handlers can't be installed.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            received: false,
        })
    }

    /// Waits for one; returns at once if there was one already.
    pub async fn received(&mut self) {
        if self.received {
            return;
        }
        let name = tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        };
        self.received = true;
        tracing::info!(signal = name, "stopping");
    }

    /// Whether the member has been told to stop.
    pub fn was_received(&self) -> bool {
        self.received
    }
}
