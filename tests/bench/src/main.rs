//! keepstone-bench: loads an etcd-compatible server over plaintext gRPC, compares two servers, measures memory.

mod clock;
mod conn;
mod engine;
mod frame;
mod hist;
mod hpack;
mod huffman;
mod interrupt;
mod keys;
mod lease;
mod load;
mod procfs;
mod report;
mod scenario;
mod sources;
mod tx;
mod watch;
mod wire;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use report::Target;
use std::net::SocketAddr;

#[derive(Parser)]
#[command(
    version,
    about = "A lean load generator for etcd-compatible servers, and their comparison"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios against a server that is already up
    Run(RunArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// Address of the server's client port
    #[arg(long, default_value = "127.0.0.1:2379")]
    endpoint: SocketAddr,
    /// Process id of the server: its CPU and memory are read from /proc
    #[arg(long)]
    pid: Option<u32>,
    /// Pin this process to a core
    #[arg(long)]
    core: Option<usize>,
    /// Print one JSON object a scenario
    #[arg(long)]
    json: bool,
    /// Comma separated names, or all
    #[arg(default_value = "all")]
    scenarios: String,
    #[command(flatten)]
    settings: scenario::Settings,
}

fn main() -> Result<()> {
    interrupt::install()?;
    match Args::parse().command {
        Command::Run(args) => run(&args),
    }
}

fn run(args: &RunArgs) -> Result<()> {
    let target = Target {
        addr: args.endpoint,
        pid: args.pid,
    };
    let mut failed = 0;
    for (name, kind) in scenario::select(&args.scenarios)? {
        let report = scenario::run(name, kind, &target, &args.settings)?;
        failed += u32::from(report.check.is_err() || report.errors > 0);
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            println!("{report}");
        }
    }
    if failed > 0 {
        bail!("{failed} scenarios did not pass their check");
    }
    Ok(())
}
