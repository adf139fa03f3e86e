//! Which seeds have run clean, in a file, so that a long row of them can be interrupted and goes on where it was.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result};

/// The file, and what was in it.
pub struct Progress {
    clean: BTreeSet<u64>,
    file: Mutex<File>,
}

impl Progress {
    /// Opens or begins a file. What another program has run, or this one with other arguments, doesn't count.
    ///
    /// # Errors
    /// The file's.
    pub fn open(path: &Path, with: &[String]) -> Result<Self> {
        let program = fs::read(std::env::current_exe()?).context("this program")?;
        let mut hasher = DefaultHasher::new();
        (program, with).hash(&mut hasher);
        let head = format!("program {:016x}", hasher.finish());
        let known = fs::read_to_string(path).unwrap_or_default();
        let mut lines = known.lines();
        let clean = if lines.next() == Some(&head) {
            lines.filter_map(|line| line.parse().ok()).collect()
        } else {
            BTreeSet::new()
        };
        let mut file = if clean.is_empty() {
            File::create(path).with_context(|| path.display().to_string())?
        } else {
            OpenOptions::new().append(true).open(path).with_context(|| path.display().to_string())?
        };
        if clean.is_empty() {
            writeln!(file, "{head}")?;
        }
        Ok(Self { clean, file: Mutex::new(file) })
    }

    pub fn has(&self, seed: u64) -> bool {
        self.clean.contains(&seed)
    }

    /// A seed has run clean.
    ///
    /// # Errors
    /// The file's.
    pub fn add(&self, seed: u64) -> Result<()> {
        let mut file = self.file.lock().expect("nobody panics with it");
        Ok(writeln!(file, "{seed}")?)
    }
}
