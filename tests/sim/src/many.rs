//! Many seeds, each in a process of its own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::progress::Progress;

/// How many seeds, and for how long.
#[derive(Clone, Debug)]
pub struct Amount {
    pub from: u64,
    pub count: Option<u64>,
    pub time: Option<Duration>,
    pub at_least: u64,
    pub jobs: usize,
    /// More arguments for each run.
    pub with: Vec<String>,
    /// Where to note clean seeds, and not to run them again.
    pub progress: Option<PathBuf>,
}

/// Runs one seed in another process and returns what it printed.
///
/// # Errors
/// When the process can't be started.
pub fn one(seed: u64, with: &[String]) -> Result<Output> {
    let program = std::env::current_exe().context("this program's own path")?;
    let mut command = Command::new(program);
    command.arg("one").arg(seed.to_string()).args(with).stdin(Stdio::null());
    command.output().context("starting a run")
}

/// Runs seeds until the amount is reached; says how many.
///
/// # Errors
/// The first run that broke a promise, with the way to see it again.
pub fn many(amount: &Amount) -> Result<u64> {
    let (next, done) = (AtomicU64::new(amount.from), AtomicU64::new(0));
    let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
    let began = Instant::now();
    let progress = amount.progress.as_deref().map(|path| Progress::open(path, &amount.with)).transpose()?;
    let worker = || {
        while !stop.load(Ordering::Relaxed) && amount.time.is_none_or(|time| began.elapsed() < time) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if amount.count.is_some_and(|count| seed >= amount.from + count) {
                return;
            }
            let known = progress.as_ref().is_some_and(|progress| progress.has(seed));
            let ran = || {
                one(seed, &amount.with).and_then(|output| verdict(seed, &output))?;
                progress.as_ref().map_or(Ok(()), |progress| progress.add(seed))
            };
            if let Err(error) = if known { Ok(()) } else { ran() } {
                stop.store(true, Ordering::Relaxed);
                failed.lock().expect("nobody panics with it").get_or_insert(error);
                return;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..amount.jobs {
            scope.spawn(worker);
        }
    });
    if let Some(error) = failed.into_inner().expect("nobody panicked with it") {
        return Err(error);
    }
    let done = done.into_inner();
    ensure!(done >= amount.at_least, "only {done} seeds in the time given, not {}", amount.at_least);
    Ok(done)
}

fn verdict(seed: u64, output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("seed {seed} ({}): {said}{why}see it with: keepstone-sim one {seed} --log", output.status);
    }
    Ok(said)
}

/// Runs each of `count` seeds twice and compares: the same hash, or the seed does not name a run.
///
/// # Errors
/// The first seed whose two runs differ.
pub fn twice(from: u64, count: u64, with: &[String]) -> Result<()> {
    for seed in from..from + count {
        let first = verdict(seed, &one(seed, with)?)?;
        let second = verdict(seed, &one(seed, with)?)?;
        ensure!(first == second, "seed {seed} ran twice, differently:\n{first}{second}");
    }
    Ok(())
}
