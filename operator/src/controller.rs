//! The part that looks and acts: it reads what there is, has the planner name one act, and carries that out.
//!
//! Everything it does goes through three traits: [`api::Api`] for the API server, [`members::Members`] for the members,
//! [`clock::Clock`] for time. With others in their place the same code runs in a simulation. Nothing here is decided: that is
//! the planner's, but for who of several operators acts ([`lease`]).

pub mod act;
pub mod api;
pub mod backups;
pub mod clock;
pub mod event;
pub mod fenced;
pub mod futile;
pub mod kind;
pub mod lease;
pub mod live;
pub mod look;
pub mod members;
pub mod memory;
pub mod pass;
pub mod status;
pub mod strays;
pub mod words;
pub mod write;
