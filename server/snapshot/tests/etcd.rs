//! The etcd schema: a snapshot etcd wrote, and files of our own.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use std::io::Cursor;

use bytes::Bytes;
use keepstone_snapshot::etcd::{
    Alarm, AuthTable, ConfState, Downgrade, EtcdFile, Lease, Member, MetaTable, Record, Revision, Snapshot, Tables,
    Trailer, WriteError,
};

/// Saved by etcdctl 3.6.16 from an etcd 3.6.16: keys put, deleted, compacted, leased, a transaction,
/// a value longer than a page, a learner, a removed member, a user, a role, a NOSPACE alarm.
const FIXTURE: &[u8] = include_bytes!("data/etcd-3.6.16.snapshot");

fn at(main: i64, sub: i64) -> Revision {
    Revision { main, sub }
}

#[test]
fn reads_a_snapshot_etcd_wrote() {
    let snapshot = Snapshot::new(FIXTURE.to_vec()).unwrap();
    assert!(snapshot.verified());
    assert_eq!(snapshot.check().unwrap().buckets, 10);
    assert_eq!(snapshot.current_revision().unwrap(), 8);

    let records: Vec<Record> = snapshot.records().unwrap().map(Result::unwrap).collect();
    let got: Vec<_> = records.iter().map(|r| (r.revision, r.tombstone)).collect();
    let expected = [
        (at(3, 0), false),
        (at(4, 0), false),
        (at(5, 0), true),
        (at(6, 0), false),
        (at(7, 0), false),
        (at(7, 1), false),
        (at(7, 2), true),
        (at(8, 0), false),
    ];
    assert_eq!(got, expected);
    // mvccpb.KeyValue: key 1, create 2, mod 3, version 4, value 5.
    assert_eq!(records[0].value, &b"\x0a\x01a\x10\x02\x18\x03\x20\x02\x2a\x03two"[..]);
    assert_eq!(records[2].value, &b"\x0a\x01b"[..]);
    assert!(records[7].value.len() > 5000);
    let later = snapshot.records_from(at(7, 1)).unwrap().map(Result::unwrap);
    assert!(later.eq(records[5..].iter().cloned()));

    let leases: Vec<Lease> = snapshot.leases().unwrap().map(Result::unwrap).collect();
    let [lease] = leases[..] else {
        panic!("one lease, not {leases:?}");
    };
    assert_eq!((lease.id, lease.ttl, lease.remaining_ttl), (0x77fa_a1fd_ea66_b20a, 5000, 0));
}

#[test]
fn reads_the_tables_etcd_wrote() {
    let tables = Snapshot::new(FIXTURE.to_vec()).unwrap().tables().unwrap();
    let own = 3_990_370_604_368_066_554;
    let learner = 16_791_390_281_045_978_795;
    let expected = Tables {
        alarms: vec![Alarm { member_id: own, kind: 1 }],
        auth: AuthTable {
            enabled: None,
            revision: 5,
            users: vec![row(b"joe", b"\n\x03joe\x1a\x06reader\"\x02\x08\x01")],
            roles: vec![row(b"reader", b"\n\x06reader\x12\x06\x12\x01a\x1a\x01z")],
        },
        cluster_version: Some("3.6.0".to_owned()),
        downgrade: None,
        members: vec![
            Member {
                id: own,
                peer_urls: vec!["http://127.0.0.1:23803".to_owned()],
                is_learner: false,
                name: "fx".to_owned(),
                client_urls: vec!["http://127.0.0.1:23793".to_owned()],
            },
            Member {
                id: learner,
                peer_urls: vec!["http://127.0.0.1:2".to_owned()],
                is_learner: true,
                ..Member::default()
            },
        ],
        removed_members: vec![15_892_040_082_119_605_850],
        meta: MetaTable {
            conf_state: Some(ConfState { voters: vec![own], learners: vec![learner], ..ConfState::default() }),
            consistent_index: 22,
            term: 2,
            finished_compact: 3,
            scheduled_compact: 3,
            storage_version: Some("3.6.0".to_owned()),
        },
    };
    assert_eq!(tables, expected);
}

#[test]
fn every_table_survives_our_file() {
    let tables = Tables {
        alarms: vec![alarm(1, 1), alarm(2, 2)],
        auth: AuthTable {
            enabled: Some(true),
            revision: 12,
            users: vec![row(b"a", b"1"), row(b"b", b"")],
            roles: vec![row(b"root", b"r")],
        },
        cluster_version: Some("3.6.0".to_owned()),
        downgrade: Some(Downgrade { target_version: "3.5.0".to_owned(), enabled: true }),
        // Key order is that of the hex text: 10 before f.
        members: vec![member(0x10), member(0xf)],
        removed_members: vec![0x1a, 0x2],
        meta: MetaTable {
            conf_state: Some(ConfState {
                voters: vec![1, 2],
                learners: vec![3],
                voters_outgoing: vec![1],
                learners_next: vec![2],
                auto_leave: true,
            }),
            consistent_index: u64::MAX,
            term: 3,
            finished_compact: 40,
            scheduled_compact: 70,
            storage_version: Some("3.6.0".to_owned()),
        },
    };
    let mut file = EtcdFile::new(Cursor::new(Vec::new()), &tables).unwrap();
    file.record(at(50, 0), false, b"x").unwrap();
    file.record(at(50, 1), true, b"").unwrap();
    let lease = Lease { id: 5, ttl: 60, remaining_ttl: 30 };
    file.lease(&lease).unwrap();
    let snapshot = Snapshot::new(file.finish().unwrap().into_inner()).unwrap();
    assert!(!snapshot.verified());
    assert_eq!(snapshot.tables().unwrap(), tables);
    // The begun compaction is beyond the last record.
    assert_eq!(snapshot.current_revision().unwrap(), 70);
    let leases: Vec<_> = snapshot.leases().unwrap().map(Result::unwrap).collect();
    assert_eq!(leases, [lease]);
    assert_eq!(snapshot.records().unwrap().count(), 2);
}

#[test]
fn an_empty_cluster_is_at_revision_one() {
    let tables = Tables::default();
    let file = EtcdFile::new(Cursor::new(Vec::new()), &tables).unwrap();
    let snapshot = Snapshot::new(file.finish().unwrap().into_inner()).unwrap();
    assert_eq!(snapshot.current_revision().unwrap(), 1);
    assert_eq!(snapshot.tables().unwrap(), tables);
    assert!(snapshot.records().unwrap().next().is_none());
}

#[test]
fn a_stream_needs_no_seeking_and_gives_the_same_file() {
    let source = Snapshot::new(FIXTURE.to_vec()).unwrap();
    let tables = source.tables().unwrap();
    let mut measured = EtcdFile::measure(&tables).unwrap();
    fill(&source, &mut measured);
    let layout = measured.finish_layout().unwrap();
    let mut streamed = EtcdFile::with_layout(Vec::new(), layout, &tables).unwrap();
    fill(&source, &mut streamed);
    let mut streamed = streamed.finish_with(layout).unwrap();
    assert_eq!(streamed.len() as u64, layout.file_bytes());

    let mut seeking = EtcdFile::new(Cursor::new(Vec::new()), &tables).unwrap();
    fill(&source, &mut seeking);
    assert_eq!(seeking.finish().unwrap().into_inner(), streamed);

    // The server hashes the chunks it sends and sends the digest last.
    let mut trailer = Trailer::new();
    streamed.chunks(32 << 10).for_each(|sent| trailer.update(sent));
    streamed.extend_from_slice(&trailer.finish());
    let copy = Snapshot::new(streamed).unwrap();
    assert!(copy.verified());
    assert_eq!(copy.tables().unwrap(), tables);
}

#[test]
fn order_is_held_to() {
    let tables = Tables::default();
    let mut file = EtcdFile::measure(&tables).unwrap();
    file.record(at(2, 1), false, b"").unwrap();
    // As keys these two would ascend; they are one revision all the same.
    let again = file.record(at(2, 1), true, b"");
    assert!(matches!(again, Err(WriteError::RevisionOrder { .. })));
    let negative = file.record(at(-1, 0), false, b"");
    assert!(matches!(negative, Err(WriteError::NegativeRevision(_))));

    let tables = Tables { members: vec![member(1), member(1)], ..Tables::default() };
    let file = EtcdFile::measure(&tables).unwrap();
    assert!(matches!(file.finish_layout(), Err(WriteError::Duplicate("members"))));
}

fn fill<W: std::io::Write>(from: &Snapshot<Vec<u8>>, to: &mut EtcdFile<'_, W>) {
    for record in from.records().unwrap().map(Result::unwrap) {
        to.record(record.revision, record.tombstone, &record.value).unwrap();
    }
    for lease in from.leases().unwrap() {
        to.lease(&lease.unwrap()).unwrap();
    }
}

fn row(name: &'static [u8], value: &'static [u8]) -> (Bytes, Bytes) {
    (Bytes::from_static(name), Bytes::from_static(value))
}

fn alarm(member_id: u64, kind: i32) -> Alarm {
    Alarm { member_id, kind }
}

fn member(id: u64) -> Member {
    Member {
        id,
        peer_urls: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
        is_learner: false,
        name: format!("m{id}"),
        client_urls: vec!["http://a:2".to_owned()],
    }
}
