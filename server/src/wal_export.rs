//! `keepstone wal export`: the log of a stopped member as etcd's `member/wal` and `member/snap`, for etcd's readers
//! (`wal.ReadAll`, etcd-dump-logs) and for audits.
//!
//! One entry of our log holds many requests, and etcd's holds one. So every request becomes an entry of its own, and
//! the indexes are the export's own: they count from the index the log begins at, without a gap. Terms are the log's.
//! A request kind of our own becomes what etcd would have logged: a founding or membership change a ConfChange, the end
//! of leases one LeaseRevoke each. What etcd has nothing for is left out: the binding of a data directory, and Raft's
//! own membership entries, which repeat the member table's.
//!
//! It opens the log as a member does, so a torn tail is cut first; nothing else in the data directory changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use keepstone_proto::etcdserverpb::{InternalRaftRequest, LeaseRevokeRequest};
use keepstone_proto::keepstonepb;
use keepstone_snapshot::etcd;
use keepstone_wal::export::etcd_wal::{self, EntryKind, EtcdWal, Start};
use keepstone_wal::{Entry, LogPos};
use prost::Message;
use serde::Serialize;

use crate::config::WalExportArgs;
use crate::data::{self, DataError, Log, Paths};
use crate::raft::codec;
use crate::raft::types::{Payload, Request};

/// Bytes of entries read at once.
const READ_BYTES: usize = 8 << 20;
/// What `TARGET/member` is called until it is whole.
const PARTIAL: &str = "member.partial";

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the member has not joined its cluster yet: there is nothing to export")]
    Unclaimed,
    #[error("{log} holds no member's log; is --wal-dir the one this member has?", log = log.display())]
    NoLog { log: PathBuf },
    #[error("{path} is there already: name another directory to export to", path = path.display())]
    Exists { path: PathBuf },
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("log entry {index}: {source}")]
    Entry { index: u64, source: io::Error },
    #[error(transparent)]
    Log(#[from] keepstone_wal::WalError),
    #[error(transparent)]
    Data(#[from] DataError),
}

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Entries of our log.
    pub entries: u64,
    /// Entries of the etcd log that came of them.
    pub requests: u64,
    /// The index of the last of those; with none the one the log begins after.
    pub last: u64,
}

impl std::fmt::Display for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exported {} log entries as {} of etcd's, the last with index {}",
            self.entries, self.requests, self.last
        )
    }
}

/// Exports.
///
/// # Errors
/// [`ExportError`]; nothing is left at the target's `member` then.
pub fn run(args: &WalExportArgs) -> Result<Exported, ExportError> {
    let paths = Paths::new(&args.data_dir, args.wal_dir.as_deref());
    // Opening would found a log where there is none.
    if !paths.root.is_dir() || !has_files(&paths.log) {
        return Err(ExportError::NoLog { log: paths.log });
    }
    let (member, partial) = (args.target.join("member"), args.target.join(PARTIAL));
    if member.exists() {
        return Err(ExportError::Exists { path: member });
    }
    let none = paths.log.clone();
    let log = data::open_log(&paths, keepstone_wal::Options::default(), || Err(ExportError::NoLog { log: none }))?;
    let exported = match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).map_err(in_file(&partial)),
        _ => write(&log, &partial),
    };
    log.wal.close();
    let moved = exported.and_then(|exported| {
        fs::rename(&partial, &member).map_err(in_file(&member))?;
        fs::File::open(&args.target).and_then(|dir| dir.sync_all()).map_err(in_file(&args.target))?;
        Ok(exported)
    });
    if moved.is_err() {
        drop(fs::remove_dir_all(&partial));
    }
    moved
}

fn has_files(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> ExportError {
    let path = path.to_path_buf();
    move |source| ExportError::File { path: path.clone(), source }
}

fn write(log: &Log, member: &Path) -> Result<Exported, ExportError> {
    let bad = |index| move |source| ExportError::Entry { index, source };
    let recovered = log.wal.recovered();
    let committed = recovered.committed.as_deref().map(codec::decode_log_id).transpose().map_err(bad(0))?;
    let vote = recovered.vote.as_deref().map(codec::decode_vote).transpose().map_err(bad(0))?;
    let identity = log.passport.identity.ok_or(ExportError::Unclaimed)?;
    let me = identity.member_id.0;
    let begin = log.wal.purged().filter(|at| at.index > 0);
    let start = begin.map(|at| Start { at, voters: vec![me] });
    let identity = etcd_wal::Identity { node_id: me, cluster_id: identity.cluster_id };
    let mut out = EtcdWal::create(member, identity, start.as_ref()).map_err(in_file(member))?;
    let first = begin.map_or(0, |at| at.index);
    let mut done = Exported { entries: 0, requests: 0, last: first };
    let mut commit = first;
    if let (Some(from), Some(last)) = (log.wal.first_index(), log.wal.last()) {
        let mut next = from;
        while next <= last.index {
            for entry in log.wal.read(next..last.index + 1, READ_BYTES)? {
                next = entry.index + 1;
                done.entries += 1;
                for (kind, data) in translate(&entry).map_err(bad(entry.index))? {
                    done.last += 1;
                    done.requests += 1;
                    let at = LogPos { term: entry.term, index: done.last };
                    out.entry(at, kind, &data).map_err(in_file(member))?;
                }
                if committed.as_ref().is_some_and(|id| id.index() >= entry.index) {
                    commit = done.last;
                }
            }
        }
    }
    let (term, voted_for) = vote.map_or((0, 0), |vote| (vote.leader_id.term, vote.leader_id.voted_for));
    out.hard_state(etcd_wal::HardState { term, vote: voted_for, commit }).map_err(in_file(member))?;
    out.sync().map_err(in_file(member))?;
    Ok(done)
}

/// Entries of etcd's log: what each is, and its data.
pub type Translated = Vec<(EntryKind, Vec<u8>)>;

/// The entries that etcd would have logged.
fn translate(entry: &Entry) -> io::Result<Translated> {
    let entry = codec::decode_entry(codec::log_id(entry.term, entry.index), &entry.data)?;
    Ok(translated(&entry.payload))
}

/// The same of an entry that is decoded.
pub fn translated(payload: &Payload) -> Translated {
    let proposal = match payload {
        Payload::Blank => return vec![(EntryKind::Normal, Vec::new())],
        Payload::Membership(_) => return Vec::new(),
        Payload::Normal(proposal) => proposal,
    };
    let one = |request: &Request| {
        own(&request.decoded).unwrap_or_else(|| vec![(EntryKind::Normal, request.encoded.to_vec())])
    };
    proposal.requests.iter().flat_map(one).collect()
}

/// What becomes of a request kind of our own; `None` for etcd's kinds.
fn own(request: &InternalRaftRequest) -> Option<Translated> {
    if let Some(init) = &request.cluster_init {
        return Some(init.members.iter().map(|member| added(shown(member), false)).collect());
    }
    if let Some(add) = &request.member_add {
        let member = etcd::Member {
            id: add.id,
            peer_urls: add.peer_urls.clone(),
            is_learner: add.is_learner,
            name: add.name.clone(),
            client_urls: add.client_urls.clone(),
        };
        return Some(vec![added(member, false)]);
    }
    if let Some(remove) = &request.member_remove {
        return Some(vec![conf_change(ChangeKind::Remove, remove.id, Vec::new())]);
    }
    if let Some(promote) = &request.member_promote {
        return Some(vec![added(etcd::Member { id: promote.id, ..Default::default() }, true)]);
    }
    if let Some(update) = &request.member_update {
        let member = etcd::Member {
            id: update.id,
            peer_urls: update.peer_urls.clone(),
            is_learner: false,
            name: update.name.clone(),
            client_urls: update.client_urls.clone(),
        };
        return Some(vec![conf_change(ChangeKind::Update, update.id, json(&Context { member, is_promote: false }))]);
    }
    if let Some(expire) = &request.lease_expire {
        let revoke = |id: &i64| InternalRaftRequest {
            header: request.header.clone(),
            id: request.id,
            lease_revoke: Some(LeaseRevokeRequest { id: *id }),
            ..Default::default()
        };
        return Some(expire.ids.iter().map(|id| (EntryKind::Normal, revoke(id).encode_to_vec())).collect());
    }
    request.member_bind.as_ref().map(|_| Vec::new())
}

fn shown(member: &keepstonepb::Member) -> etcd::Member {
    etcd::Member {
        id: member.id,
        peer_urls: member.peer_urls.clone(),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_urls.clone(),
    }
}

/// raftpb.ConfChangeType.
#[derive(Clone, Copy)]
enum ChangeKind {
    Add = 0,
    Remove = 1,
    Update = 2,
    AddLearner = 3,
}

/// raftpb.ConfChange.
#[derive(Clone, PartialEq, prost::Message)]
struct ConfChange {
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    node_id: u64,
    #[prost(bytes = "vec", tag = "4")]
    context: Vec<u8>,
}

/// What etcd keeps with a ConfChange, in JSON.
#[derive(Serialize)]
struct Context {
    #[serde(flatten)]
    member: etcd::Member,
    #[serde(rename = "isPromote")]
    is_promote: bool,
}

fn added(member: etcd::Member, is_promote: bool) -> (EntryKind, Vec<u8>) {
    let kind = if member.is_learner { ChangeKind::AddLearner } else { ChangeKind::Add };
    conf_change(kind, member.id, json(&Context { member, is_promote }))
}

fn conf_change(kind: ChangeKind, node_id: u64, context: Vec<u8>) -> (EntryKind, Vec<u8>) {
    (EntryKind::ConfChange, ConfChange { kind: kind as i32, node_id, context }.encode_to_vec())
}

fn json(context: &Context) -> Vec<u8> {
    serde_json::to_vec(context).expect("numbers, texts and lists always encode")
}

#[cfg(test)]
mod tests {
    use keepstone_proto::etcdserverpb::PutRequest;
    use keepstone_proto::keepstonepb::{ClusterInit, LeaseExpire, Member, MemberBind};

    use super::*;
    use crate::raft::types::Proposal;

    fn entry(payload: &Payload) -> Entry {
        Entry { index: 1, term: 1, data: codec::encode_payload(payload) }
    }

    fn translated_of(requests: Vec<InternalRaftRequest>) -> Translated {
        let requests = requests.into_iter().map(Request::new).collect();
        translate(&entry(&Payload::Normal(Proposal { requests }))).expect("readable")
    }

    #[test]
    fn etcds_requests_stay_as_they_are() {
        let put = |id| InternalRaftRequest {
            id,
            put: Some(PutRequest { key: "a".into(), ..Default::default() }),
            ..Default::default()
        };
        let out = translated_of(vec![put(1), put(2)]);
        assert_eq!(out, [1, 2].map(|id| (EntryKind::Normal, put(id).encode_to_vec())));
        assert_eq!(translate(&entry(&Payload::Blank)).expect("readable"), [(EntryKind::Normal, Vec::new())]);
    }

    #[test]
    fn our_own_become_etcds() {
        let member = Member { id: 7, peer_urls: vec!["http://a:1".into()], ..Default::default() };
        let init = ClusterInit { cluster_id: 1, token: "t".into(), members: vec![member], ..Default::default() };
        let out = translated_of(vec![
            InternalRaftRequest { cluster_init: Some(init), ..Default::default() },
            InternalRaftRequest { member_bind: Some(MemberBind::default()), ..Default::default() },
            InternalRaftRequest { lease_expire: Some(LeaseExpire { ids: vec![3, 4] }), ..Default::default() },
        ]);
        let change = ConfChange::decode(&out[0].1[..]).expect("a change");
        assert_eq!((out[0].0, change.node_id), (EntryKind::ConfChange, 7));
        assert_eq!(String::from_utf8_lossy(&change.context), r#"{"id":7,"peerURLs":["http://a:1"],"isPromote":false}"#);
        let revoked: Vec<i64> = out[1..]
            .iter()
            .map(|(_, data)| {
                InternalRaftRequest::decode(&data[..]).expect("a request").lease_revoke.expect("a revoke").id
            })
            .collect();
        assert_eq!(revoked, [3, 4]);
    }
}
