//! The simulators' parts: whole clusters in one deterministic process (tests/sim), and the operator (tests/opsim).

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::part::Job;
use crate::place::Place;
use crate::{build, run};

const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

fn simulator(job: &Job, args: &[&str]) -> Result<()> {
    run::to_end(Command::new(job.place.dev("keepstone-sim")).args(args), job.deadline)
}

/// That a seed names a run, then four minutes of seeds, or as many as have been clean before: a test of a change finds what
/// the change has broken, and seeds that nobody has seen are for `prove`.
///
/// # Errors
/// The seed that broke a promise.
pub fn seeds(job: &Job) -> Result<()> {
    simulator(job, &["twice", "--count", "20"])?;
    simulator(job, &["many", "--count", "600", "--seconds", "240", "--at-least", "200"])
}

/// 2,000 seeds. Goes on where it was interrupted, with the same build.
///
/// # Errors
/// The seed that broke a promise.
pub fn seeds_long(job: &Job) -> Result<()> {
    let progress = job.place.dev("keepstone-sim.progress");
    let progress = progress.to_string_lossy();
    simulator(job, &["many", "--count", "2000", "--at-least", "2000", "--progress", &progress])
}

/// The operator against a Kubernetes in memory: that a seed names a run, then two minutes of seeds.
///
/// # Errors
/// The seed that broke a promise.
pub fn operator(job: &Job) -> Result<()> {
    operator_simulator(job, &["twice", "--count", "10"])?;
    operator_simulator(job, &["many", "--count", "600", "--seconds", "120", "--at-least", "40"])
}

/// 1,000 seeds. Goes on where it was interrupted, with the same build.
///
/// # Errors
/// The seed that broke a promise.
pub fn operator_long(job: &Job) -> Result<()> {
    let progress = job.place.dev("keepstone-opsim.progress");
    let progress = progress.to_string_lossy();
    operator_simulator(job, &["many", "--count", "1000", "--at-least", "1000", "--progress", &progress])
}

/// Every planted fault is found by one seed of 100 at least. Some hide: two were found by one of 30.
///
/// # Errors
/// One is not.
pub fn operator_planted(job: &Job) -> Result<()> {
    operator_simulator(job, &["planted", "--seeds", "100"])
}

fn operator_simulator(job: &Job, args: &[&str]) -> Result<()> {
    run::to_end(Command::new(job.place.dev("keepstone-opsim")).args(args), job.deadline)
}

/// As many seeds as one likes, or one with all that happens in it.
///
/// # Errors
/// The seed that broke a promise.
pub fn run(place: &Place, args: &[String]) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    run::to_end(build::cargo(place).args(["build", "-p", "keepstone-sim"]), deadline)?;
    run::to_end(Command::new(place.dev("keepstone-sim")).args(args), deadline)
}
