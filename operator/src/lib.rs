//! The acting side of keepstone's operator, as far as it decides nothing and talks to nobody: the Kubernetes objects of a
//! cluster, and its certificates.
//!
//! [`Blueprint`] is an `EtcdCluster` with its texts read. Everything in [`objects`] is a function of it and of what the
//! planner has settled. [`pki`] gets its time and its keys from the caller.

#![forbid(unsafe_code)]

pub mod blueprint;
pub mod controller;
pub mod convert;
pub mod names;
pub mod objects;
pub mod pki;
pub mod quantity;

pub use blueprint::{Blueprint, Settings, Unreadable};
pub use names::Names;
