//! Which scenarios have passed, and with which programs: others may not count on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::image::IMAGES;
use crate::place::Place;

pub struct Progress {
    path: PathBuf,
    /// What the scenarios are, and are run with.
    programs: String,
    passed: BTreeMap<String, Duration>,
}

impl Progress {
    /// # Errors
    /// When a program is not there, or the disk fails.
    pub fn open(place: &Place) -> Result<Self> {
        let mut all = Sha256::new();
        let scenarios = place.e2e().join("programs/scenarios.test");
        for path in IMAGES.iter().map(|image| place.release(image.program)).chain([scenarios]) {
            all.update(Sha256::digest(fs::read(&path).with_context(|| path.display().to_string())?));
        }
        let programs = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self::read(place.e2e().join("progress"), programs)
    }

    fn read(path: PathBuf, programs: String) -> Result<Self> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut progress = Self { path, programs, passed: BTreeMap::new() };
        let mut lines = text.lines();
        if lines.next() != Some(&progress.programs) {
            progress.forget()?;
            return Ok(progress);
        }
        for line in lines {
            // A last line may be torn: then that scenario is run again.
            if let Some((name, millis)) = line.split_once(' ')
                && let Some(millis) = millis.strip_suffix(" ms").and_then(|number| number.parse().ok())
            {
                progress.passed.insert(name.to_owned(), Duration::from_millis(millis));
            }
        }
        Ok(progress)
    }

    /// How long a scenario took, if it has passed.
    pub fn took(&self, name: &str) -> Option<Duration> {
        self.passed.get(name).copied()
    }

    /// # Errors
    /// When the disk fails.
    pub fn passed(&mut self, name: &str, took: Duration) -> Result<()> {
        self.passed.insert(name.to_owned(), took);
        let mut file = fs::OpenOptions::new().append(true).open(&self.path)?;
        Ok(writeln!(file, "{name} {} ms", took.as_millis())?)
    }

    /// # Errors
    /// When the disk fails.
    pub fn forget(&mut self) -> Result<()> {
        self.passed.clear();
        Ok(fs::write(&self.path, format!("{}\n", self.programs))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_counts_for_the_same_programs_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("progress");
        let open = |programs: &str| Progress::read(path.clone(), programs.to_owned()).expect("readable");
        let mut first = open("one");
        first.passed("Scale", Duration::from_millis(1500)).expect("written");
        assert_eq!(open("one").took("Scale"), Some(Duration::from_millis(1500)));
        assert_eq!(open("one").took("Roll"), None);

        fs::OpenOptions::new().append(true).open(&path).expect("there").write_all(b"Roll 12").expect("written");
        assert_eq!(open("one").took("Roll"), None, "a torn line");
        assert_eq!(open("two").took("Scale"), None, "another program");
        assert_eq!(open("one").took("Scale"), None, "and the first is forgotten");
    }
}
