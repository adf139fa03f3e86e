//! Going on with a log that a running member keeps.
//!
//! The log ends with its last marked hard state ([`EtcdWal::commit`]); what an interrupted write has left after it is cut,
//! whole records included: the caller knows by the mark what to write again.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::{CRC, ENTRY, EtcdWal, FILE_BYTES, HardState, Identity, MARK_FIELD, METADATA, SNAPSHOT, STATE};

impl EtcdWal {
    /// Opens the log in `member_dir/wal`, or begins one; `None` for the mark then.
    ///
    /// # Errors
    /// `InvalidData` when it is another member's, or damaged before its last file; whatever the file system says.
    pub fn reopen(member_dir: &Path, identity: Identity) -> io::Result<(Self, Option<u64>)> {
        Self::reopen_sized(member_dir, identity, FILE_BYTES)
    }

    pub(super) fn reopen_sized(
        member_dir: &Path,
        identity: Identity,
        file_bytes: u64,
    ) -> io::Result<(Self, Option<u64>)> {
        let dir = member_dir.join("wal");
        let files = if dir.exists() { files(&dir)? } else { Vec::new() };
        let mut reading = Reading::default();
        for (at, path) in files.iter().enumerate() {
            let whole = reading.file(at, &fs::read(path)?)?;
            if !whole && at + 1 < files.len() {
                return Err(invalid(format!("{}: damaged", path.display())));
            }
        }
        let Some(end) = reading.end else {
            // Nothing was ever marked, so nothing counts.
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            let mut wal = Self::create_sized(member_dir, identity, None, file_bytes)?;
            wal.sync()?;
            wal.kept = true;
            return Ok((wal, None));
        };
        let whose = read_identity(&reading.metadata);
        if whose != Some(identity) {
            return Err(invalid(format!("{}: the log of another member: {whose:?}", dir.display())));
        }
        for later in files[end.file + 1..].iter().rev() {
            fs::remove_file(later)?;
        }
        let mut how = fs::OpenOptions::new();
        let file = how.append(true).open(&files[end.file])?;
        file.set_len(end.offset)?;
        file.sync_all()?;
        fs::File::open(&dir)?.sync_all()?;
        let mut wal = Self {
            dir,
            file: BufWriter::with_capacity(1 << 20, file),
            number: end.file as u64,
            written: end.offset,
            file_bytes,
            crc: end.crc,
            metadata: reading.metadata,
            state: end.state,
            mark: Some(end.mark),
            kept: true,
            last_index: end.last_index,
        };
        if wal.written >= file_bytes {
            wal.next_file()?;
        }
        Ok((wal, Some(end.mark)))
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The files, in their order and without a hole.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            files.push(path);
        }
    }
    files.sort();
    let number = |path: &PathBuf| u64::from_str_radix(path.file_name()?.to_str()?.get(..16)?, 16).ok();
    if !files.iter().enumerate().all(|(at, path)| number(path) == Some(at as u64)) {
        return Err(invalid(format!("{}: a file of the log is missing", dir.display())));
    }
    Ok(files)
}

/// Right after a marked hard state.
#[derive(Clone, Copy)]
struct End {
    file: usize,
    offset: u64,
    crc: u32,
    state: HardState,
    mark: u64,
    last_index: u64,
}

#[derive(Default)]
struct Reading {
    crc: u32,
    metadata: Vec<u8>,
    last_index: u64,
    end: Option<End>,
}

impl Reading {
    /// Goes through a file; whether it is whole to its end.
    fn file(&mut self, number: usize, bytes: &[u8]) -> io::Result<bool> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((record, after)) = frame(rest) else { return Ok(false) };
            let Some(fields) = fields(record) else { return Ok(false) };
            let data = fields.blob(3).unwrap_or_default();
            self.crc = crc32c::crc32c_append(self.crc, data);
            if fields.number(2) != u64::from(self.crc) {
                return Ok(false);
            }
            rest = after;
            let inner = self::fields(data).unwrap_or_default();
            match fields.number(1) {
                METADATA => self.metadata = data.to_vec(),
                ENTRY => self.last_index = inner.number(3),
                SNAPSHOT => self.last_index = inner.number(1),
                STATE if inner.has(MARK_FIELD) => {
                    let state = HardState { term: inner.number(1), vote: inner.number(2), commit: inner.number(3) };
                    self.end = Some(End {
                        file: number,
                        offset: (bytes.len() - rest.len()) as u64,
                        crc: self.crc,
                        state,
                        mark: inner.number(MARK_FIELD),
                        last_index: self.last_index,
                    });
                }
                STATE | CRC => {}
                kind => return Err(invalid(format!("a record of unknown kind {kind}"))),
            }
        }
        Ok(true)
    }
}

/// The first frame's record, and what follows the frame.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let head = u64::from_le_bytes(*head);
    let len = usize::try_from(head & ((1 << 56) - 1)).ok()?;
    let pad = if head >> 63 == 1 { (head >> 56 & 7) as usize } else { 0 };
    let record = rest.get(..len)?;
    Some((record, rest.get(len + pad..)?))
}

enum Field<'a> {
    Number(u64),
    Blob(&'a [u8]),
}

/// A protobuf message of numbers and bytes.
#[derive(Default)]
struct Fields<'a>(Vec<(u64, Field<'a>)>);

impl<'a> Fields<'a> {
    fn has(&self, wanted: u64) -> bool {
        self.0.iter().any(|(field, _)| *field == wanted)
    }

    fn number(&self, wanted: u64) -> u64 {
        let numbers = self.0.iter().filter(|(field, _)| *field == wanted);
        numbers
            .filter_map(|(_, value)| if let Field::Number(value) = value { Some(*value) } else { None })
            .next_back()
            .unwrap_or(0)
    }

    fn blob(&self, wanted: u64) -> Option<&'a [u8]> {
        let blobs = self.0.iter().filter(|(field, _)| *field == wanted);
        blobs.filter_map(|(_, value)| if let Field::Blob(value) = value { Some(*value) } else { None }).next_back()
    }
}

fn fields(mut bytes: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields::default();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Blob(bytes.split_off(..len)?)
            }
            _ => return None,
        };
        fields.0.push((key >> 3, value));
    }
    Some(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn read_identity(metadata: &[u8]) -> Option<Identity> {
    let fields = fields(metadata)?;
    Some(Identity { node_id: fields.number(1), cluster_id: fields.number(2) })
}

#[cfg(test)]
mod tests {
    use super::super::EntryKind;
    use super::*;
    use crate::record::LogPos;

    const WHO: Identity = Identity { node_id: 1, cluster_id: 2 };

    fn append(wal: &mut EtcdWal, entries: u64) {
        for _ in 0..entries {
            let at = LogPos { term: 1, index: wal.last_index() + 1 };
            wal.entry(at, EntryKind::Normal, &[7; 100]).expect("writes");
        }
    }

    fn commit(wal: &mut EtcdWal) {
        let commit = wal.last_index();
        wal.commit(HardState { term: 1, vote: 0, commit }, commit * 10).expect("commits");
    }

    fn all(dir: &Path) -> Vec<u8> {
        files(&dir.join("wal")).expect("lists").iter().flat_map(|path| fs::read(path).expect("reads")).collect()
    }

    /// Wherever a write stopped, the log goes on after the last mark, and is then what it would have been.
    #[test]
    fn goes_on_after_the_last_mark() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut wal, mark) = EtcdWal::reopen_sized(dir.path(), WHO, 1000).expect("begins");
        assert_eq!(mark, None);
        append(&mut wal, 3);
        commit(&mut wal);
        append(&mut wal, 2);
        commit(&mut wal);
        let before = all(dir.path());
        append(&mut wal, 2);
        wal.flush().expect("flushes");
        let last = files(&dir.path().join("wal")).expect("lists").pop().expect("a file");
        let torn = fs::read(&last).expect("reads");
        commit(&mut wal);
        append(&mut wal, 9);
        commit(&mut wal);
        let whole = all(dir.path());
        drop(wal);
        let kept = before.len();
        for cut in (kept..=torn.len()).step_by(7) {
            for later in files(&dir.path().join("wal")).expect("lists").iter().skip(1) {
                fs::remove_file(later).expect("removes");
            }
            fs::write(&last, &torn[..cut]).expect("writes");
            let (mut wal, mark) = EtcdWal::reopen_sized(dir.path(), WHO, 1000).expect("opens");
            assert_eq!((mark, wal.last_index()), (Some(50), 5), "{cut}");
            assert_eq!(all(dir.path()), before);
            append(&mut wal, 2);
            commit(&mut wal);
            append(&mut wal, 9);
            commit(&mut wal);
            assert_eq!(all(dir.path()), whole);
        }
    }

    #[test]
    fn a_file_without_a_mark_does_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut wal, _) = EtcdWal::reopen_sized(dir.path(), WHO, 1000).expect("begins");
        append(&mut wal, 12);
        commit(&mut wal);
        drop(wal);
        let paths = files(&dir.path().join("wal")).expect("lists");
        assert_eq!(paths.len(), 2);
        let head = fs::read(&paths[1]).expect("reads");
        let before = fs::read(&paths[0]).expect("reads");
        for cut in 0..head.len() {
            fs::write(&paths[1], &head[..cut]).expect("writes");
            let (wal, mark) = EtcdWal::reopen_sized(dir.path(), WHO, 1000).expect("opens");
            assert_eq!((mark, wal.last_index()), (Some(120), 12));
            drop(wal);
            assert_eq!(fs::read(&paths[0]).expect("reads"), before);
        }
    }

    #[test]
    fn one_that_was_never_marked_begins_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut wal, _) = EtcdWal::reopen(dir.path(), WHO).expect("begins");
        let empty = all(dir.path());
        append(&mut wal, 3);
        wal.flush().expect("flushes");
        drop(wal);
        let (wal, mark) = EtcdWal::reopen(dir.path(), WHO).expect("begins");
        assert_eq!((mark, wal.last_index()), (None, 0));
        assert_eq!(all(dir.path()), empty);
    }

    #[test]
    fn another_members_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut wal, _) = EtcdWal::reopen(dir.path(), WHO).expect("begins");
        append(&mut wal, 1);
        commit(&mut wal);
        drop(wal);
        assert!(EtcdWal::reopen(dir.path(), Identity { node_id: 3, ..WHO }).is_err());
        fs::rename(
            dir.path().join("wal/0000000000000000-0000000000000000.wal"),
            dir.path().join("wal/0000000000000001-0000000000000000.wal"),
        )
        .expect("renames");
        assert!(EtcdWal::reopen(dir.path(), WHO).is_err(), "a hole");
    }
}
