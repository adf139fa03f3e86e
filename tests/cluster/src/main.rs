//! `keepstone-cluster-tests PART`: runs a part with the budget asked for, and prints one line.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use keepstone_cluster_tests::{faults, group, kills, power};

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
    /// Clusters of three and five under kills, pauses, partitions, full disks, replaced and restarted members.
    Group {
        #[arg(long, default_value_t = 30.0)]
        minutes: f64,
        /// The first round's seed; the next ones follow.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Instead of three or five as the seed has it.
        #[arg(long)]
        members: Option<usize>,
        /// Break something on purpose: the run must fail.
        #[arg(long)]
        plant: Option<group::Plant>,
    },
    /// How long a cluster takes no write when its leader is killed, beside etcd.
    Failover {
        #[arg(long, default_value_t = 50)]
        count: u32,
        /// etcd's program.
        #[arg(long)]
        etcd: std::path::PathBuf,
    },
    /// Full and failing disks, damaged and foreign directories.
    Faults {
        /// Only cases whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
}

fn main() -> ExitCode {
    match prepared(Args::parse().part) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn prepared(part: Part) -> Result<String> {
    if matches!(part, Part::Group { .. }) {
        group::network::leave_the_world()?;
    }
    tokio::runtime::Runtime::new()?.block_on(run(part))
}

async fn run(part: Part) -> Result<String> {
    Ok(match part {
        Part::Kills { count, seed } => format!("kills: seed {seed}: {}", kills::run(count, seed).await?),
        Part::PowerLoss { states, seed, trust_sync_file_range } => {
            format!("power-loss: seed {seed}: {}", power::run(states, seed, trust_sync_file_range).await?)
        }
        Part::Group { minutes, seed, members, plant } => {
            let limit = Duration::from_secs_f64(minutes * 60.0);
            format!("group: {}", group::run(seed, limit, members, plant).await?)
        }
        Part::Failover { count, etcd } => group::failover::run(count, &etcd).await?,
        Part::Faults { only } => format!("faults: {}", faults::run(&only).await?),
    })
}
