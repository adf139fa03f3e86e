//! `keepstone restore` as a process: what it makes of a backup, what it refuses, and what it leaves behind.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keepstone::data::{self, Checkpoint, DataError, Paths};
use keepstone_proto::{KeyValue, KeyValueParts};
use keepstone_snapshot::etcd::{self, EtcdFile, Tables};
use keepstone_state::{LeaseId, Records, Revision};
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};
use tempfile::TempDir;

/// As etcd 3.6.16 founds `--name default` with its default URLs and token.
const MEMBER_ID: u64 = 0x8e9e_05c5_2164_694d;
const CLUSTER_ID: u64 = 0xcdf8_1819_4e3a_8c32;

fn restore(args: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keepstone"));
    command.env_clear().arg("restore").args(args).output().expect("the binary runs")
}

fn said(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).expect("text")
}

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("lists").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// `(main, sub, key, value, create, version, lease)`; a version of 0 is a tombstone.
type Line = (i64, i64, &'static str, Vec<u8>, i64, i64, i64);

/// What is written into a backup.
struct Backup {
    tables: Tables,
    records: Vec<Line>,
    leases: Vec<etcd::Lease>,
    /// `etcdutl snapshot restore --bump-revision` left its mark.
    marker: Option<i64>,
}

impl Backup {
    fn new() -> Self {
        let meta = etcd::MetaTable { storage_version: Some("3.6.0".to_owned()), ..Default::default() };
        let tables = Tables { cluster_version: Some("3.6.0".to_owned()), meta, ..Default::default() };
        Self { tables, records: Vec::new(), leases: Vec::new(), marker: None }
    }

    /// Two keys, one of them leased, one overwritten; one that is gone; a compaction at 3.
    fn full() -> Self {
        let mut backup = Self::new();
        backup.tables.meta.finished_compact = 3;
        backup.tables.meta.scheduled_compact = 3;
        backup.tables.members = vec![etcd::Member { id: 9, name: "old".to_owned(), ..Default::default() }];
        backup.tables.alarms = vec![etcd::Alarm { member_id: 9, kind: 1 }];
        backup.leases = vec![etcd::Lease { id: 77, ttl: 600, remaining_ttl: 300 }];
        backup.records = vec![
            (3, 0, "a", b"one".to_vec(), 2, 2, 0),
            (4, 0, "b", b"leased".to_vec(), 4, 1, 77),
            (4, 1, "c", vec![7; 3000], 4, 1, 0),
            (5, 0, "a", b"two".to_vec(), 2, 3, 0),
            (6, 0, "c", Vec::new(), 0, 0, 0),
        ];
        backup
    }

    fn write(&self, file: &Path) {
        let mut out = fs::OpenOptions::new();
        let out = out.read(true).write(true).create(true).truncate(true).open(file).expect("a file");
        let mut db = EtcdFile::new(out, &self.tables).expect("begins");
        for (main, sub, key, value, create, version, lease) in &self.records {
            let parts = KeyValueParts {
                key: key.as_bytes(),
                create_revision: *create,
                mod_revision: *main,
                version: *version,
                value,
                lease: *lease,
            };
            let gone = *version == 0;
            let kv = if gone { KeyValue::tombstone(key.as_bytes()) } else { KeyValue::new(&parts) };
            db.record(etcd::Revision { main: *main, sub: *sub }, gone, kv.raw()).expect("adds");
        }
        if let Some(main) = self.marker {
            db.record(etcd::Revision { main, sub: 0 }, false, b"").expect("adds");
        }
        self.leases.iter().for_each(|lease| db.lease(lease).expect("adds"));
        let mut out = db.finish().expect("ends");
        etcd::append_trailer(&mut out).expect("hashes");
    }
}

/// One test at a time: a process that another is just starting has our lock's file open until it runs, and whoever opens
/// that log next would find it in use.
static TURN: ReentrantMutex<()> = ReentrantMutex::new(());

struct Place {
    dir: TempDir,
    _turn: ReentrantMutexGuard<'static, ()>,
}

impl Place {
    fn new(backup: &Backup) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a directory"), _turn: TURN.lock() };
        backup.write(&place.file());
        place
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("backup.db")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn restore(&self, flags: &[&str]) -> Output {
        let (file, data) = (self.file(), self.data());
        let mut args = vec![file.as_path(), path("--data-dir"), data.as_path()];
        args.extend(flags.iter().map(Path::new));
        restore(&args)
    }

    #[track_caller]
    fn restored(&self, flags: &[&str]) -> String {
        let out = self.restore(flags);
        assert!(out.status.success(), "{}", said(&out));
        String::from_utf8(out.stdout).expect("text")
    }

    /// Refused with these words, and nothing left behind.
    #[track_caller]
    fn refused(&self, flags: &[&str], words: &str) {
        let before = names(self.dir.path());
        let out = self.restore(flags);
        assert_eq!(out.status.code(), Some(1), "{}", said(&out));
        assert!(said(&out).contains(words) && said(&out).lines().count() == 1, "{}", said(&out));
        assert_eq!(names(self.dir.path()), before);
    }
}

fn open(data_dir: &Path, wal_dir: Option<&Path>) -> (data::Log, Checkpoint) {
    let paths = Paths::new(data_dir, wal_dir);
    let log = data::open_log(&paths, keepstone_wal::Options::default(), || -> Result<_, DataError> {
        panic!("the log has an identity")
    });
    let log = log.expect("the log opens");
    let checkpoint = data::open_checkpoint(&paths, &log, log.passport.identity.expect("an identity"), 1 << 20)
        .expect("the state opens");
    (log, checkpoint)
}

#[test]
fn a_backup_comes_back_whole() {
    let place = Place::new(&Backup::full());
    let out = place.restored(&[]);
    assert!(out.starts_with("restored revision 6 with 2 keys and 1 leases"), "{out}");
    assert!(out.contains("1 alarms are raised"), "{out}");
    assert_eq!(names(place.dir.path()), ["backup.db", "data"]);
    assert_eq!(names(&place.data()), ["log", "store"]);

    let (log, Checkpoint { records, state, applied, .. }) = open(&place.data(), None);
    let identity = log.passport.identity.expect("an identity");
    assert_eq!((identity.member_id.0, identity.cluster_id), (MEMBER_ID, CLUSTER_ID));
    assert_eq!((state.revision(), state.compact_revision(), state.keys()), (6, 3, 2));
    assert_eq!(state.unfinished_compaction(), None);
    let value = |key: &[u8], at| state.find(key, at).map(|at| records.get(at).expect("a record").value().to_vec());
    assert_eq!(value(b"a", 6), Some(b"two".to_vec()));
    assert_eq!(value(b"a", 4), Some(b"one".to_vec()));
    assert_eq!(value(b"c", 5), Some(vec![7; 3000]));
    assert_eq!(value(b"c", 6), None);
    assert_eq!(state.find(b"c", 5), Some(Revision::new(4, 1)));
    let lease = state.leases().get(LeaseId(77)).expect("the lease");
    assert_eq!((lease.ttl, lease.remaining_ttl), (600, 300));
    assert_eq!(lease.keys().collect::<Vec<_>>(), [b"b"]);
    assert_eq!(state.alarms().list(0).len(), 1, "alarms stay");

    let members = state.members();
    assert_eq!(
        (members.cluster_id(), members.token(), members.version()),
        (Some(CLUSTER_ID), "etcd-cluster", Some("3.6.0"))
    );
    let list = members.list();
    assert_eq!(list.len(), 1, "the old cluster's members are gone");
    assert_eq!(
        (list[0].id, list[0].name.as_str(), &list[0].peer_urls[..]),
        (MEMBER_ID, "default", &["http://localhost:2380".to_owned()][..])
    );
    assert_eq!(members.incarnation(identity.member_id), Some(&log.passport.incarnation[..]));
    // One entry stands for the backup, and is not there to be sent to anybody.
    let base = log.wal.purged().expect("the log begins after the backup");
    let reached = applied.log_id.expect("something is applied");
    assert_eq!((base.index, log.wal.last(), log.wal.first_index()), (reached.index(), Some(base), None));
    assert_eq!(applied.membership.voter_ids().collect::<Vec<_>>(), [MEMBER_ID]);
}

#[test]
fn names_and_tokens_make_the_ids() {
    let place = Place::new(&Backup::full());
    let url = "--initial-advertise-peer-urls=http://10.0.0.1:2380";
    let out = place.restored(&["--name", "m1", url, "--initial-cluster-token", "other"]);
    let member = data::member_id(&["http://10.0.0.1:2380".to_owned()], "other");
    let text = format!("member {:x} of cluster {:x}", member.0, data::cluster_id(&[member]));
    assert!(out.contains(&text), "{out}");
}

#[test]
fn the_revision_is_bumped_and_compacted() {
    let place = Place::new(&Backup::full());
    place.restored(&["--bump-revision", "1000000000", "--mark-compacted"]);
    let (_, Checkpoint { state, .. }) = open(&place.data(), None);
    assert_eq!((state.revision(), state.compact_revision()), (1_000_000_006, 1_000_000_006));
    assert_eq!(state.unfinished_compaction(), Some(1_000_000_006), "the member compacts when it starts");
    assert_eq!(state.keys(), 2);

    let place = Place::new(&Backup::full());
    place.refused(&["--bump-revision", "9223372036854775807", "--mark-compacted"], "past what a revision may be");
}

#[test]
fn etcdutls_marker_is_a_revision_and_no_key() {
    let mut backup = Backup::full();
    backup.marker = Some(1006);
    backup.tables.meta.scheduled_compact = 1006;
    let place = Place::new(&backup);
    place.restored(&[]);
    let (_, Checkpoint { state, .. }) = open(&place.data(), None);
    assert_eq!((state.revision(), state.compact_revision(), state.keys()), (1006, 1006, 2));
    assert_eq!(state.unfinished_compaction(), Some(1006), "it was only scheduled");
}

#[test]
fn an_empty_cluster_comes_back_too() {
    let place = Place::new(&Backup::new());
    place.restored(&[]);
    let (_, Checkpoint { state, .. }) = open(&place.data(), None);
    assert_eq!((state.revision(), state.compact_revision(), state.keys()), (1, -1, 0));
}

#[test]
fn more_than_one_checkpoint_of_records_comes_back() {
    let mut backup = Backup::new();
    let keys = ["a", "b", "c", "d", "e"];
    // 48 MiB: the writing is in between, more than once.
    backup.records =
        (0..12_000).map(|i| (i + 2, 0, keys[i as usize % 5], vec![i as u8; 4096], i % 5 + 2, i / 5 + 1, 0)).collect();
    let place = Place::new(&backup);
    place.restored(&[]);
    let (_, Checkpoint { records, state, .. }) = open(&place.data(), None);
    assert_eq!((state.revision(), state.keys()), (12_001, 5));
    for (main, _, key, value, ..) in backup.records.iter().step_by(997) {
        let at = state.find(key.as_bytes(), *main).expect("the revision");
        assert_eq!(records.get(at).expect("a record").value(), value);
    }
}

#[test]
fn a_log_directory_of_its_own() {
    let place = Place::new(&Backup::full());
    let wal = place.dir.path().join("elsewhere").join("wal");
    place.restored(&["--wal-dir", wal.to_str().expect("text")]);
    assert_eq!(names(&place.data()), ["store"]);
    assert_eq!(names(&place.dir.path().join("elsewhere")), ["wal"]);
    assert_eq!(open(&place.data(), Some(&wal)).1.state.revision(), 6);

    let place = Place::new(&Backup::full());
    let wal = place.data().join("wal");
    place.restored(&["--wal-dir", wal.to_str().expect("text")]);
    assert_eq!(names(&place.data()), ["store", "wal"]);
    assert_eq!(open(&place.data(), Some(&wal)).1.state.revision(), 6);

    let place = Place::new(&Backup::full());
    for wal in [place.data(), place.data().join("store"), place.dir.path().to_path_buf()] {
        place.refused(&["--wal-dir", wal.to_str().expect("text")], "directory of its own");
    }
    let full = place.dir.path().join("full");
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join("x"), "").expect("a file");
    place.refused(&["--wal-dir", full.to_str().expect("text")], "is not empty");
}

#[test]
fn only_an_empty_place_is_taken() {
    let place = Place::new(&Backup::full());
    fs::create_dir(place.data()).expect("a directory");
    place.restored(&[]);
    let before = names(&place.data());
    place.refused(&[], "is not empty");
    assert_eq!(names(&place.data()), before, "what is there stays");

    let place = Place::new(&Backup::full());
    fs::write(place.data(), "a file").expect("a file");
    place.refused(&[], "data");
}

#[test]
fn what_a_crash_left_is_cleared_away() {
    let place = Place::new(&Backup::full());
    let left = place.dir.path().join("data.restoring");
    fs::create_dir_all(left.join("store")).expect("directories");
    fs::write(left.join("store").join("half"), "").expect("a file");
    place.refused(&[], "is in the way and not of an earlier restore");
    assert!(left.join("store").join("half").exists());
    fs::write(left.join("RESTORING"), "").expect("a file");
    place.restored(&[]);
    assert_eq!(names(place.dir.path()), ["backup.db", "data"]);
    assert_eq!(open(&place.data(), None).1.state.revision(), 6);
}

#[test]
fn a_restore_at_work_is_left_alone() {
    let place = Place::new(&Backup::full());
    let left = place.dir.path().join("data.restoring");
    fs::create_dir(&left).expect("a directory");
    fs::write(left.join("RESTORING"), "").expect("a file");
    let lock = fs::File::open(&left).expect("opens");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locks");
    place.refused(&[], "another restore is at work");
}

#[test]
fn protected_and_newer_backups_are_refused() {
    let mut backup = Backup::full();
    backup.tables.auth.users = vec![(b"root".to_vec().into(), b"x".to_vec().into())];
    backup.tables.auth.enabled = Some(true);
    Place::new(&backup).refused(&[], "protected by users and roles");
    backup.tables.auth.enabled = Some(false);
    let out = Place::new(&backup).restored(&[]);
    assert!(out.contains("left behind: 1 users and 0 roles"), "{out}");

    let mut backup = Backup::full();
    backup.tables.meta.storage_version = Some("3.7.0".to_owned());
    Place::new(&backup).refused(&[], "is of version 3.7.0");
    let url = "default=http://a:1,other=http://b:1";
    let flags = ["--initial-cluster", url, "--initial-advertise-peer-urls", "http://a:1"];
    Place::new(&Backup::full()).refused(&flags, "becomes a cluster of one");
}

#[test]
fn damaged_backups_are_refused_by_name() {
    let place = Place::new(&Backup::full());
    let whole = fs::read(place.file()).expect("reads");
    let write = |bytes: &[u8]| fs::write(place.file(), bytes).expect("writes");

    let db = &whole[..whole.len() - 32];
    write(db);
    place.refused(&[], "has no checksum at its end");
    place.restored(&["--skip-hash-check"]);
    fs::remove_dir_all(place.data()).expect("removed");

    let mut flipped = whole.clone();
    flipped[5000] ^= 1;
    write(&flipped);
    place.refused(&[], "does not match its SHA-256");

    // The checksum was wrong, not the file: etcdutl takes it with the flag, and so do we.
    let mut other_sum = whole.clone();
    *other_sum.last_mut().expect("bytes") ^= 1;
    write(&other_sum);
    place.refused(&[], "does not match its SHA-256");
    place.restored(&["--skip-hash-check"]);
    fs::remove_dir_all(place.data()).expect("removed");

    write(&db[..db.len() - 4096]);
    place.refused(&["--skip-hash-check"], "backup.db: ");
    write(b"no database");
    place.refused(&["--skip-hash-check"], "backup.db: ");
    fs::remove_file(place.file()).expect("removed");
    place.refused(&[], "backup.db: No such file");
}

#[test]
fn impossible_histories_are_refused_by_name() {
    let mut backup = Backup::full();
    backup.records.push((7, 0, "d", b"x".to_vec(), 9, 1, 0));
    let place = Place::new(&backup);
    place.refused(&[], "version or create revision");

    let mut backup = Backup::full();
    backup.records.push((1 << 53, 0, "d", b"x".to_vec(), 7, 1, 0));
    let place = Place::new(&backup);
    place.refused(&[], &format!("record of revision {}.0 is damaged", 1_i64 << 53));

    let place = Place::new(&Backup::full());
    let mut file = fs::OpenOptions::new().append(true).open(place.file()).expect("opens");
    file.write_all(&[0; 100]).expect("writes");
    place.refused(&[], "has no checksum at its end");
}

/// Its log begins after the backup. Rebuilt from that alone, the member would begin empty where there was data.
#[test]
fn a_restored_store_that_is_damaged_or_gone_is_not_rebuilt_from_its_log() {
    let place = Place::new(&Backup::full());
    place.restored(&[]);
    let store = place.data().join("store");
    let opened = || {
        let paths = Paths::new(&place.data(), None);
        let log = data::open_log(&paths, keepstone_wal::Options::default(), || -> Result<_, DataError> {
            panic!("the log has an identity")
        });
        let log = log.expect("the log opens");
        let identity = log.passport.identity.expect("an identity");
        data::open_checkpoint(&paths, &log, identity, 1 << 20).map(drop)
    };
    assert!(opened().is_ok());
    spoil(&store);
    let damaged = opened();
    assert!(matches!(damaged, Err(DataError::Lost { .. })), "{damaged:?}");
    fs::remove_dir_all(&store).expect("gone");
    let gone = opened();
    assert!(matches!(gone, Err(DataError::Gap { .. })), "{gone:?}");
}

fn spoil(dir: &Path) {
    for name in names(dir) {
        let path = dir.join(name);
        if path.is_dir() { spoil(&path) } else { fs::write(path, "no store").expect("written") }
    }
}
