//! Certificates of a cluster's own: a CA, what it signs, and how another takes its place without restarting anybody.
//!
//! Time and keys come from the caller. Which step is due is the planner's to say; a step that would leave somebody with a
//! certificate that others don't trust is refused here all the same.

mod authority;
mod ca;
mod leaf;
mod pem;
pub mod profile;
mod source;

use std::sync::Arc;

pub use authority::Authority;
pub use ca::{Bundle, Ca, CaCertificate, LIFE};
pub use leaf::{Facts, Leaf, issue};
pub use source::{KeySource, SystemKeys};

/// How far clocks may differ: certificates are valid from so many seconds before they are made.
pub const SKEW: u64 = 3600;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("it is no certificate: {0}")]
    Certificate(String),
    #[error("it is no private key: {0}")]
    Key(String),
    #[error("{0:?} can't be in a certificate")]
    Name(String),
    #[error("it can't be signed: {0}")]
    Signing(String),
    #[error("there is no CA {0}")]
    UnknownCa(Arc<str>),
    #[error("CA {0} is not trusted by everybody yet")]
    Untrusted(Arc<str>),
    #[error("CA {0} is in use: what it signed would not be trusted any more")]
    InUse(Arc<str>),
    #[error("CA {0} has ended")]
    Ended(Arc<str>),
}
