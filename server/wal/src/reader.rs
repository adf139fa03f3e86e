//! Reads parts of a segment, checking every sector on the way.

use crate::disk::File;
use crate::error::WalError;
use crate::record::{self, Entry, Record};
use crate::sector::{self, DATA, SECTOR, STAMP, Stamp};
use std::path::Path;

/// The data bytes `offset..offset + len` of a segment.
pub(crate) fn data(file: &dyn File, path: &Path, offset: u32, len: usize) -> Result<Vec<u8>, WalError> {
    let (first, skip) = (offset as usize / DATA, offset as usize % DATA);
    let count = (skip + len).div_ceil(DATA);
    let mut sectors = vec![0; count * SECTOR];
    let at = (first * SECTOR) as u64;
    let n = file.pread(&mut sectors, at).map_err(|e| WalError::io("read", path, e))?;
    if n < sectors.len() {
        return Err(WalError::corrupt(path, at + n as u64, "the file ends inside an entry"));
    }
    let mut data = Vec::with_capacity(count * DATA);
    for (i, bytes) in sectors.chunks_exact(SECTOR).enumerate() {
        let position = first + i;
        match sector::stamp(bytes, position as u32) {
            Stamp::Seq(_) => data.extend_from_slice(&bytes[STAMP..]),
            Stamp::Zero | Stamp::Damaged => {
                let at = (position * SECTOR) as u64;
                return Err(WalError::corrupt(path, at, "a sector of an entry is not what was written"));
            }
        }
    }
    data.drain(..skip);
    data.truncate(len);
    Ok(data)
}

/// The entry at the front of `data`, which must be the one with `index`.
pub(crate) fn entry(data: &[u8], path: &Path, offset: u32, index: u64) -> Result<Entry, WalError> {
    let at = u64::from(offset) / DATA as u64 * SECTOR as u64;
    match record::decode(data) {
        Ok((Record::Entry(entry), _)) if entry.index == index => Ok(entry),
        Ok(_) => Err(WalError::corrupt(path, at, format!("entry {index} is not where it was written"))),
        Err(detail) => Err(WalError::corrupt(path, at, detail)),
    }
}
