//! Proofs that take too long for every change: `cargo xtask prove PART`.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::part::{self, Job, Need, Part};
use crate::place::Place;
use crate::{build, cluster, e2e, go, run, sim};

const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
const DENY_VERSION: &str = "0.20.2";

const PARTS: &[Part] = &[
    Part { makes: Some(Need::Dev), ..part("build", "everything, unoptimized", &[], build::dev) },
    Part { makes: Some(Need::Tools), ..part("tools", "etcd, its tools and its tests", &[], go::tools) },
    Part { makes: Some(Need::Release), ..part("release", "the static binary", &[], release) },
    part("sim", "2,000 simulated clusters", &[Need::Dev], sim::seeds_long),
    part("kills", "200 times SIGKILL under load", &[Need::Dev], cluster::kills_long),
    part("power-loss", "100 disks as a loss of power may leave them", &[Need::Dev], cluster::power_loss_long),
    part("faults", "full, failing and foreign disks", &[Need::Dev], cluster::faults),
    part("cluster-faults", "clusters killed, paused, cut apart: 30 minutes", &[Need::Dev], cluster::groups_long),
    part("failover", "50 killed leaders beside etcd's", &[Need::Dev, Need::Tools, Need::Release], cluster::failover),
    part("differential", "100 random histories equal to etcd's", &[Need::Dev, Need::Tools], go::differential_long),
    part("robustness", "etcd's own robustness tests, 32 scenarios", &[Need::Dev, Need::Tools], go::robustness),
    part("lease-checkpoint-kept", "lease time over a restart", &[Need::Dev, Need::Tools], go::lease_checkpoint),
    part("checkperf", "etcdctl check perf, all loads", &[Need::Release, Need::Tools], go::check_perf),
    part("store-kills", "260 times SIGKILL of the store alone", &[], store_kills),
    part("store-endurance", "10 million revisions through the store", &[], store_endurance),
    part("operator-plan", "every order of events and faults around the operator's planner", &[], operator_plan),
    part(
        "operator-sim",
        "1,000 seeds of the operator against a Kubernetes in memory",
        &[Need::Dev],
        sim::operator_long,
    ),
    part(
        "operator-planted",
        "what the operator's simulation finds if it is left out",
        &[Need::Dev],
        sim::operator_planted,
    ),
    part("e2e", "the operator's scenarios on a real Kubernetes", &[], e2e::prove),
    part("deny", "licenses, sources and bans of all dependencies", &[], deny),
];

const fn part(name: &'static str, about: &'static str, needs: &'static [Need], run: fn(&Job) -> Result<()>) -> Part {
    Part { name, about, minutes: 24 * 60, needs, makes: None, quick: false, run }
}

/// Whether all that were named passed.
///
/// # Errors
/// A name that no part has.
pub fn run(place: &Place, names: &[String], args: &[String]) -> Result<bool> {
    if names.is_empty() {
        for part in PARTS.iter().filter(|part| part.makes.is_none()) {
            println!("{:<24} {}", part.name, part.about);
        }
        return Ok(true);
    }
    Ok(part::run_all(place, &part::chosen(PARTS, names)?, false, args, LIMIT))
}

fn release(job: &Job) -> Result<()> {
    build::release(job.place, job.deadline)
}

fn endurance(job: &Job, args: &[&str]) -> Result<()> {
    let mut build = build::release_command(job.place);
    run::to_end(build.args(["-p", "keepstone-store", "--example", "endurance"]), job.deadline)?;
    let dir = job.place.bench().join("endurance");
    std::fs::create_dir_all(job.place.bench())?;
    let mut command = Command::new(job.place.release("examples/endurance"));
    run::to_end(command.args(&args[..3]).arg(dir).args(&args[3..]), job.deadline)
}

fn store_kills(job: &Job) -> Result<()> {
    endurance(job, &["kill", "disk", "260"])
}

fn store_endurance(job: &Job) -> Result<()> {
    endurance(job, &["run", "disk", "10000000", "keys=2500000", "rate=100000"])
}

/// Without a limit to the states, so that all there are with so many faults are seen.
fn operator_plan(job: &Job) -> Result<()> {
    let mut command = build::cargo(job.place);
    command.env("KEEPSTONE_PLAN_STATES", "1000000000");
    command.args(["test", "--release", "-p", "keepstone-operator-plan", "--test", "exhaustive", "--", "--nocapture"]);
    run::to_end(&mut command, job.deadline)
}

fn deny(job: &Job) -> Result<()> {
    let tools = job.place.tools();
    let mut install = build::cargo(job.place);
    install.args(["install", "cargo-deny", "--version", DENY_VERSION, "--locked", "--root"]).arg(&tools);
    run::to_end(&mut install, job.deadline)?;
    let mut check = Command::new(tools.join("bin/cargo-deny"));
    check.current_dir(&job.place.root).args(["--all-features", "check", "bans", "licenses", "sources"]);
    run::to_end(&mut check, job.deadline)
}
