//! The SHA-256 over the database that ends a snapshot stream and a saved snapshot file.

use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use crate::bolt::ReadAt;

/// Length of the digest after the database. A database is a multiple of 512 bytes long; a file
/// that is 32 bytes longer has one.
pub const TRAILER_BYTES: usize = 32;

/// Digest in the making: feed it what the stream has sent, then send what it gives.
#[derive(Clone, Default)]
pub struct Trailer(Sha256);

impl Trailer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, sent: &[u8]) {
        self.0.update(sent);
    }

    pub fn finish(self) -> [u8; TRAILER_BYTES] {
        self.0.finalize().into()
    }
}

/// Hashes all of `file` and appends the digest, as `etcdctl snapshot save` leaves a file.
/// Flushes, but does not sync.
pub fn append_trailer<F: Read + Write + Seek>(file: &mut F) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut trailer = Trailer::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => trailer.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.seek(SeekFrom::End(0))?;
    file.write_all(&trailer.finish())?;
    file.flush()
}

/// Whether a file of `bytes` has a digest at its end.
pub(super) fn has_trailer(bytes: u64) -> bool {
    bytes % 512 == TRAILER_BYTES as u64
}

/// Whether the last 32 of `bytes` are the digest of those before.
pub(super) fn verify(file: &impl ReadAt, bytes: u64) -> io::Result<bool> {
    let end = bytes - TRAILER_BYTES as u64;
    let mut trailer = Trailer::new();
    let mut chunk = vec![0; 256 << 10];
    let mut at = 0;
    while at < end {
        let part = (end - at).min(chunk.len() as u64);
        let part = &mut chunk[..part as usize];
        file.read_exact_at(part, at)?;
        trailer.update(part);
        at += part.len() as u64;
    }
    let mut stored = [0; TRAILER_BYTES];
    file.read_exact_at(&mut stored, end)?;
    Ok(stored == trailer.finish())
}
