//! The acting side of keepstone's operator: the Kubernetes objects of a cluster, its certificates, the controller that looks
//! and acts, and the process it runs in. What is to be done the planner says.
//!
//! [`Blueprint`] is an `EtcdCluster` with its texts read. Everything in [`objects`] is a function of it and of what the
//! planner has settled. [`pki`] gets its time and its keys from the caller.

#![forbid(unsafe_code)]

pub mod backup;
pub mod blueprint;
pub mod controller;
pub mod convert;
pub mod manager;
pub mod members;
pub mod names;
pub mod objects;
pub mod pki;
pub mod plugin;
pub mod quantity;

pub use blueprint::{Blueprint, Settings, Unreadable};
pub use names::Names;
