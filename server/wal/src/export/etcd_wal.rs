//! Writes a Raft log the way etcd 3.6 keeps it: `wal/` with framed, checksummed records and `snap/`, so that etcd's
//! `wal.ReadAll` and etcd-dump-logs read it.
//!
//! Format, from the behaviour of etcd's `storage/wal`: a file is frames of an 8-byte little-endian length, a protobuf
//! record `{type, crc, data}` and padding to 8 bytes (counted in the length's top byte). The crc is CRC-32C over the data
//! of all records so far; each file begins with a record that carries it on. Files are named by their number and the
//! first log index that may be in them.
//!
//! It is a copy for readers: nothing is ever restored from it, and nothing is acknowledged because of it. One that is kept
//! while a member runs is read back only to go on where it ends (`reopen`).

mod reopen;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::record::LogPos;

/// Bytes after which a new file is begun; etcd's own size.
const FILE_BYTES: u64 = 64_000_000;

const METADATA: u64 = 1;
const ENTRY: u64 = 2;
const STATE: u64 = 3;
const CRC: u64 = 4;
const SNAPSHOT: u64 = 5;

/// The field of a hard state that has its mark. Far above etcd's, whose readers pass over it.
const MARK_FIELD: u64 = 100;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The member's ID.
    pub node_id: u64,
    /// The cluster's ID.
    pub cluster_id: u64,
}

/// Raft's hard state as etcd saves it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: u64,
    /// The member voted for in it, 0 for none.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

/// What an entry's data is (raftpb.EntryType).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// InternalRaftRequest, or nothing at the start of a term.
    Normal = 0,
    /// raftpb.ConfChange.
    ConfChange = 1,
    /// raftpb.ConfChangeV2.
    ConfChangeV2 = 2,
}

/// Where a log begins that does not begin at index 1: what came before is in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The last entry the snapshot covers.
    pub at: LogPos,
    /// The members that voted then.
    pub voters: Vec<u64>,
}

/// An etcd log being written. Written bytes reach readers with `flush`, the disk with `sync`.
pub struct EtcdWal {
    dir: PathBuf,
    file: BufWriter<fs::File>,
    number: u64,
    written: u64,
    file_bytes: u64,
    crc: u32,
    metadata: Vec<u8>,
    state: HardState,
    mark: Option<u64>,
    /// It is kept by a running member: a file ends with a mark.
    kept: bool,
    last_index: u64,
}

impl EtcdWal {
    /// Begins a log in `member_dir/wal` and makes `member_dir/snap`. With `start` a snapshot without data is put there
    /// too, because etcd-dump-logs looks there for the index to begin at.
    ///
    /// # Errors
    /// `AlreadyExists` if `member_dir/wal` is there; whatever the file system says.
    pub fn create(member_dir: &Path, identity: Identity, start: Option<&Start>) -> io::Result<Self> {
        Self::create_sized(member_dir, identity, start, FILE_BYTES)
    }

    fn create_sized(member_dir: &Path, identity: Identity, start: Option<&Start>, file_bytes: u64) -> io::Result<Self> {
        let (dir, snap) = (member_dir.join("wal"), member_dir.join("snap"));
        fs::create_dir_all(member_dir)?;
        fs::create_dir(&dir)?;
        fs::create_dir_all(&snap)?;
        let mut metadata = Vec::new();
        number(&mut metadata, 1, identity.node_id);
        number(&mut metadata, 2, identity.cluster_id);
        let file = create_file(&dir, 0, 0)?;
        let mut wal = Self {
            dir,
            file,
            number: 0,
            written: 0,
            file_bytes,
            crc: 0,
            metadata,
            state: HardState::default(),
            mark: None,
            kept: false,
            last_index: 0,
        };
        wal.head()?;
        wal.snapshot(LogPos { term: 0, index: 0 }, &[])?;
        if let Some(Start { at, voters }) = start {
            wal.skip(*at, voters)?;
        }
        Ok(wal)
    }

    /// The index of the last entry, or of the last snapshot's.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The log goes on after `at`: what came before is in a snapshot, of which a name is left.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn skip(&mut self, at: LogPos, voters: &[u64]) -> io::Result<()> {
        let snap = self.dir.with_file_name("snap").join(format!("{:016x}-{:016x}.snap", at.term, at.index));
        fs::write(&snap, snapshot_file(at, voters))?;
        fs::File::open(&snap)?.sync_all()?;
        self.snapshot(at, voters)?;
        self.last_index = at.index;
        Ok(())
    }

    /// Adds an entry. One with an index that was written before replaces it and everything after it, as in etcd. etcd's
    /// log begins at index 1: an entry with index 0 is left out.
    ///
    /// # Errors
    /// `InvalidInput` for an index that leaves a gap; whatever the file system says.
    pub fn entry(&mut self, at: LogPos, kind: EntryKind, data: &[u8]) -> io::Result<()> {
        if at.index == 0 {
            return Ok(());
        }
        if at.index > self.last_index + 1 {
            let text = format!("log index {} does not follow {}", at.index, self.last_index);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.written >= self.file_bytes && !self.kept {
            self.next_file()?;
        }
        let mut entry = Vec::with_capacity(data.len() + 32);
        number(&mut entry, 1, kind as u64);
        number(&mut entry, 2, at.term);
        number(&mut entry, 3, at.index);
        if !data.is_empty() {
            blob(&mut entry, 4, data);
        }
        self.last_index = at.index;
        self.record(ENTRY, Some(&entry))
    }

    /// Adds the hard state; the last one counts.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn hard_state(&mut self, state: HardState) -> io::Result<()> {
        self.state = state;
        if state == HardState::default() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        number(&mut bytes, 1, state.term);
        number(&mut bytes, 2, state.vote);
        number(&mut bytes, 3, state.commit);
        if let Some(mark) = self.mark {
            number(&mut bytes, MARK_FIELD, mark);
        }
        self.record(STATE, Some(&bytes))
    }

    /// Adds the hard state with a mark of the caller's, and makes everything written durable. A log that is opened again
    /// ends with the last of these; it must not have been written to with [`EtcdWal::hard_state`].
    ///
    /// # Errors
    /// Whatever the file system says; the log must then not be used on.
    pub fn commit(&mut self, state: HardState, mark: u64) -> io::Result<()> {
        self.mark = Some(mark);
        self.hard_state(state)?;
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        // Here and nowhere else: what follows a mark is cut, and has to be in the same file.
        if self.written >= self.file_bytes {
            self.next_file()?;
        }
        Ok(())
    }

    /// Hands everything written to the operating system, so that other processes read it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Makes everything written durable, names included.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::File::open(&self.dir)?.sync_all()?;
        match self.dir.parent() {
            Some(member) => {
                fs::File::open(member.join("snap"))?.sync_all()?;
                fs::File::open(member)?.sync_all()
            }
            None => Ok(()),
        }
    }

    fn next_file(&mut self) -> io::Result<()> {
        self.sync()?;
        self.number += 1;
        self.file = create_file(&self.dir, self.number, self.last_index + 1)?;
        self.written = 0;
        self.head()?;
        self.hard_state(self.state)
    }

    /// What every file begins with.
    fn head(&mut self) -> io::Result<()> {
        self.record(CRC, None)?;
        let metadata = std::mem::take(&mut self.metadata);
        let written = self.record(METADATA, Some(&metadata));
        self.metadata = metadata;
        written
    }

    fn snapshot(&mut self, at: LogPos, voters: &[u64]) -> io::Result<()> {
        let mut bytes = Vec::new();
        number(&mut bytes, 1, at.index);
        number(&mut bytes, 2, at.term);
        if at.index > 0 {
            blob(&mut bytes, 3, &conf_state(voters));
        }
        self.record(SNAPSHOT, Some(&bytes))
    }

    fn record(&mut self, kind: u64, data: Option<&[u8]>) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, data.unwrap_or_default());
        let mut record = Vec::new();
        number(&mut record, 1, kind);
        number(&mut record, 2, u64::from(self.crc));
        if let Some(data) = data {
            blob(&mut record, 3, data);
        }
        let len = record.len();
        let pad = len.next_multiple_of(8) - len;
        record.resize(len + pad, 0);
        let padding = if pad == 0 { 0 } else { (0x80 | pad as u64) << 56 };
        self.file.write_all(&(len as u64 | padding).to_le_bytes())?;
        self.file.write_all(&record)?;
        self.written += 8 + record.len() as u64;
        Ok(())
    }
}

fn create_file(dir: &Path, number: u64, index: u64) -> io::Result<BufWriter<fs::File>> {
    let path = dir.join(format!("{number:016x}-{index:016x}.wal"));
    let mut how = fs::OpenOptions::new();
    how.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut how, 0o600);
    Ok(BufWriter::with_capacity(1 << 20, how.open(path)?))
}

/// A snapshot file (snappb.Snapshot around raftpb.Snapshot) that names a place and holds no data.
fn snapshot_file(at: LogPos, voters: &[u64]) -> Vec<u8> {
    let mut metadata = Vec::new();
    blob(&mut metadata, 1, &conf_state(voters));
    number(&mut metadata, 2, at.index);
    number(&mut metadata, 3, at.term);
    let mut snapshot = Vec::new();
    blob(&mut snapshot, 2, &metadata);
    let mut file = Vec::new();
    number(&mut file, 1, u64::from(crc32c::crc32c(&snapshot)));
    blob(&mut file, 2, &snapshot);
    file
}

fn conf_state(voters: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for voter in voters {
        number(&mut bytes, 1, *voter);
    }
    number(&mut bytes, 5, 0);
    bytes
}

/// A protobuf varint field, written even if zero, as etcd does.
fn number(to: &mut Vec<u8>, field: u64, value: u64) {
    varint(to, field << 3);
    varint(to, value);
}

/// A protobuf bytes field.
fn blob(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(to, field << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("lists");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("lists").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The bytes that etcd 3.6.16's `wal.ReadAll` was seen to read: one entry, one state.
    #[test]
    fn bytes_are_those_etcd_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut wal = EtcdWal::create(dir.path(), Identity { node_id: 1, cluster_id: 2 }, None).expect("begins");
        wal.entry(LogPos { term: 1, index: 1 }, EntryKind::Normal, b"put").expect("writes");
        wal.hard_state(HardState { term: 1, vote: 1, commit: 1 }).expect("writes");
        wal.sync().expect("syncs");
        let bytes = fs::read(dir.path().join("wal").join(&names(&dir.path().join("wal"))[0])).expect("reads");
        let hex: String =
            bytes.chunks(8).map(|b| b.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect();
        assert_eq!(hex, include_str!("etcd_wal.hex"));
        assert!(names(&dir.path().join("snap")).is_empty());
    }

    #[test]
    fn long_logs_take_several_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity { node_id: 1, cluster_id: 2 };
        let mut wal = EtcdWal::create_sized(dir.path(), identity, None, 1000).expect("begins");
        for index in 0..20 {
            wal.entry(LogPos { term: 1, index }, EntryKind::Normal, &[7; 100]).expect("writes");
        }
        wal.flush().expect("flushes");
        let names = names(&dir.path().join("wal"));
        assert_eq!(names[0], "0000000000000000-0000000000000000.wal");
        assert_eq!(names[1], "0000000000000001-0000000000000009.wal");
        assert!(wal.entry(LogPos { term: 1, index: 21 }, EntryKind::Normal, &[]).is_err(), "a gap");
        assert!(EtcdWal::create(dir.path(), identity, None).is_err(), "there is one already");
    }

    #[test]
    fn a_log_that_begins_later_has_a_snapshot() {
        let dir = tempfile::tempdir().expect("a directory");
        let start = Start { at: LogPos { term: 3, index: 99 }, voters: vec![1] };
        let identity = Identity { node_id: 1, cluster_id: 2 };
        let mut wal = EtcdWal::create(dir.path(), identity, Some(&start)).expect("begins");
        wal.entry(LogPos { term: 3, index: 100 }, EntryKind::Normal, b"put").expect("writes");
        wal.sync().expect("syncs");
        assert_eq!(names(&dir.path().join("snap")), ["0000000000000003-0000000000000063.snap"]);
    }
}
