//! Calls to members: one at a time, to one member, each with a bound of its own. Nothing is tried again here and nobody
//! else is asked: what a failure means is the planner's to say.

mod answers;
mod card;
mod connect;
mod failure;
mod live;
mod member;
mod snapshot;

pub use answers::{Hash, Row, Status};
pub use card::{Card, card};
pub use connect::{BadCredentials, Dialer};
pub use failure::{CallError, Refusal};
pub use live::Live;
pub use member::Member;
pub use snapshot::{Snapshot, SnapshotError};
