//! `keepstone-sim`: runs seeds, one or many.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use keepstone_sim::many::{self, Amount};
use keepstone_sim::plan::{Fault, Plan};
use keepstone_sim::{entropy, planted, run};

#[derive(Parser)]
#[command(about = "A cluster in one deterministic process, and what goes wrong with it")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// One seed.
    One {
        seed: u64,
        #[arg(long)]
        members: Option<u64>,
        /// Something broken on purpose.
        #[arg(long)]
        fault: Option<Fault>,
        /// Judge only by what clients can see.
        #[arg(long)]
        blind: bool,
        /// Show everything that happens.
        #[arg(long)]
        log: bool,
        /// Show what the members log, too: `info`, `openraft=debug`, ...
        #[arg(long)]
        trace: Option<String>,
    },
    /// Many seeds.
    Many {
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long)]
        count: Option<u64>,
        /// Stop after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// Fail if they are fewer.
        #[arg(long, default_value_t = 1)]
        at_least: u64,
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Note clean seeds in this file, and pass over those that are in it.
        #[arg(long)]
        progress: Option<PathBuf>,
        /// Arguments for each run.
        #[arg(last = true)]
        with: Vec<String>,
    },
    /// How often each planted fault is found.
    Planted {
        /// These only.
        fault: Vec<Fault>,
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long, default_value_t = 20)]
        count: u64,
        /// Judge only by what clients can see.
        #[arg(long)]
        blind: bool,
    },
    /// Seeds, each twice: both runs must be the same.
    Twice {
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long, default_value_t = 20)]
        count: u64,
        /// Arguments for each run.
        #[arg(last = true)]
        with: Vec<String>,
    },
}

fn main() -> ExitCode {
    match carry_out(Args::parse().what) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn carry_out(what: What) -> Result<String> {
    match what {
        What::One { seed, members, fault, blind, log, trace } => {
            one(Plan::new(seed, members, fault, blind), log, trace)
        }
        What::Planted { fault, from, count, blind } => {
            planted::table(&fault, from, count, blind, |line| println!("{line}"))?;
            Ok(format!("{count} seeds each"))
        }
        What::Many { from, count, seconds, at_least, jobs, progress, with } => {
            let time = seconds.map(Duration::from_secs);
            let done = many::many(&Amount { from, count, time, at_least, jobs, with, progress })?;
            Ok(format!("{done} seeds from {from} on: every promise kept"))
        }
        What::Twice { from, count, with } => {
            many::twice(from, count, &with)?;
            Ok(format!("{count} seeds from {from} on, each twice: the same"))
        }
    }
}

/// A run, on a thread whose hash maps were not made before the seed was known.
fn one(plan: Plan, log: bool, trace: Option<String>) -> Result<String> {
    // Before the seed, and on this thread: what listens must not change what happens.
    if let Some(filter) = trace {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    entropy::seed(plan.seed);
    let thread = std::thread::Builder::new().name("run".to_owned()).stack_size(64 << 20);
    let run = thread.spawn(move || run::run(&plan, log))?;
    match run.join() {
        Ok(report) => Ok(report?.to_string()),
        Err(_) => anyhow::bail!("the run panicked"),
    }
}
