//! `keepstone restore`: founds a new one-member cluster from a backup that etcd or keepstone wrote.
//!
//! Taken over are the records with their revisions, the compaction, leases with what is left of them, and alarms (as
//! `etcdutl snapshot restore` does). Members, a downgrade under way and the place in the old log are not: it is another
//! cluster. Users and roles can't be: a backup whose authentication is on is refused.
//!
//! The file is streamed; memory holds the key index, as it will in the member, the leases, and what no checkpoint has
//! written. It never writes into a directory that has anything in it: see [`staging`] for what a crash leaves.

mod source;
mod staging;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use keepstone_proto::etcdserverpb::AlarmMember;
use keepstone_proto::keepstonepb::{ClusterInit, Member};
use keepstone_proto::{KeyValue, leasepb};
use keepstone_snapshot::etcd;
use keepstone_state::{Record, Restore, Revision, Row, State, TableWrite};
use keepstone_store::{RecordStore, StoreError};
use keepstone_wal::{LogPos, Wal};

use crate::cluster::Passport;
use crate::cluster::survive::wait;
use crate::config::{ListenUrl, RestoreArgs};
use crate::core::Identity;
use crate::data::{self, DataError};
use crate::raft::codec::{self, Applied};
use crate::raft::types::{LogId, Membership, StoredMembership, Vote};
use crate::version;

use source::Source;
use staging::Staging;

/// Records and rows handed to the store at once.
const RUN_RECORDS: usize = 1024;
const RUN_BYTES: usize = 1 << 20;
/// Bytes of unwritten records past which they are written and flushed.
const DIRTY_BYTES: usize = 32 << 20;
/// Nothing is read back.
const CACHE_BYTES: u64 = 1 << 20;
/// The state's bounds: revisions and versions, and changes within a revision.
const REVISION_BOUND: i64 = 1 << 52;
const SUB_BOUND: i64 = 1 << 35;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("--initial-cluster names {0} members: a backup becomes a cluster of one, to which the others are added")]
    SeveralMembers(usize),
    #[error("{path} is not empty: name a directory that is not there yet", path = path.display())]
    NotEmpty { path: PathBuf },
    #[error("{path} can't be used: {why}", path = path.display())]
    Place { path: PathBuf, why: &'static str },
    #[error("another restore is at work in {path}", path = path.display())]
    Busy { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} has no checksum at its end: it was cut short, or was not written by `snapshot save`. --skip-hash-check takes a file that was copied from a data directory", path = path.display())]
    NoHash { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    Snapshot { path: PathBuf, source: etcd::Error },
    #[error("{path}: the record of revision {main}.{sub} is damaged: {why}", path = path.display())]
    Record { path: PathBuf, main: i64, sub: i64, why: String },
    #[error("{path}: {source}", path = path.display())]
    State { path: PathBuf, source: keepstone_state::RestoreError },
    #[error("{path} is protected by users and roles, which are not in this version: restored, everybody could read and write it. Switch authentication off (`etcdctl auth disable`) before the snapshot is taken, if that is what you want", path = path.display())]
    Auth { path: PathBuf },
    #[error("{path} is of version {found}; this program knows the formats up to {known}", path = path.display(), known = version::ETCD_CLUSTER)]
    Newer { path: PathBuf, found: String },
    #[error("--bump-revision {bump} on top of revision {revision} is past what a revision may be")]
    Bump { bump: u64, revision: i64 },
    #[error("no randomness from the system: {0}")]
    Random(io::Error),
    #[error("the log in {path}: {source}", path = path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub data_dir: PathBuf,
    pub identity: Identity,
    pub revision: i64,
    /// -1 if there never was a compaction.
    pub compact_revision: i64,
    pub keys: usize,
    pub leases: usize,
    /// Alarms that are raised from the start.
    pub alarms: usize,
    /// Users and roles of the backup that were left behind. Its authentication was off.
    pub users: usize,
    pub roles: usize,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "restored revision {} with {} keys and {} leases into {}: {}",
            self.revision,
            self.keys,
            self.leases,
            self.data_dir.display(),
            self.identity
        )?;
        if self.users + self.roles > 0 {
            write!(
                f,
                "\nleft behind: {} users and {} roles, which are not in this version (authentication was off)",
                self.users, self.roles
            )?;
        }
        if self.alarms > 0 {
            write!(f, "\n{} alarms are raised, as they were: see `etcdctl alarm list`", self.alarms)?;
        }
        Ok(())
    }
}

/// Restores.
///
/// # Errors
/// [`RestoreError`]; nothing is left behind then.
pub fn run(args: &RestoreArgs) -> Result<Restored, RestoreError> {
    let founder = Founder::new(args)?;
    let source = Source::open(&args.snapshot, args.skip_hash_check)?;
    let plan = Plan::new(args, &source)?;
    let staging = Staging::begin(&args.data_dir, args.wal_dir.as_deref())?;
    let state = build(staging.paths(), &founder, &source, &plan)?;
    staging.finish()?;
    Ok(Restored {
        data_dir: args.data_dir.clone(),
        identity: founder.identity,
        revision: state.revision(),
        compact_revision: state.compact_revision(),
        keys: state.keys(),
        leases: state.leases().len(),
        alarms: source.tables.alarms.len(),
        users: source.tables.auth.users.len(),
        roles: source.tables.auth.roles.len(),
    })
}

/// The one member of the new cluster.
struct Founder {
    identity: Identity,
    passport: Passport,
    token: String,
    member: Member,
}

impl Founder {
    fn new(args: &RestoreArgs) -> Result<Self, RestoreError> {
        if args.initial_cluster.len() != 1 {
            return Err(RestoreError::SeveralMembers(args.initial_cluster.len()));
        }
        let peer_urls: Vec<String> =
            args.initial_cluster.get(&args.name).unwrap_or_default().iter().map(ListenUrl::to_string).collect();
        let member_id = data::member_id(&peer_urls, &args.initial_cluster_token);
        let identity = Identity { cluster_id: data::cluster_id(&[member_id]), member_id };
        let mut passport = Passport::new(Some(identity)).map_err(RestoreError::Random)?;
        passport.settled = true;
        let member =
            Member { id: member_id.0, name: args.name.clone(), peer_urls, client_urls: Vec::new(), is_learner: false };
        Ok(Self { identity, passport, token: args.initial_cluster_token.clone(), member })
    }

    fn rows(&self) -> Vec<Row> {
        let cluster =
            ClusterInit { cluster_id: self.identity.cluster_id, token: self.token.clone(), ..Default::default() };
        vec![
            Row::Cluster(cluster),
            Row::Member(self.member.clone()),
            Row::Bound(self.identity.member_id, self.passport.incarnation.to_vec()),
            Row::Version(version::ETCD_CLUSTER.to_owned()),
        ]
    }
}

/// The revisions the new cluster begins with.
struct Plan {
    revision: i64,
    /// The compact revision; 0 if there is none.
    floor: i64,
    /// The compaction that is known to have run to its end; 0 if there is none.
    done: i64,
}

impl Plan {
    /// A bump counts from the revision that the backup's member was at. (etcdutl counts from the last record, which is
    /// less where a compaction has taken that; a revision that clients have seen would come again.)
    fn new(args: &RestoreArgs, source: &Source) -> Result<Self, RestoreError> {
        let meta = &source.tables.meta;
        let (mut revision, mut floor) = (source.revision, meta.finished_compact.max(meta.scheduled_compact));
        if args.bump_revision > 0 {
            let past = || RestoreError::Bump { bump: args.bump_revision, revision };
            let bump = i64::try_from(args.bump_revision).map_err(|_| past())?;
            revision = revision.checked_add(bump).filter(|sum| *sum < REVISION_BOUND).ok_or_else(past)?;
        }
        if args.mark_compacted {
            floor = revision;
        }
        Ok(Self { revision, floor, done: meta.finished_compact })
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![Row::Revision(self.revision)];
        if self.floor > 0 {
            rows.push(Row::Floor(self.floor));
        }
        if self.done > 0 {
            rows.push(Row::Done(self.done));
        }
        rows
    }
}

/// Makes the data directory. Everything in it is closed when this returns.
fn build(paths: &data::Paths, founder: &Founder, source: &Source, plan: &Plan) -> Result<State, RestoreError> {
    let passport = founder.passport.clone();
    let log = data::open_log(paths, keepstone_wal::Options::default(), || Ok::<_, DataError>(passport))?;
    let records = data::open_checkpoint(paths, &log, founder.identity, CACHE_BYTES)?.records;
    let rows = rows(founder, source, plan)?;
    let mut writer = Writer::new(&records, founder.identity);
    rows.chunks(RUN_RECORDS).try_for_each(|rows| writer.rows(rows.to_vec()))?;
    // What the member would refuse at its start is refused here.
    let wrap = |error| RestoreError::State { path: source.path.clone(), source: error };
    let values = rows.iter().filter_map(|row| Some((&row.key, row.value.as_ref()?)));
    let mut state = Restore::new(values).map_err(wrap)?;
    for record in source.snapshot.records().map_err(|error| source.damaged(error))? {
        let record = record.map_err(|error| source.damaged(error))?;
        if record.value.is_empty() && !record.tombstone {
            // What `etcdutl snapshot restore --bump-revision` leaves: it only says how far the revision had got.
            continue;
        }
        let record = checked(source, record)?;
        state.record(&record).map_err(wrap)?;
        writer.record(record)?;
    }
    writer.finish()?;
    begin_after(&log.wal, founder.identity).map_err(|source| RestoreError::Log { path: paths.log.clone(), source })?;
    log.wal.close();
    state.finish().map_err(wrap)
}

/// The entry that stands for all that the backup holds, as if it had been a snapshot of the new cluster.
fn base() -> LogId {
    codec::log_id(1, 1)
}

/// Has the log begin after the backup. Were it empty, the new cluster's first entry would be the first there is, and
/// whoever joins later would be given the entries without what they build on.
fn begin_after(wal: &Wal, identity: Identity) -> io::Result<()> {
    let term = codec::term_of(&base());
    let vote = codec::encode_vote(&Vote::new(term, identity.member_id.0));
    wait(|done| wal.save_vote(vote, done))?;
    wait(|done| wal.purge(LogPos { term, index: base().index() }, done))
}

fn rows(founder: &Founder, source: &Source, plan: &Plan) -> Result<Vec<TableWrite>, RestoreError> {
    let mut rows = founder.rows();
    rows.extend(plan.rows());
    let alarms = source.tables.alarms.iter();
    rows.extend(alarms.map(|alarm| Row::Alarm(AlarmMember { member_id: alarm.member_id, alarm: alarm.kind })));
    for lease in source.snapshot.leases().map_err(|error| source.damaged(error))? {
        let etcd::Lease { id, ttl, remaining_ttl } = lease.map_err(|error| source.damaged(error))?;
        rows.push(Row::Lease(leasepb::Lease { id, ttl, remaining_ttl }));
    }
    Ok(rows.iter().map(Row::write).collect())
}

/// A record of the file as one of ours.
fn checked(source: &Source, record: etcd::Record) -> Result<Record, RestoreError> {
    let etcd::Record { revision: at, tombstone, value } = record;
    let kv = KeyValue::from_canonical(value).map_err(|error| source.bad_record(at, error))?;
    if at.main >= REVISION_BOUND || at.sub >= SUB_BOUND || kv.parts().version >= REVISION_BOUND {
        return Err(source.bad_record(at, "its revision or version is past what it may be"));
    }
    Ok(Record { at: Revision::new(at.main, at.sub), tombstone, prev: None, kv })
}

/// Hands records to the store in runs, and has them written before they are many.
struct Writer<'a> {
    store: &'a RecordStore,
    mark: Bytes,
    run: Vec<Record>,
    bytes: usize,
}

impl<'a> Writer<'a> {
    fn new(store: &'a RecordStore, identity: Identity) -> Self {
        let alone = Membership::new_with_defaults(vec![BTreeSet::from([identity.member_id.0])], []);
        let membership = StoredMembership::new(Some(base()), alone);
        let mark = codec::encode_applied(&Applied { log_id: Some(base()), membership });
        Self { store, mark, run: Vec::new(), bytes: 0 }
    }

    fn rows(&mut self, rows: Vec<TableWrite>) -> Result<(), StoreError> {
        self.append(rows)
    }

    fn record(&mut self, record: Record) -> Result<(), StoreError> {
        self.bytes += record.kv.raw().len();
        self.run.push(record);
        if self.run.len() >= RUN_RECORDS || self.bytes >= RUN_BYTES { self.append(Vec::new()) } else { Ok(()) }
    }

    fn append(&mut self, rows: Vec<TableWrite>) -> Result<(), StoreError> {
        self.bytes = 0;
        self.store.append(std::mem::take(&mut self.run), rows, self.mark.clone());
        if self.store.dirty_bytes() > DIRTY_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&self) -> Result<(), StoreError> {
        self.store.checkpoint()?;
        self.store.flush().map(drop)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.append(Vec::new())?;
        self.write()
    }
}
