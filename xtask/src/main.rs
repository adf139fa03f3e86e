//! `cargo xtask …`: the tests, the long proofs, the comparison with etcd and the binary to ship.
//!
//! It only starts programs and judges how they end. It installs nothing outside the target directory, but for Debian's
//! packages that the end-to-end tests' nodes are made of, where they are missing.

mod bench;
mod build;
mod cluster;
mod crds;
mod dist;
mod e2e;
mod elf;
mod go;
mod http;
mod image;
mod isolated;
mod local;
mod member;
mod part;
mod place;
mod prove;
mod responder;
mod run;
mod sim;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::place::Place;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Work on Keepstone")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the tests: all parts, or those named, with what they need built first.
    Test(test::Args),
    /// Run the long proofs that are named; without a name, list them.
    Prove {
        /// Names from the list.
        parts: Vec<String>,
        /// Arguments for the parts with real processes, as `--seed 7`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Start a few members on this machine, say who leads, and stop them with Ctrl-C.
    Cluster(local::Args),
    /// Compare with etcd, side by side: `bench [compare|memory] [keepstone-bench's arguments]`.
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the simulator: `sim many --count 1000`, `sim one SEED --log`, `sim --help`.
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build the static binary, target/dist/keepstone.
    Dist,
    /// Make container images of the member and the operator: target/dist/*.tar, without Docker.
    Image(image::Args),
    /// Run the operator's scenarios on a real Kubernetes: all, or those named.
    E2e(e2e::Args),
    /// Write the CRDs in crds/ and in the chart, and docs/api.md, from the operator's API.
    Crds,
    /// The part of `test static` that runs in a network of its own.
    #[command(hide = true)]
    Isolated { binary: PathBuf, dir: PathBuf },
}

fn main() -> ExitCode {
    match carry_out(Args::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that was asked for passed.
fn carry_out(task: Task) -> Result<bool> {
    match task {
        Task::Test(args) => test::run(&Place::find()?, &args),
        Task::Prove { parts, args } => prove::run(&Place::find()?, &parts, &args),
        Task::Cluster(args) => local::run(&Place::find()?, &args),
        Task::Bench { args } => bench::run(&Place::find()?, &args).map(|()| true),
        Task::Sim { args } => sim::run(&Place::find()?, &args).map(|()| true),
        Task::Dist => dist::run(&Place::find()?).map(|()| true),
        Task::Image(args) => image::run(&Place::find()?, &args).map(|()| true),
        Task::E2e(args) => e2e::run(&Place::find()?, &args),
        Task::Crds => crds::write(&Place::find()?).map(|()| true),
        Task::Isolated { binary, dir } => isolated::inside(&binary, &dir).map(|()| true),
    }
}
