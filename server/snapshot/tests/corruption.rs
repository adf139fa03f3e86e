//! A damaged file gives an error or data. It never gives a panic or an endless walk.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use std::io::Cursor;

use keepstone_snapshot::bolt::{ReadError, Reader};
use keepstone_snapshot::etcd::{EtcdFile, Lease, MetaTable, Revision, Snapshot, Tables, append_trailer};
use proptest::prelude::*;

const FIXTURE: &[u8] = include_bytes!("data/etcd-3.6.16.snapshot");

/// Every way of reading there is. Returns whether all of it went well.
fn read_everything(file: &[u8]) -> bool {
    let bolt = Reader::open(file).and_then(|reader| {
        let checked = reader.check();
        for bucket in reader.buckets()? {
            let Ok(name) = std::str::from_utf8(&bucket.name) else {
                continue;
            };
            if let Some(cursor) = reader.bucket(name)? {
                cursor.last_entry()?;
            }
            if let Some(mut cursor) = reader.bucket(name)? {
                cursor.seek(b"\0\0\0\0\0\0\x01")?;
                cursor.try_for_each(|entry| entry.map(drop))?;
            }
            if let Some(mut cursor) = reader.bucket(name)? {
                cursor.try_for_each(|entry| entry.map(drop))?;
            }
        }
        checked
    });
    let etcd = Snapshot::new(file).and_then(|snapshot| {
        snapshot.tables()?;
        snapshot.current_revision()?;
        snapshot.records()?.try_for_each(|record| record.map(drop))?;
        snapshot.leases()?.try_for_each(|lease| lease.map(drop))
    });
    bolt.is_ok() && etcd.is_ok()
}

/// Without its digest, so that damage reaches the parsers.
fn fixture_db() -> Vec<u8> {
    FIXTURE[..FIXTURE.len() - 32].to_vec()
}

/// Three levels, overflow pages, leases.
fn our_db() -> Vec<u8> {
    let tables =
        Tables { meta: MetaTable { consistent_index: 9, term: 2, ..MetaTable::default() }, ..Tables::default() };
    let mut file = EtcdFile::new(Cursor::new(Vec::new()), &tables).unwrap();
    for main in 2..4000 {
        let size = if main % 500 == 0 { 20_000 } else { 90 };
        file.record(Revision { main, sub: 0 }, false, &vec![7; size]).unwrap();
    }
    for id in 1..300 {
        let lease = Lease { id, ttl: 60, remaining_ttl: 0 };
        file.lease(&lease).unwrap();
    }
    file.finish().unwrap().into_inner()
}

#[test]
fn any_single_damaged_byte_of_an_etcd_file() {
    let sound = fixture_db();
    assert!(read_everything(&sound));
    let mut file = sound.clone();
    for at in 0..sound.len() {
        let around = &sound[at.saturating_sub(32)..sound.len().min(at + 32)];
        if around.iter().all(|byte| *byte == 0) {
            continue; // Padding, which nothing reads.
        }
        for flip in [0x01, 0x80, 0xff] {
            file[at] = sound[at] ^ flip;
            read_everything(&file);
        }
        file[at] = sound[at];
    }
}

#[test]
fn any_damaged_byte_is_caught_by_the_digest() {
    let mut file = FIXTURE.to_vec();
    for at in (0..file.len()).step_by(61) {
        file[at] ^= 0x10;
        let error = Snapshot::new(file.clone()).unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{error}");
        file[at] ^= 0x10;
    }
}

#[test]
fn a_file_cut_short_is_refused() {
    let sound = our_db();
    for keep in (0..sound.len()).step_by(4096 / 3) {
        assert!(!read_everything(&sound[..keep]), "{keep} bytes");
    }
    let cut = Reader::open(sound[..sound.len() - 1].to_vec());
    assert!(matches!(cut, Err(ReadError::Truncated { .. })));
    let empty = Reader::open(Vec::new());
    assert!(matches!(empty, Err(ReadError::NotBolt)));
}

#[test]
fn either_meta_page_is_enough() {
    for page in [0, 1] {
        let mut file = our_db();
        file[page * 4096..(page + 1) * 4096].fill(0xaa);
        assert!(read_everything(&file), "without meta page {page}");
    }
    let mut file = our_db();
    file[..8192].fill(0);
    assert!(matches!(Reader::open(file), Err(ReadError::NotBolt)));
}

#[test]
fn the_error_names_the_page() {
    let mut file = our_db();
    let mut wrong_id = file.clone();
    // The first page after alarm, auth, authRoles, authUsers and cluster: the first leaf of `key`.
    wrong_id[7 * 4096] ^= 1;
    let snapshot = Snapshot::new(wrong_id).unwrap();
    let error = snapshot.records().unwrap().find_map(Result::err).unwrap();
    assert_eq!(error.to_string(), "page 7: calls itself page 6");

    // A child that is its own parent: page 7 takes the place of the page after it.
    let (first, second) = file[7 * 4096..9 * 4096].split_at_mut(4096);
    second[8..].copy_from_slice(&first[8..]);
    let snapshot = Snapshot::new(file).unwrap();
    let error = snapshot.records().unwrap().find_map(Result::err).unwrap();
    assert_eq!(error.to_string(), "page 8: element 0: key out of order");
}

#[test]
fn a_trailer_verifies() {
    let mut file = Cursor::new(our_db());
    append_trailer(&mut file).unwrap();
    let snapshot = Snapshot::new(file.into_inner()).unwrap();
    assert!(snapshot.verified());
    assert_eq!(snapshot.records().unwrap().count(), 3998);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_damage(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..2_usize), 1..12),
    ) {
        thread_local! {
            static SOUND: Vec<u8> = our_db();
        }
        let mut file = SOUND.with(Clone::clone);
        for (at, value, place) in hits {
            let at = match place {
                // Page and element headers, where damage does most.
                0 => at.index(file.len() / 4096 - 2) * 4096 + 8192 + usize::from(value) % 200,
                _ => at.index(file.len()),
            };
            file[at] = value;
        }
        read_everything(&file);
    }
}
