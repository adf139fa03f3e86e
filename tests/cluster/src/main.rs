//! `keepstone-cluster-tests PART`: runs a part with the budget asked for, and prints one line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use keepstone_cluster_tests::{faults, kills, power};

#[derive(Parser)]
#[command(about = "Members under kills, power loss and failing disks")]
struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// SIGKILL under load.
    Kills {
        #[arg(long, default_value_t = 30)]
        count: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Disks as a loss of power may leave them.
    PowerLoss {
        #[arg(long, default_value_t = 12)]
        states: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Take sync_file_range for a sync, to see whether a failure comes from it.
        #[arg(long)]
        trust_sync_file_range: bool,
    },
    /// Full and failing disks, damaged and foreign directories.
    Faults {
        /// Only cases whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse().part).await {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn run(part: Part) -> Result<String> {
    Ok(match part {
        Part::Kills { count, seed } => format!("kills: seed {seed}: {}", kills::run(count, seed).await?),
        Part::PowerLoss { states, seed, trust_sync_file_range } => {
            format!("power-loss: seed {seed}: {}", power::run(states, seed, trust_sync_file_range).await?)
        }
        Part::Faults { only } => format!("faults: {}", faults::run(&only).await?),
    })
}
