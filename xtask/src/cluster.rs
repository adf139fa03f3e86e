//! The parts with real processes: members that are killed, lose power, have failing disks, or
//! are cut off from each other. See tests/cluster.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::part::Job;
use crate::run;

/// The tests' own program, on the development build: the preload library needs a dynamic member.
fn tests(job: &Job, args: &[&str]) -> Result<()> {
    tests_of(job, &job.place.dev("keepstone"), args)
}

fn tests_of(job: &Job, member: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new(job.place.dev("keepstone-cluster-tests"));
    command.env("KEEPSTONE_BIN", member);
    command.env("KEEPSTONE_PRELOAD", job.place.dev("libkeepstone_preload.so"));
    run::to_end(command.args(args).args(job.args), job.deadline)
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

pub fn groups(job: &Job) -> Result<()> {
    have_ip(job)?;
    tests(job, &["group", "--minutes", "3"])
}

pub fn groups_long(job: &Job) -> Result<()> {
    have_ip(job)?;
    tests(job, &["group"])
}

/// The static binary, because etcd's is what it is compared with.
pub fn failover(job: &Job) -> Result<()> {
    let etcd = job.place.etcd_tools().join("etcd").to_string_lossy().into_owned();
    tests_of(job, &job.place.release("keepstone"), &["failover", "--etcd", &etcd])
}

/// Networks are made with iproute2. It is installed where it is missing and that can be done without asking anybody.
fn have_ip(job: &Job) -> Result<()> {
    let there = Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-y", "-qq", "iproute2"]);
        run::to_end(&mut install, job.deadline).context("there is no `ip` (iproute2)")?;
    }
    Ok(())
}
