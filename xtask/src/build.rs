//! The two builds there are. All parts use these: a third set of flags or features would compile everything again.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::part::Job;
use crate::place::Place;
use crate::run;

pub fn cargo(place: &Place) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&place.root);
    command
}

/// Everything, with the features the tests have: programs, libraries, tests, examples.
///
/// # Errors
/// When something does not compile.
pub fn dev(job: &Job) -> Result<()> {
    run::to_end(cargo(job.place).args(["build", "--workspace", "--all-targets"]), job.deadline)
}

/// The release build of the member, static where the platform can.
///
/// # Errors
/// When something does not compile.
pub fn release(place: &Place, deadline: Instant) -> Result<()> {
    run::to_end(release_command(place).args(["-p", "keepstone"]), deadline)
}

/// `cargo build` with the flags of the release build; the caller names what.
pub fn release_command(place: &Place) -> Command {
    let mut command = cargo(place);
    command.args(["build", "--release", "--target", &place.triple]);
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{given} -C target-feature=+crt-static").trim());
    if let Some(commit) = commit(place) {
        command.env("KEEPSTONE_GIT_SHA", commit);
    }
    command
}

/// The commit that is checked out; `None` outside a git checkout, or where files differ from it.
fn commit(place: &Place) -> Option<String> {
    let git = |args: &[&str]| {
        let out = Command::new("git").current_dir(&place.root).args(args).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    if changed.is_empty() { git(&["rev-parse", "HEAD"]) } else { None }
}
