//! Real members as processes, under kills, power loss and failing disks, checked against what they acknowledged.
//!
//! Each part is a function with a budget: `main` runs it as asked, and the tests in `tests/` run a small one. Every
//! random choice follows from a seed that is printed. No part leaves a process or a directory behind.

pub mod client;
pub mod faults;
pub mod group;
pub mod history;
pub mod kills;
pub mod ledger;
pub mod load;
pub mod member;
pub mod power;
pub mod watcher;
