//! Keepstone's member: everything behind `main`.

pub mod api;
pub mod audit;
pub mod checkpointer;
pub mod clocks;
pub mod cluster;
pub mod compactor;
pub mod config;
pub mod core;
pub mod data;
pub mod doors;
pub mod export;
pub mod forward;
pub mod hash;
pub mod host;
pub mod huge_pages;
pub mod lanes;
pub mod listen;
pub mod logging;
pub mod member;
pub mod metrics;
pub mod peer;
pub mod pins;
pub mod propose;
pub mod purge;
pub mod raft;
pub mod restore;
pub mod runtime;
pub mod signals;
pub mod tls;
pub mod values;
pub mod version;
pub mod wal_export;
pub mod watch;

pub use member::run;
