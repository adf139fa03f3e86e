//! Snapshots between members of one process: under writes, interrupted, across restarts, and what watchers see of it.

mod crash;
mod member;
mod transfer;
mod watchers;
