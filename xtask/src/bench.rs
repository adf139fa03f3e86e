//! The comparison with etcd: builds both, and lets keepstone-bench do the rest. See tests/bench.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::part::Job;
use crate::place::Place;
use crate::{build, go, run};

const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

pub fn run(place: &Place, args: &[String]) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    run::to_end(build::release_command(place).args(["-p", "keepstone", "-p", "keepstone-bench"]), deadline)?;
    go::tools(&Job { place, deadline, quick: false, args: &[] })?;
    let (kind, rest) = match args {
        [first, rest @ ..] if first == "compare" || first == "memory" => (first.as_str(), rest),
        rest => ("compare", rest),
    };
    let mut command = Command::new(place.release("keepstone-bench"));
    command.arg(kind).arg("--etcd").arg(place.etcd_tools().join("etcd"));
    command.arg("--keepstone").arg(place.release("keepstone")).arg("--dir").arg(place.bench());
    run::to_end(command.args(rest), deadline)
}
