//! The bytes of version 1. If this fails, logs written by released programs no longer open: make a new version.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keepstone_wal::testing::SimDisk;
use keepstone_wal::{Entry, LogPos, Wal};

use crate::beside::{dir, options};

fn open(disk: &SimDisk) -> Wal {
    Wal::open_inline(dir(), options(), Arc::new(disk.clone())).expect("opens").0
}

/// Two groups: the identity; then one record of every other kind.
fn written() -> Vec<u8> {
    let disk = SimDisk::new();
    let wal = open(&disk);
    wal.save_meta(Bytes::from_static(b"member"), Box::new(|_| {})).expect("taken");
    wal.step().expect("writes");
    wal.save_vote(Bytes::from_static(b"vote"), Box::new(|_| {})).expect("taken");
    let entries = (1..=3).map(|index| Entry { index, term: 7, data: Bytes::from_static(b"entry") });
    wal.append(entries, Box::new(|_| {})).expect("taken");
    wal.truncate_after(Some(2), Box::new(|_| {})).expect("taken");
    wal.save_committed(Bytes::from_static(b"committed")).expect("taken");
    wal.purge(LogPos { term: 7, index: 1 }, Box::new(|_| {})).expect("taken");
    wal.step().expect("writes");
    disk.bytes(&dir().join("0000000000000001.wal")).expect("there")
}

fn hex(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes[..end.next_multiple_of(32)].chunks(32).map(line).collect()
}

#[test]
fn version_1_stays_what_it_is() {
    let bytes = written();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/log/version-1.hex");
    let fixture = std::fs::read_to_string(&here).expect("the fixture is there");
    assert_eq!(hex(&bytes), fixture);
}

#[test]
fn version_1_opens() {
    let fixture = include_str!("version-1.hex");
    let digit = |at: usize, s: &str| u8::from_str_radix(&s[at..at + 2], 16).expect("hex");
    let mut bytes: Vec<u8> =
        fixture.lines().flat_map(|line| (0..line.len()).step_by(2).map(move |at| digit(at, line))).collect();
    bytes.resize(16 * 1024, 0);
    let disk = SimDisk::new();
    drop(open(&disk));
    disk.set_bytes(&dir().join("0000000000000001.wal"), bytes);
    let wal = open(&disk);
    let found = wal.recovered();
    assert_eq!(found.meta.as_deref(), Some(&b"member"[..]));
    assert_eq!(found.vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!(found.committed.as_deref(), Some(&b"committed"[..]));
    assert_eq!(found.purged, Some(LogPos { term: 7, index: 1 }));
    let entry = Entry { index: 2, term: 7, data: Bytes::from_static(b"entry") };
    assert_eq!(wal.read(2..9, 100).expect("reads"), [entry]);
}
