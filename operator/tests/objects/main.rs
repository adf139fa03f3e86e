//! The objects of a cluster: whole, in tests/golden, and by what each part of them prevents.

mod agents;
mod claims;
mod common;
mod golden;
mod pods;
mod services;
mod tls;
