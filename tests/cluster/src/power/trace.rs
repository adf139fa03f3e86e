//! Reads a trace of the preload library.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use keepstone_preload::trace::{HEAD, Head, Kind};

/// One record, and where in the trace it ends.
#[derive(Clone, Debug)]
pub struct Record {
    pub head: Head,
    pub payload: Vec<u8>,
    pub end: u64,
}

impl Record {
    /// The payload as a path.
    ///
    /// # Errors
    /// When it is none.
    pub fn path(&self) -> Result<&str> {
        std::str::from_utf8(&self.payload).context("a path in the trace is no Unicode")
    }

    /// The paths of a rename.
    ///
    /// # Errors
    /// When there are not two.
    pub fn paths(&self) -> Result<(&str, &str)> {
        self.path()?.split_once('\0').context("a rename has two paths")
    }

    /// Whether a loss of power right after it can differ from one right before.
    pub fn matters(&self) -> bool {
        !matches!(
            self.head.kind,
            Kind::Open | Kind::Dup | Kind::Close | Kind::SyncBegin | Kind::SyncRange | Kind::Process
        )
    }
}

/// Reads records one by one.
pub struct Reader {
    file: BufReader<File>,
    at: u64,
}

impl Reader {
    /// # Errors
    /// When the file can't be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { file: BufReader::with_capacity(1 << 20, File::open(path)?), at: 0 })
    }

    /// The next record; `None` at the end, or where the process was killed while it wrote one.
    ///
    /// # Errors
    /// When the file can't be read, or is no trace.
    pub fn next(&mut self) -> Result<Option<Record>> {
        let mut head = [0; HEAD];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let head = Head::decode(&head).with_context(|| format!("no record at byte {} of the trace", self.at))?;
        let mut payload = vec![0; head.payload as usize];
        if !self.fill(&mut payload)? {
            return Ok(None);
        }
        self.at += (HEAD + payload.len()) as u64;
        Ok(Some(Record { head, payload, end: self.at }))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        match self.file.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
