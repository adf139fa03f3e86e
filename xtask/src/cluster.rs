//! The parts with real processes: members that are killed, lose power, or have failing disks. See tests/cluster.

use std::process::Command;

use anyhow::Result;

use crate::part::Job;
use crate::run;

/// The tests' own program, on the development build: the preload library needs a dynamic member.
fn tests(job: &Job, args: &[&str]) -> Result<()> {
    let mut command = Command::new(job.place.dev("keepstone-cluster-tests"));
    command.env("KEEPSTONE_BIN", job.place.dev("keepstone"));
    command.env("KEEPSTONE_PRELOAD", job.place.dev("libkeepstone_preload.so"));
    run::to_end(command.args(args), job.deadline)
}

pub fn kills(job: &Job) -> Result<()> {
    tests(job, &["kills", "--count", "30"])
}

pub fn kills_long(job: &Job) -> Result<()> {
    tests(job, &["kills", "--count", "200"])
}

pub fn power_loss(job: &Job) -> Result<()> {
    tests(job, &["power-loss", "--states", "12"])
}

pub fn power_loss_long(job: &Job) -> Result<()> {
    tests(job, &["power-loss", "--states", "100"])
}

pub fn faults(job: &Job) -> Result<()> {
    tests(job, &["faults"])
}
