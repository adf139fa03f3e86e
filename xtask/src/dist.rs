//! The binary to ship: one file that needs nothing else, not even a C library.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::place::Place;
use crate::{build, elf};

const LIMIT: Duration = Duration::from_secs(60 * 60);

pub fn run(place: &Place) -> Result<()> {
    build::release(place, Instant::now() + LIMIT)?;
    let binary = copy(place)?;
    println!("{}: static, {} KiB", binary.display(), std::fs::metadata(&binary)?.len() / 1024);
    Ok(())
}

/// Copies what was built to its place, once it is known to be static.
///
/// # Errors
/// When it is not static, or can't be copied.
pub fn copy(place: &Place) -> Result<PathBuf> {
    let built = place.release("keepstone");
    let bytes = std::fs::read(&built).with_context(|| built.display().to_string())?;
    if let Some(why) = elf::not_static(&bytes)? {
        bail!("{} is not static: {why}", built.display());
    }
    std::fs::create_dir_all(place.dist())?;
    let binary = place.dist().join("keepstone");
    std::fs::copy(&built, &binary)?;
    Ok(binary)
}
