//! Clusters of real processes under faults: members are killed, paused, cut off, replaced, restarted one after the other,
//! and their disks fill, while clients write, read, watch and hold leases on all of them. What the clients saw is then
//! held against etcd's promises by keepstone-check, which the simulator uses too.

mod clients;
pub mod failover;
mod members;
mod nemesis;
pub mod network;
mod ops;
mod round;
mod verdict;
mod watchers;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

pub use ops::Plant;
pub use round::{Plan, Report};

/// Runs rounds with the seeds from `seed` on until the time is over; each prints its line. Answers the sum.
///
/// # Errors
/// The first round in which something was broken, with its seed.
pub async fn run(seed: u64, limit: Duration, members: Option<usize>, plant: Option<Plant>) -> Result<String> {
    let began = Instant::now();
    let mut sum = Report::default();
    let mut next = seed;
    while began.elapsed() < limit {
        let left = limit.saturating_sub(began.elapsed());
        let plan = Plan::of(next, members, plant, left);
        match round::run(&plan).await {
            Ok(report) => {
                println!("seed {next}: {} members, {report}", plan.members);
                sum.add(&report);
            }
            Err(why) => anyhow::bail!("seed {next} ({} members): {why:#}\nafter {sum}", plan.members),
        }
        next += 1;
    }
    ensure!(next > seed, "no time for a single round");
    Ok(format!("seeds {seed} to {}: {sum}; go on with --seed {next}", next - 1))
}
