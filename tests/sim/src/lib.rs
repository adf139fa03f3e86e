//! Members, clients, disks and wires in one deterministic process: one thread, one seed, no real time.
//!
//! What runs is what ships: the Raft adapter, the log's writer, the state, the record store, the watch hub and the
//! services in front of them. What is simulated is below them: the machines that run tasks ([`machine`]), the disks
//! ([`disks`]), the wires ([`wires`]); and who makes trouble ([`nemesis`]). What clients saw is judged by
//! `keepstone-check`.
//!
//! One seed a process: tokio and the standard library draw their randomness from the process ([`entropy`]).

pub mod agreement;
pub mod churn;
pub mod cluster;
pub mod dice;
pub mod disks;
pub mod entropy;
pub mod faulty;
pub mod home;
pub mod lazy;
pub mod load;
pub mod machine;
pub mod many;
pub mod member;
pub mod nemesis;
pub mod oracle;
pub mod plan;
pub mod planted;
pub mod progress;
pub mod run;
pub mod stall;
pub mod trace;
pub mod transport;
pub mod watchers;
pub mod wires;
