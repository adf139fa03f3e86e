//! `keepstone wal export` as a process, of logs that are written here. What etcd itself reads of an export is in
//! tests/conformance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;

use keepstone::cluster::Passport;
use keepstone::core::Identity;
use keepstone::data::{self, DataError, Log, Paths};
use keepstone::raft::codec;
use keepstone::raft::types::{Payload, Proposal, Request, Vote};
use keepstone_proto::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use keepstone_proto::keepstonepb::LeaseExpire;
use keepstone_state::MemberId;
use keepstone_wal::{Entry, LogPos};
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};
use prost::Message as _;
use tempfile::TempDir;

/// One test at a time: a process that another is just starting has our lock's file open until it runs, and whoever opens
/// that log next would find it in use.
static TURN: ReentrantMutex<()> = ReentrantMutex::new(());

struct Place {
    dir: TempDir,
    _turn: ReentrantMutexGuard<'static, ()>,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), _turn: TURN.lock() }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn found(&self) -> Log {
        let identity = Identity { cluster_id: 0xc, member_id: MemberId(0xa) };
        let found = || Ok::<_, DataError>(Passport::new(Some(identity)).expect("randomness"));
        data::open_log(&Paths::new(&self.data(), None), keepstone_wal::Options::default(), found).expect("founded")
    }

    /// A log of `entries` entries of `puts` puts each, from index 1 and term 2 on; the last is not committed.
    fn written(&self, entries: u64, puts: u64) {
        let log = self.found();
        log.wal.save_vote(codec::encode_vote(&Vote::new_committed(2, 0xa)), Box::new(drop)).expect("saves");
        for index in 1..=entries {
            append(&log, index, puts);
        }
        let committed = codec::encode_log_id(&codec::log_id(2, entries - 1));
        log.wal.save_committed(committed.to_vec().into()).expect("saves");
        sync(&log);
        log.wal.close();
    }

    fn export(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keepstone"));
        let command = command.env_clear().args(["wal", "export"]).arg(self.target());
        command.arg("--data-dir").arg(self.data()).output().expect("the binary runs")
    }

    #[track_caller]
    fn exported(&self) -> String {
        let out = self.export();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        let out = self.export();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
}

fn append(log: &Log, index: u64, puts: u64) {
    let put = |id| InternalRaftRequest {
        id,
        put: Some(PutRequest { key: "k".into(), ..Default::default() }),
        ..Default::default()
    };
    let requests = (0..puts).map(|i| Request::new(put(index * 100 + i))).collect();
    let data = codec::encode_payload(&Payload::Normal(Proposal { requests }));
    log.wal.append([Entry { index, term: 2, data }], Box::new(drop)).expect("appends");
}

fn sync(log: &Log) {
    let (done, synced) = mpsc::channel();
    log.wal.sync(Box::new(move |result| drop(done.send(result)))).expect("asked");
    synced.recv().expect("an answer").expect("synced");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("lists").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// How often `needle` stands in the exported log.
fn count(place: &Place, needle: &[u8]) -> usize {
    let wal = place.target().join("member").join("wal");
    let file = fs::read(wal.join(&names(&wal)[0])).expect("reads");
    file.windows(needle.len()).filter(|window| window == &needle).count()
}

#[test]
fn every_request_is_an_entry() {
    let place = Place::new();
    place.written(3, 4);
    let out = place.exported();
    assert_eq!(out, "exported 3 log entries as 12 of etcd's, the last with index 12\n");
    assert_eq!(names(&place.target()), ["member"]);
    assert_eq!(names(&place.target().join("member")), ["snap", "wal"]);
    // A put of "k": field 4 of the request, and within it field 1.
    assert_eq!(count(&place, b"\x22\x03\x0a\x01k"), 12);
    // Term 2, vote for 10, committed up to the eighth: the last entry was not known to be.
    assert_eq!(count(&place, b"\x08\x02\x10\x0a\x18\x08"), 1);
}

/// Through the log on disk, and into what is exported of it, also where that is another request.
#[test]
fn who_a_request_is_of_survives_the_log() {
    let place = Place::new();
    let log = place.found();
    let header = RequestHeader { id: 5, username: "alice".to_owned(), auth_revision: 7 };
    let put = InternalRaftRequest {
        header: Some(header.clone()),
        put: Some(PutRequest { key: "k".into(), ..Default::default() }),
        ..Default::default()
    };
    let expire = InternalRaftRequest {
        header: Some(header.clone()),
        lease_expire: Some(LeaseExpire { ids: vec![1, 2] }),
        ..Default::default()
    };
    let requests = [Request::new(put), Request::new(expire)].into();
    let data = codec::encode_payload(&Payload::Normal(Proposal { requests }));
    log.wal.append([Entry { index: 1, term: 2, data }], Box::new(drop)).expect("appends");
    sync(&log);
    log.wal.close();
    drop(log);
    let log = place.found();
    let entries = log.wal.read(1..2, 1 << 20).expect("reads");
    let entry = codec::decode_entry(codec::log_id(2, 1), &entries[0].data).expect("an entry");
    let Payload::Normal(Proposal { requests }) = entry.payload else { panic!("{entry:?}") };
    assert!(requests.iter().all(|request| request.decoded.header.as_ref() == Some(&header)));
    log.wal.close();
    drop(log);
    place.exported();
    // The put, and a revocation for each lease.
    assert_eq!(count(&place, &header.encode_to_vec()), 3);
}

#[test]
fn a_log_that_begins_later_begins_with_a_snapshot() {
    let place = Place::new();
    place.written(5, 1);
    let log = place.found();
    let (done, purged) = mpsc::channel();
    log.wal.purge(LogPos { term: 2, index: 3 }, Box::new(move |result| drop(done.send(result)))).expect("purges");
    purged.recv().expect("an answer").expect("purged");
    log.wal.close();
    drop(log);
    assert_eq!(place.exported(), "exported 2 log entries as 2 of etcd's, the last with index 5\n");
    assert_eq!(names(&place.target().join("member").join("snap")), ["0000000000000002-0000000000000003.snap"]);
}

#[test]
fn refusals_name_what_is_wrong_and_leave_nothing() {
    let place = Place::new();
    place.refused("holds no member's log");
    assert!(names(place.dir.path()).is_empty(), "a log is not founded by looking for one");

    place.written(2, 1);
    let running = place.found();
    place.refused("in use by another process");
    running.wal.close();
    drop(running);
    place.exported();
    place.refused("is there already");

    let place = Place::new();
    let log = place.found();
    log.wal.append([Entry { index: 1, term: 1, data: b"\x09garbage"[..].into() }], Box::new(drop)).expect("appends");
    sync(&log);
    log.wal.close();
    drop(log);
    place.refused("log entry 1: ");
    assert!(names(&place.target()).is_empty());
}

#[test]
fn what_an_interrupted_export_left_is_replaced() {
    let place = Place::new();
    place.written(2, 1);
    let left = place.target().join("member.partial").join("wal");
    fs::create_dir_all(&left).expect("directories");
    fs::write(left.join("x"), "").expect("a file");
    place.exported();
    assert_eq!(names(&place.target()), ["member"]);
    assert_eq!(names(&place.target().join("member").join("wal")).len(), 1);
}
