//! The operator's own controller against a Kubernetes in memory: an API server with resource versions, preconditions, lists
//! that are behind and calls that are lost; a StatefulSet controller, kubelets and members, which are
//! `keepstone-operator-world`'s. One thread, one seed, one order of events.
//!
//! Two operators run. Either may die between any two calls, be slow for minutes, or wake when the other has long taken over.
//! After each step it is looked at what must never be; when the world has become quiet, it must become what was asked for.

pub mod client;
pub mod flavour;
pub mod keys;
pub mod render;
pub mod rng;
pub mod run;
pub mod site;

pub use flavour::Flavour;
pub use run::{Planted, Report, run, run_as};
