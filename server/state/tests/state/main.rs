//! What a client can see of the state, and what a store can.

mod check;
mod compaction;
mod hash;

mod kv;
mod lease;
mod members;
mod model;
mod naive;
mod support;
mod txn;
