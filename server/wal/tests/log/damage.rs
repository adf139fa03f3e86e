//! A log whose bytes changed behind its back opens with everything that was answered, or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use keepstone_wal::testing::{Crash, Rng, SimDisk};
use keepstone_wal::{Done, Entry, LogPos, Wal, WalError};

use crate::beside::{dir, options};

const SECTOR: usize = 512;

/// What a log answered.
type Found = (Option<Bytes>, Option<Bytes>, Vec<Entry>);

/// A log of three segments, every record answered; the last group is one small entry if `last_alone`.
fn log(last_alone: bool) -> SimDisk {
    let disk = SimDisk::new();
    let (wal, _) = Wal::open_inline(dir(), options(), Arc::new(disk.clone())).expect("a new log opens");
    let done = || -> Done { Box::new(|result| result.expect("durable")) };
    wal.save_meta(Bytes::from_static(b"me"), done()).expect("taken");
    wal.save_vote(Bytes::from_static(b"for 3"), done()).expect("taken");
    // Four times round, so that the segments are recycled and full of what they held before.
    for index in 1..=260 {
        let data = vec![index as u8; 100 + (index as usize * 37) % 800];
        wal.append([Entry { index, term: index / 100, data: data.into() }], done()).expect("taken");
        if index % 3 == 0 || (last_alone && index == 259) {
            wal.step().expect("writes");
        }
        if index % 40 == 0 && index < 240 {
            wal.purge(LogPos { term: index / 100, index: index - 10 }, done()).expect("taken");
            wal.step().expect("writes");
        }
    }
    while wal.step().expect("writes") {}
    drop(wal);
    disk
}

fn open(disk: &SimDisk) -> Result<Found, WalError> {
    let (wal, found) = Wal::open_inline(dir(), options(), Arc::new(disk.clone()))?;
    let entries = wal.read(found.first_index.unwrap_or(1)..u64::MAX, usize::MAX)?;
    Ok((found.meta, found.vote, entries))
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let wal = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
    disk.paths().into_iter().filter(wal).collect()
}

/// Opens a copy of the disk with one file changed.
fn open_with(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<Found, WalError> {
    let disk = disk.crash(Crash::Process);
    let mut bytes = disk.bytes(path).expect("there");
    change(&mut bytes);
    disk.set_bytes(path, bytes);
    open(&disk)
}

fn is_refusal(error: &WalError) -> bool {
    matches!(error, WalError::Corrupt { .. } | WalError::Version { .. })
}

#[test]
fn a_flipped_bit_anywhere_is_survived_or_refused() {
    for last_alone in [true, false] {
        let disk = log(last_alone);
        let whole = open(&disk.crash(Crash::Process)).expect("opens");
        let (mut survived, mut refused) = (0, 0);
        let mut rng = Rng::new(1);
        for path in segments(&disk) {
            for at in (0..16 * 1024).step_by(3) {
                let bit = 1 << rng.below(8);
                match open_with(&disk, &path, |bytes| bytes[at] ^= bit) {
                    Ok(found) => {
                        assert!(found == whole, "byte {at} of {} changed the log", path.display());
                        survived += 1;
                    }
                    Err(error) => {
                        assert!(is_refusal(&error), "{error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(survived > 100 && refused > 5000, "{survived} survived, {refused} refused");
    }
}

#[test]
fn a_flipped_bit_in_the_very_last_group_is_not_a_torn_tail() {
    let disk = log(true);
    let path = segments(&disk).pop().expect("there is one");
    let whole = disk.bytes(&path).expect("there");
    let newest = |sector: &[u8]| u64::from_le_bytes(sector[4..12].try_into().expect("eight bytes"));
    let (last, _) = whole.chunks_exact(SECTOR).enumerate().max_by_key(|(_, s)| newest(s)).expect("sectors");
    for bit in 0..SECTOR * 8 {
        let damaged = open_with(&disk, &path, |bytes| bytes[last * SECTOR + bit / 8] ^= 1 << (bit % 8));
        assert!(matches!(damaged, Err(WalError::Corrupt { .. })), "bit {bit}");
    }
    let error = open_with(&disk, &path, |bytes| bytes[last * SECTOR + 100] ^= 1).expect_err("refused");
    let text = error.to_string();
    assert!(text.contains(&format!("{} at byte", path.display())), "{text}");
    assert!(text.contains("add it again") && text.contains("restore from a backup"), "{text}");
}

#[test]
fn a_synced_sector_that_lost_its_write_is_refused_if_anything_follows() {
    let disk = log(false);
    let whole = open(&disk.crash(Crash::Process)).expect("opens");
    for path in segments(&disk) {
        for sector in 0..32 {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            match open_with(&disk, &path, |bytes| bytes[range].fill(0)) {
                Err(error) => assert!(is_refusal(&error), "{error}"),
                // Only what looks just like a write that never ended may be cut: the last group.
                Ok(found) => {
                    assert!(whole.2.starts_with(&found.2) && found.2.len() + 3 > whole.2.len())
                }
            }
        }
    }
}

#[test]
fn missing_and_shortened_files_are_refused() {
    let disk = log(false);
    let paths = segments(&disk);
    assert!(paths.len() >= 3);
    for path in &paths[..paths.len() - 1] {
        let without = disk.crash(Crash::Process);
        without.delete(path);
        let error = open(&without).expect_err("refused");
        assert!(is_refusal(&error), "{error}");
    }
    for path in &paths {
        for len in [0, 100, 8192, 15_872] {
            let error = open_with(&disk, path, |bytes| bytes.truncate(len)).expect_err("refused");
            assert!(is_refusal(&error), "{error}");
        }
    }
}

#[test]
fn segments_of_another_order_are_refused() {
    let disk = log(false);
    let paths = segments(&disk);
    let (first, second) = (disk.bytes(&paths[0]), disk.bytes(&paths[1]));
    disk.set_bytes(&paths[0], second.expect("there"));
    disk.set_bytes(&paths[1], first.expect("there"));
    assert!(is_refusal(&open(&disk).expect_err("refused")));
}

#[test]
fn rot_met_while_reading_is_reported_and_not_answered() {
    let disk = log(false);
    let (wal, found) = Wal::open_inline(dir(), options(), Arc::new(disk.clone())).expect("opens");
    let first = found.first_index.expect("entries");
    for path in segments(&disk) {
        let mut bytes = disk.bytes(&path).expect("there");
        bytes.iter_mut().skip(20).step_by(SECTOR).for_each(|byte| *byte ^= 4);
        disk.set_bytes(&path, bytes);
    }
    assert!(matches!(wal.read(first..first + 1, 1), Err(WalError::Corrupt { .. })));
}

#[test]
fn another_format_version_is_named() {
    let disk = log(false);
    let path = segments(&disk).remove(0);
    let error = open_with(&disk, &path, |bytes| {
        bytes[12 + 8] = 2;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&0u32.to_le_bytes()), &bytes[4..SECTOR]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(matches!(error, Err(WalError::Version { found: 2, supported: 1, .. })));
}
