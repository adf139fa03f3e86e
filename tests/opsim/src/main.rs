//! Runs seeds: one with all that happens in it, many for a while, or some twice to see that a seed names a run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use keepstone_opsim::{Flavour, Planted, run, run_as};

#[derive(Parser)]
#[command(name = "keepstone-opsim", about = "The operator against a Kubernetes in memory")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One seed, with all that happens.
    One {
        seed: u64,
        /// With nothing in it but members that come, go and are lost.
        #[arg(long)]
        plain: bool,
        /// With an operator that leaves out something, such as `no-fence`.
        #[arg(long, value_enum, default_value_t)]
        planted: Planted,
    },
    /// Seeds, one after the other.
    Many {
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long, default_value_t = 1000)]
        count: u64,
        /// Stops after so long.
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
        /// Fails where time was too short for so many.
        #[arg(long, default_value_t = 1)]
        at_least: u64,
        /// Goes on where a run before it was interrupted.
        #[arg(long)]
        progress: Option<PathBuf>,
    },
    /// What operators leave out that leave something out, and in how many of so many seeds that is found.
    Planted {
        #[arg(long, default_value_t = 12)]
        seeds: u64,
    },
    /// Each seed two times: both have to be the same.
    Twice {
        #[arg(long, default_value_t = 20)]
        count: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let well = match Arguments::parse().command {
        Command::One { seed, plain, planted } => {
            one(seed, planted, if plain { Flavour::default() } else { Flavour::of(seed, planted) })
        }
        Command::Many { from, count, seconds, at_least, progress } => {
            let limit = Duration::from_secs(seconds);
            many(from, count, limit, at_least, progress.as_deref())?
        }
        Command::Planted { seeds } => planted(seeds),
        Command::Twice { count } => (1..=count).all(twice),
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn one(seed: u64, planted: Planted, flavour: Flavour) -> bool {
    match run_as(seed, planted, flavour) {
        Ok(report) => {
            for line in &report.trail {
                println!("{line}");
            }
            println!("seed {seed}: {} acts, {} faults, {} deaths", report.acts, report.faults, report.deaths);
            true
        }
        Err(broken) => {
            for line in &broken.trail {
                println!("{line}");
            }
            println!("seed {seed}: {}", broken.why);
            false
        }
    }
}

fn many(
    from: u64,
    count: u64,
    limit: Duration,
    at_least: u64,
    progress: Option<&std::path::Path>,
) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let kept = progress.and_then(|path| std::fs::read_to_string(path).ok());
    let mut done = kept.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let (mut faults, mut deaths, mut acts) = (0, 0, 0);
    while done < count && begun.elapsed() < limit {
        let seed = from + done;
        match run(seed, Planted::Nothing) {
            Ok(report) => {
                faults += report.faults;
                deaths += report.deaths;
                acts += report.acts;
            }
            Err(broken) => {
                println!("seed {seed}: {}", broken.why.lines().next().unwrap_or_default());
                println!("all of it: cargo run -p keepstone-opsim -- one {seed}");
                return Ok(false);
            }
        }
        done += 1;
        if let Some(path) = progress {
            std::fs::write(path, done.to_string())?;
        }
    }
    if let Some(path) = progress.filter(|_| done >= count) {
        std::fs::remove_file(path)?;
    }
    println!("{done} seeds from {from}: {acts} acts, {faults} faults, {deaths} deaths of operators, nothing broken");
    Ok(done >= at_least.min(count))
}

fn planted(seeds: u64) -> bool {
    let mut all = true;
    for planted in Planted::FOUND {
        let found: Vec<_> = (1..=seeds).filter_map(|seed| run(seed, planted).err()).collect();
        let first = found.first().and_then(|broken| broken.why.lines().next()).unwrap_or_default();
        println!(
            "{:16} {:>3} of {seeds}  {}",
            format!("{planted:?}"),
            found.len(),
            first.chars().take(100).collect::<String>()
        );
        all &= !found.is_empty();
    }
    all
}

fn twice(seed: u64) -> bool {
    let (first, second) = (run(seed, Planted::Nothing), run(seed, Planted::Nothing));
    if first != second {
        println!("seed {seed} is not the same twice");
    }
    first.is_ok() && first == second
}
