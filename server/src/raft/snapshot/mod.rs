//! Snapshots to a member that lags behind the log: a moment of the leader's state, streamed while both go on working,
//! and installed in one step.
//!
//! The sender ([`cut`], [`outgoing`], [`sender`]) never writes a file and holds no lock for longer than copying the small
//! tables takes. The receiver ([`staging`], [`receiver`], [`install`]) fills a store beside the one in use, checks all of
//! it, and only then lets it take the other's place. Nothing here decides who gets a snapshot: Raft does.

pub mod blocking;
mod content;
mod cut;
mod disk_home;
mod home;
mod install;
mod outgoing;
mod receiver;
mod sender;
mod staging;
mod wire;

pub use disk_home::{DiskHome, is_installed, settle};
pub use home::{Home, HomeError, Place};
pub use install::install;
pub use outgoing::{Outgoing, Ticket, tend};
pub use receiver::{ReceiveError, Receiver};
pub use sender::send;
pub use staging::Staged;
