//! What members say to one another, and how it gets there.
//!
//! Messages are bytes here: what they mean is in [`wire`], who sends and takes them in [`crate::raft::network`] and
//! [`inbox`]. The way they take is behind [`Transport`], so that the simulator can lay its own wires.

pub mod book;
pub mod grpc;
pub mod heartbeat;
pub mod inbox;
pub mod service;
pub mod traffic;
pub mod wire;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use keepstone_state::MemberId;

/// Why a message got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It was surely not delivered.
    #[error("member {to:x} can't be connected to: {why}", to = .to.0)]
    NotSent { to: MemberId, why: String },
    /// It was not delivered, or its answer got lost: whether it had an effect is not known.
    #[error("member {to:x} can't be reached: {why}", to = .to.0)]
    Unreachable { to: MemberId, why: String },
    #[error("member {to:x} did not answer in time", to = .to.0)]
    Timeout { to: MemberId },
    /// The other side looked at who asks and will not talk to it, now or later.
    #[error("member {to:x} refuses: {why}", to = .to.0)]
    Refused { to: MemberId, why: String },
    /// The other side knows that this member was removed from the cluster.
    #[error("member {to:x} says that this member was removed from the cluster", to = .to.0)]
    Removed { to: MemberId },
    /// The other side could not do what it was asked.
    #[error("member {to:x}: {why}", to = .to.0)]
    Failed { to: MemberId, why: String },
}

pub type Answers = BoxStream<'static, Result<Bytes, PeerError>>;

/// The way to the other members. Knows addresses and who this member is; every message carries that.
///
/// A dropped future or stream gives its message up. Bounds: one message is at most [`MAX_MESSAGE_BYTES`] long, and a
/// stream takes no further message from its source than the other side has room for.
pub trait Transport: Send + Sync + 'static {
    /// One message and its answer.
    fn call(&self, to: MemberId, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// Log entries: messages in order, each answered in order.
    fn replicate(
        &self,
        to: MemberId,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Answers, PeerError>>;

    /// A copy of the state: `header` first. Answered once it is installed.
    fn snapshot(
        &self,
        to: MemberId,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// Where messages of other members arrive. The sender is who it says it is: that was checked before.
pub trait Inbox: Send + Sync + 'static {
    /// Answers one message; an error is told to the sender as it is.
    fn call(&self, from: MemberId, message: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    fn replicate(
        &self,
        from: MemberId,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, String>>;

    fn snapshot(
        &self,
        from: MemberId,
        header: Bytes,
        pieces: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// Bytes of one message: several of the largest requests, and room for what is around them.
pub const MAX_MESSAGE_BYTES: usize = 512 << 20;
