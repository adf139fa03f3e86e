//! The parts of `cargo xtask test`.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::part::{self, Job, Need, Part};
use crate::place::Place;
use crate::{build, cluster, crds, go, isolated, run, sim};

#[derive(clap::Args)]
pub struct Args {
    /// Formatting, lints, unit tests and a few calls of the official client; fast when little has changed.
    #[arg(long)]
    quick: bool,
    /// The most that all parts together may take; what is left then is not run, and counts as failed.
    #[arg(long, default_value_t = 80)]
    minutes: u64,
    /// Names of parts; all when none is given.
    #[arg(value_name = "PART")]
    parts: Vec<String>,
}

/// In the order they run: what fails fast comes first, and a release build only when the rest had its turn.
const PARTS: &[Part] = &[
    Part { quick: true, ..part("fmt", "formatting", 2, &[], fmt) },
    Part { quick: true, makes: Some(Need::Dev), ..part("build", "everything, unoptimized", 25, &[], build::dev) },
    Part { quick: true, ..part("clippy", "lints", 12, &[], clippy) },
    Part {
        quick: true,
        ..part("crds", "CRDs and docs/api.md are what operator/api says", 2, &[Need::Dev], crds::check)
    },
    Part { quick: true, ..part("unit", "all tests in Rust", 10, &[Need::Dev], unit) },
    Part {
        quick: true,
        makes: Some(Need::Tools),
        ..part("tools", "etcd, its tools and its tests", 15, &[], go::tools)
    },
    Part {
        quick: true,
        ..part("conformance", "the official Go client", 8, &[Need::Dev, Need::Tools], go::conformance)
    },
    part("ignored", "tests in Rust that need etcd", 5, &[Need::Dev, Need::Tools], ignored),
    part("differential", "answers equal to etcd's", 6, &[Need::Dev, Need::Tools], go::differential),
    part("etcdctl", "etcdctl's output equal to etcd's", 4, &[Need::Dev, Need::Tools], go::etcdctl),
    part("clusters", "three members, founded, joined, wiped, stopped", 10, &[Need::Dev, Need::Tools], go::clusters),
    part("tls", "certificates, and their files changing", 5, &[Need::Dev, Need::Tools], go::tls),
    part("moving", "in from etcd and out again", 4, &[Need::Dev, Need::Tools], go::moving),
    part("failpoints", "death at every persistence boundary", 6, &[Need::Dev, Need::Tools], go::failpoints),
    part("common", "etcd's own tests/common", 12, &[Need::Dev, Need::Tools], go::common),
    part("sim", "simulated clusters, four minutes of seeds", 8, &[Need::Dev], sim::seeds),
    part("operator-sim", "the operator against a Kubernetes in memory", 4, &[Need::Dev], sim::operator),
    part("kills", "SIGKILL under load", 4, &[Need::Dev], cluster::kills),
    part("power-loss", "unsynced writes lost or torn", 4, &[Need::Dev], cluster::power_loss),
    part("faults", "full, failing and foreign disks", 4, &[Need::Dev], cluster::faults),
    part("cluster-faults", "clusters killed, paused, cut apart", 8, &[Need::Dev], cluster::groups),
    part("s3", "backups in a bucket, and clusters made of them", 8, &[Need::Dev, Need::Tools], go::s3),
    part("kube", "a kube-apiserver on a member that is killed; charts in it", 20, &[Need::Dev], go::kube),
    part("e2e-parts", "the judge and the tools of the end-to-end tests", 10, &[Need::Dev], go::e2e),
    Part {
        makes: Some(Need::Release),
        ..part("release", "the static binary", 20, &[], |job| build::release(job.place, job.deadline))
    },
    part("static", "the binary runs alone and finds names", 2, &[Need::Release], isolated::test),
];

const fn part(
    name: &'static str,
    about: &'static str,
    minutes: u64,
    needs: &'static [Need],
    run: fn(&Job) -> Result<()>,
) -> Part {
    Part { name, about, minutes, needs, makes: None, quick: false, run }
}

/// Whether all passed.
///
/// # Errors
/// A name that no part has.
pub fn run(place: &Place, args: &Args) -> Result<bool> {
    let mut parts = part::chosen(PARTS, &args.parts)?;
    if args.quick && args.parts.is_empty() {
        parts.retain(|part| part.quick);
    }
    Ok(part::run_all(place, &parts, args.quick, &[], Duration::from_secs(args.minutes * 60)))
}

fn fmt(job: &Job) -> Result<()> {
    run::to_end(build::cargo(job.place).args(["fmt", "--all", "--check", "--", "-l"]), job.deadline)?;
    run::to_end(Command::new("sh").current_dir(job.place.root.join("tests")).args(["-c", GOFMT]), job.deadline)
}

/// gofmt names what it would change, and succeeds.
const GOFMT: &str = r#"wrong=$(gofmt -l .) && test -z "$wrong" || { echo "gofmt: $wrong"; exit 1; }"#;

fn clippy(job: &Job) -> Result<()> {
    let mut command = build::cargo(job.place);
    run::to_end(command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]), job.deadline)
}

fn unit(job: &Job) -> Result<()> {
    run::to_end(build::cargo(job.place).args(["test", "--workspace", "--no-fail-fast"]), job.deadline)
}

/// Tests that `cargo test` alone can't run, because there must be an etcd.
fn ignored(job: &Job) -> Result<()> {
    let mut command = build::cargo(job.place);
    command.env("KEEPSTONE_TOOLS", job.place.etcd_tools());
    command.args(["test", "--workspace", "--no-fail-fast", "--tests", "--", "--ignored"]);
    run::to_end(&mut command, job.deadline)
}
