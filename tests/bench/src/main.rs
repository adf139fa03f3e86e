//! keepstone-bench: loads an etcd-compatible server over plaintext gRPC, compares two servers, measures memory.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
mod compare;
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
mod memory;
mod procfs;
mod report;
mod scenario;
mod server;
mod sources;
mod steps;
mod tx;
mod watch;
mod wire;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use report::Target;
use server::Program;
use std::net::SocketAddr;
use std::path::PathBuf;

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

#[derive(Parser)]
#[command(version, about = "A lean load generator for etcd-compatible servers, and their comparison")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios against a server that is already up
    Run(RunArgs),
    /// Start two servers in turn and print medians and ratios as a Markdown table
    Compare(CompareArgs),
    /// Memory, restart and compaction of one or two servers, as a Markdown table
    Memory(MemoryArgs),
}

/// Which servers to start, and where.
#[derive(clap::Args)]
struct Programs {
    /// Path of an etcd binary
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Path of a keepstone binary (or of a second etcd, to see how even the comparison is)
    #[arg(long)]
    keepstone: Option<PathBuf>,
    /// More flags for etcd, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    etcd_args: String,
    /// More flags for keepstone, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    keepstone_args: String,
    /// Where data directories are made; it should be a real disk, not tmpfs
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Leave both server and client on all cores, instead of one core each (0 and 1)
    #[arg(long)]
    no_pin: bool,
    /// Raise this session above others in the scheduler (see server::raise_session); needs privileges
    #[arg(long)]
    raise: bool,
    /// Also write every figure of every round to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Programs {
    /// Prepares this process too: directory, core, priority.
    fn prepare(&self) -> Result<Vec<Program>> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("create {}", self.dir.display()))?;
        let program = |name: &str, path: &PathBuf, extra: &str| Program {
            name: name.to_owned(),
            path: path.clone(),
            extra: extra.split_whitespace().map(str::to_owned).collect(),
            core: (!self.no_pin).then_some(SERVER_CORE),
            root: self.dir.clone(),
        };
        if self.raise && !server::raise_session() {
            eprintln!("the kernel does not let this session be raised");
        }
        if !self.no_pin {
            server::pin(CLIENT_CORE)?;
        }
        let etcd = self.etcd.iter().map(|p| program("etcd", p, &self.etcd_args));
        let keepstone = self.keepstone.iter().map(|p| program("keepstone", p, &self.keepstone_args));
        Ok(etcd.chain(keepstone).collect())
    }

    fn save(&self, figures: &impl serde::Serialize) -> Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        std::fs::write(path, serde_json::to_vec_pretty(figures)?).with_context(|| format!("write {}", path.display()))
    }
}

#[derive(clap::Args)]
struct CompareArgs {
    #[command(flatten)]
    programs: Programs,
    /// Rounds of each scenario on each server
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Comma separated names, or all
    #[arg(default_value = "all")]
    scenarios: String,
    #[command(flatten)]
    settings: scenario::Settings,
}

#[derive(clap::Args)]
struct MemoryArgs {
    #[command(flatten)]
    programs: Programs,
    /// Comma separated: large, watchers, stuck, leases, compaction, or all
    #[arg(default_value = "all")]
    steps: String,
    /// Shrinks (or grows) every size: 0.1 is 100,000 keys
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
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
        Command::Compare(args) => compare(&args),
        Command::Memory(args) => memory(&args),
    }
}

fn run(args: &RunArgs) -> Result<()> {
    let target = Target { addr: args.endpoint, pid: args.pid };
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

fn compare(args: &CompareArgs) -> Result<()> {
    let scenarios = scenario::select(&args.scenarios)?;
    let Ok(programs) = <[Program; 2]>::try_from(args.programs.prepare()?) else {
        bail!("both --etcd and --keepstone are needed");
    };
    let rows = compare::run(&programs, &scenarios, args.rounds, &args.settings);
    args.programs.save(&rows)?;
    println!("{}", compare::markdown(&rows));
    let failed: usize = rows.iter().map(|r| r.failures.len()).sum();
    ensure!(failed == 0, "{failed} rounds failed");
    Ok(())
}

fn memory(args: &MemoryArgs) -> Result<()> {
    let programs = args.programs.prepare()?;
    ensure!(!programs.is_empty(), "--etcd or --keepstone is needed");
    let outcomes = programs.iter().map(|p| memory::run(p, &args.steps, args.scale)).collect::<Result<Vec<_>>>()?;
    args.programs.save(&outcomes)?;
    println!("{}", memory::markdown(&outcomes));
    let failed: usize = outcomes.iter().map(|o| o.failures.len()).sum();
    ensure!(failed == 0, "{failed} steps failed");
    Ok(())
}
