//! CRDs and their reference are written from the types in operator/api.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::part::Job;
use crate::place::Place;
use crate::{build, run};

/// Writes them.
///
/// # Errors
/// When the types do not compile, or files can't be written.
pub fn write(place: &Place) -> Result<()> {
    let mut command = build::cargo(place);
    command.args(["run", "--quiet", "-p", "keepstone-operator-api", "--bin", "crdgen", "--"]).arg(&place.root);
    run::to_end(&mut command, Instant::now() + Duration::from_secs(30 * 60))
}

/// Fails where what is there is not what would be written. The build of everything has made the program: one of its own has
/// other features, and compiles all it depends on once more.
///
/// # Errors
/// Names the files that differ.
pub fn check(job: &Job) -> Result<()> {
    run::to_end(Command::new(job.place.dev("crdgen")).arg(&job.place.root).arg("--check"), job.deadline)
}
