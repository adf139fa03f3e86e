//! A member's data directory: whose it is, its log and its checkpointed state.
//!
//! Layout: `log/` (or `--wal-dir`) is the Raft log, `store/` the checkpointed state. The log's first record names the
//! cluster, the member and this directory's incarnation; a store of another member is refused.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Buf;
use keepstone_state::{MemberId, Restore, RestoreError, State};
use keepstone_store::{DiskOptions, DiskStore, Opened, RecordStore, StoreError};
use keepstone_wal::{RealDisk, Wal, WalError};
use sha1::{Digest, Sha1};

use crate::cluster::Passport;
use crate::config::Config;
use crate::core::Identity;
use crate::raft::codec::{self, Applied};
use crate::raft::snapshot::{self, HomeError};

/// Bytes of an unflushed checkpoint past which proposals wait.
const DIRTY_LIMIT_BYTES: usize = 256 << 20;
/// What an entry of the log may take beside its one oversized request.
const ENTRY_SLACK: usize = 64 << 10;

/// Why a data directory can't be used. Every message names the thing and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("data directory {path}: {source}", path = path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{path} is a data directory of etcd: take a snapshot with etcdctl and start from it with `keepstone restore`", path = path.display())]
    Etcd { path: PathBuf },
    #[error(transparent)]
    Log(#[from] WalError),
    #[error("the log in {path} is not a member's: {why}", path = path.display())]
    Identity { path: PathBuf, why: String },
    #[error("{store} holds the state of {found}, but the log in {log} is of {expected}: one of them belongs to another member", store = store.display(), log = log.display())]
    OtherMember { store: PathBuf, log: PathBuf, found: Identity, expected: Identity },
    #[error(
        "{source}. Part of the log has been purged, so the state can't be rebuilt from it: remove the member and add it again with an empty data directory; where no other member is left, restore from a backup"
    )]
    Lost { source: Box<DataError> },
    #[error("{store} and {log} are of different data directories of this member: put back the directory that belongs to the other, or remove the member and add it again with an empty one", store = store.display(), log = log.display())]
    OtherDirectory { store: PathBuf, log: PathBuf },
    #[error("the log in {log} begins at entry {first}, but {store} ends at entry {applied}: what lies between is lost. Remove the member and add it again with an empty data directory; where no other member is left, restore from a backup", log = log.display(), store = store.display())]
    Gap { log: PathBuf, store: PathBuf, first: u64, applied: u64 },
    #[error("the log in {log} ends at entry {last}, but {store} holds the state of entry {applied}: the end of the log is lost. Remove the member and add it again with an empty data directory; where no other member is left, restore from a backup", log = log.display(), store = store.display())]
    Cut { log: PathBuf, store: PathBuf, last: u64, applied: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Snapshot(#[from] HomeError),
    #[error("the state in {path} is damaged: {source}. Remove the member and add it again with an empty data directory; where no other member is left, restore from a backup", path = path.display())]
    State { path: PathBuf, source: RestoreError },
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "member {:x} of cluster {:x}", self.member_id.0, self.cluster_id)
    }
}

/// Where the parts are.
#[derive(Clone, Debug)]
pub struct Paths {
    pub root: PathBuf,
    pub log: PathBuf,
    pub store: PathBuf,
}

impl Paths {
    pub fn new(data_dir: &Path, wal_dir: Option<&Path>) -> Self {
        let log = wal_dir.map_or_else(|| data_dir.join("log"), Path::to_path_buf);
        Self { root: data_dir.to_path_buf(), log, store: data_dir.join("store") }
    }
}

/// First eight bytes of a SHA-1, as etcd makes its IDs.
fn short_hash(parts: impl IntoIterator<Item = Vec<u8>>) -> u64 {
    let mut sha = Sha1::new();
    parts.into_iter().for_each(|part| sha.update(part));
    sha.finalize().as_slice().get_u64()
}

/// The ID etcd gives a founding member.
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    MemberId(short_hash([urls.concat().into_bytes(), token.as_bytes().to_vec()]))
}

/// The ID etcd gives a cluster of these founding members.
pub fn cluster_id(members: &[MemberId]) -> u64 {
    let mut ids: Vec<u64> = members.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    short_hash(ids.into_iter().map(|id| id.to_be_bytes().to_vec()))
}

/// An opened log and what its first record says.
pub struct Log {
    pub wal: Arc<Wal>,
    pub passport: Passport,
    /// Whether the directory was made by this call.
    pub founded: bool,
}

fn make_dir(path: &Path) -> Result<(), DataError> {
    let wrap = |source| DataError::Directory { path: path.to_path_buf(), source };
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrap(error)),
        _ => {}
    }
    let mode = fs::metadata(path).map_err(wrap)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(dir = %path.display(), "directory exists with other permissions than 0700: {mode:04o}");
    }
    // Its own name has to survive a loss of power too.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(wrap)?;
    // A directory that can't be written is found out here and not by the first write.
    let probe = path.join(".touch");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(wrap)
}

/// Opens the log, or makes the directory with the passport that `found` gives.
///
/// # Errors
/// [`DataError`]; what `found` refuses comes back as it is.
pub fn open_log<E>(
    paths: &Paths,
    options: keepstone_wal::Options,
    found: impl FnOnce() -> Result<Passport, E>,
) -> Result<Log, E>
where
    E: From<DataError>,
{
    if paths.root.join("member").join("snap").exists() && !paths.log.exists() {
        return Err(DataError::Etcd { path: paths.root.clone() }.into());
    }
    make_dir(&paths.root)?;
    make_dir(&paths.log)?;
    let (wal, recovered) = Wal::open(&paths.log, options, Arc::new(RealDisk)).map_err(DataError::from)?;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(file = %cut.file.display(), offset = cut.offset, "cut what an interrupted write left at the end of the log");
    }
    let wal = Arc::new(wal);
    if let Some(meta) = &recovered.meta {
        let passport = Passport::decode(meta).map_err(|why| DataError::Identity { path: paths.log.clone(), why })?;
        return Ok(Log { wal, passport, founded: false });
    }
    if paths.store.exists() || snapshot::is_installed(paths) {
        let why =
            format!("it is empty, but {} holds state; is --wal-dir the one this member had?", paths.store.display());
        return Err(DataError::Identity { path: paths.log.clone(), why }.into());
    }
    let passport = found()?;
    let wrap = |source| DataError::Directory { path: paths.log.clone(), source };
    passport.save(&wal).map_err(wrap)?;
    Ok(Log { wal, passport, founded: true })
}

/// The log's settings that follow from the configuration.
pub fn log_options(config: &Config) -> keepstone_wal::Options {
    let defaults = keepstone_wal::Options::default();
    let largest = (config.max_request_bytes + ENTRY_SLACK) as u64 * 2;
    let segment_bytes = defaults.segment_bytes.max(largest.next_multiple_of(4096)).min(1 << 30);
    keepstone_wal::Options { fsync: !config.unsafe_no_fsync, segment_bytes, ..defaults }
}

/// The checkpointed state, opened and read back.
pub struct Checkpoint {
    pub records: Arc<RecordStore>,
    pub state: State,
    pub applied: Applied,
    /// The store was damaged: this is an empty one, and the whole log is to be applied.
    pub rebuilt: bool,
}

/// Opens the store beside the log of `identity` and rebuilds the state from it. A damaged store is set aside, and the state rebuilt from
/// the log alone if that is whole.
///
/// # Errors
/// [`DataError`] when the store can't be read and the log does not reach back to its beginning, when it is another
/// member's, or ends before the log begins.
pub fn open_checkpoint(
    paths: &Paths,
    log: &Log,
    identity: Identity,
    cache_bytes: u64,
) -> Result<Checkpoint, DataError> {
    snapshot::settle(paths, &log.wal)?;
    let error = match try_open_checkpoint(paths, log, identity, cache_bytes) {
        Err(error @ (DataError::Store(_) | DataError::State { .. })) => error,
        opened => return opened,
    };
    if log.wal.purged().is_some() {
        return Err(DataError::Lost { source: Box::new(error) });
    }
    let aside = set_aside(&paths.store)?;
    tracing::error!(%error, aside = %aside.display(), "the store is damaged and was set aside: rebuilding the state from the log");
    let rebuilt = try_open_checkpoint(paths, log, identity, cache_bytes)?;
    Ok(Checkpoint { rebuilt: true, ..rebuilt })
}

/// Moves a damaged store out of the way. Returns where it is now.
fn set_aside(store: &Path) -> Result<PathBuf, DataError> {
    let wrap = |source| DataError::Directory { path: store.to_path_buf(), source };
    let aside = (1..).map(|n| store.with_extension(format!("damaged-{n}"))).find(|path| !path.exists());
    let aside = aside.unwrap_or_else(|| store.with_extension("damaged"));
    fs::rename(store, &aside).map_err(wrap)?;
    Ok(aside)
}

fn try_open_checkpoint(
    paths: &Paths,
    log: &Log,
    identity: Identity,
    cache_bytes: u64,
) -> Result<Checkpoint, DataError> {
    make_dir(&paths.store)?;
    let store = DiskStore::open(&paths.store, &DiskOptions::default())?;
    let wrap = |source| DataError::Directory { path: paths.store.clone(), source };
    fs::File::open(&paths.store).and_then(|dir| dir.sync_all()).map_err(wrap)?;
    let options = keepstone_store::Options { cache_bytes, dirty_limit_bytes: DIRTY_LIMIT_BYTES, ..Default::default() };
    let (records, opened) = RecordStore::open(Arc::new(store), options)?;
    let applied = read_applied(paths, &opened)?;
    let reached = applied.log_id.as_ref().map_or(0, |id| id.index());
    if let Some(purged) = log.wal.purged()
        && purged.index > reached
    {
        let (log, store) = (paths.log.clone(), paths.store.clone());
        return Err(DataError::Gap { log, store, first: purged.index + 1, applied: reached });
    }
    if log.wal.last().map_or(0, |last| last.index) < reached {
        let last = log.wal.last().map_or(0, |last| last.index);
        let (log, store) = (paths.log.clone(), paths.store.clone());
        return Err(DataError::Cut { log, store, last, applied: reached });
    }
    let state = restore(paths, &records, &opened)?;
    let bound = state.members().incarnation(identity.member_id);
    let terms = applied.log_id.as_ref().map(codec::term_of).zip(log.wal.term(reached));
    if bound.is_some_and(|bound| bound != log.passport.incarnation)
        || terms.is_some_and(|(ours, theirs)| ours != theirs)
    {
        return Err(DataError::OtherDirectory { store: paths.store.clone(), log: paths.log.clone() });
    }
    if let Some(cluster_id) = state.members().cluster_id()
        && (!is_ours(log, identity, cluster_id) || !knows(&state, identity.member_id))
    {
        let member_id = state.members().iter().next().map_or(MemberId(0), |member| MemberId(member.id));
        let found = Identity { cluster_id, member_id };
        let (store, log_dir) = (paths.store.clone(), paths.log.clone());
        return Err(DataError::OtherMember { store, log: log_dir, found, expected: identity });
    }
    Ok(Checkpoint { records, state, applied, rebuilt: false })
}

/// Whether the member's cluster has, or once had, this ID.
fn is_ours(log: &Log, identity: Identity, cluster_id: u64) -> bool {
    cluster_id == identity.cluster_id || log.passport.former_clusters.contains(&cluster_id)
}

fn knows(state: &State, id: MemberId) -> bool {
    state.members().get(id).is_some() || state.members().is_removed(id)
}

fn read_applied(paths: &Paths, opened: &Opened) -> Result<Applied, DataError> {
    let Some(bytes) = &opened.applied else { return Ok(Applied::default()) };
    let wrap = |source| DataError::Directory { path: paths.store.clone(), source };
    codec::decode_applied(bytes).map_err(wrap)
}

fn restore(paths: &Paths, records: &RecordStore, opened: &Opened) -> Result<State, DataError> {
    use std::ops::ControlFlow;

    let wrap = |source| DataError::State { path: paths.store.clone(), source };
    let mut restore = Restore::new(opened.tables.iter().map(|(key, value)| (key, value))).map_err(wrap)?;
    let mut refused = None;
    let (from, until) = (keepstone_state::Revision::default(), keepstone_state::Revision::new(i64::MAX, i64::MAX));
    records.scan(from, until, &mut |record| match restore.record(record) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            refused = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match refused {
        Some(error) => Err(wrap(error)),
        None => restore.finish().map_err(wrap),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_etcds() {
        // As etcd 3.6.16 founds `--name default` with its default URLs and token.
        let id = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(format!("{:x}", id.0), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id(&[id])), "cdf818194e3a8c32");
    }
}
