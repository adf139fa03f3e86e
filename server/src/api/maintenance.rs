//! The Maintenance service: status, alarms, hashes, snapshots.

use std::sync::Arc;

use keepstone_failpoint::points;
use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::downgrade_request::DowngradeAction;
use keepstone_proto::etcdserverpb::maintenance_server::Maintenance;
use keepstone_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, InternalRaftRequest,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use keepstone_proto::membershippb::DowngradeInfoSetRequest;
use keepstone_snapshot::etcd::Trailer;
use keepstone_state::{Error, MemberId, Reply};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::error::status;
use super::kv::unexpected;
use super::pace::{Pace, Unread};
use crate::cluster::handover;
use crate::core::Core;
use crate::export::{Copy, ExportError, Pieces};
use crate::hash::{self, Hashed};
use crate::{host, version};

/// The revision that a snapshot holds, told before its first byte: whoever streams it on can't look into it. etcd's
/// messages have no place for it.
const REVISION_HEADER: &str = "keepstone-revision";
/// Bytes of a piece of a snapshot stream, as etcd cuts it.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces made ahead of the client.
const PIECES_AHEAD: usize = 8;

/// etcd's Maintenance service.
#[derive(Clone)]
pub struct MaintenanceService {
    ctx: Arc<Context>,
}

impl MaintenanceService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    fn errors(&self, leader: Option<u64>) -> Vec<String> {
        let mut errors = Vec::new();
        if leader.is_none() {
            errors.push(Error::NoLeader.to_string());
        }
        let alarms = self.ctx.core.state.read().alarms().list(AlarmType::None as i32);
        errors.extend(alarms.iter().map(alarm_text));
        errors
    }
}

/// An alarm in the words Go prints it with.
fn alarm_text(alarm: &AlarmMember) -> String {
    let kind = AlarmType::try_from(alarm.alarm).map_or("NONE", |kind| kind.as_str_name());
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let request = request.into_inner();
        if self.ctx.core.is_learner() && request.action == AlarmAction::Get as i32 {
            // A learner may say what it knows; it asks nobody.
            let alarms = self.ctx.core.state.read().alarms().list(request.alarm);
            return Ok(Response::new(AlarmResponse { header: Some(self.ctx.header(0)), alarms }));
        }
        let activated = request.action == AlarmAction::Activate as i32;
        match self.ctx.propose(InternalRaftRequest { alarm: Some(request), ..Default::default() }).await? {
            Reply::Alarm(mut response) => {
                if activated {
                    tracing::warn!(alarm = request.alarm, "alarm raised");
                }
                response.header = Some(self.ctx.header(0));
                Ok(Response::new(response))
            }
            _ => Err(unexpected()),
        }
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let ctx = &self.ctx;
        let (raft_index, leader) = {
            let metrics = ctx.raft.metrics();
            let now = metrics.borrow_watched();
            (now.local_committed.as_ref().map_or(0, |id| id.index()), ctx.leader())
        };
        let applied = ctx.core.applied_index();
        let header = ctx.header(0);
        let downgrade = ctx.core.state.read().members().downgrade_target().map(str::to_owned);
        let response = StatusResponse {
            header: Some(header),
            version: version::ETCD.to_owned(),
            db_size: ctx.core.records.total_bytes() as i64,
            leader: leader.unwrap_or(0),
            raft_index: raft_index.max(applied),
            raft_term: header.raft_term,
            raft_applied_index: applied,
            errors: self.errors(leader),
            db_size_in_use: ctx.core.records.live_bytes() as i64,
            is_learner: ctx.core.is_learner(),
            storage_version: version::ETCD_STORAGE.to_owned(),
            db_size_quota: ctx.config.quota_backend_bytes.map_or(0, |quota| quota as i64),
            downgrade_info: Some(DowngradeInfo {
                enabled: downgrade.is_some(),
                target_version: downgrade.unwrap_or_default(),
            }),
        };
        Ok(Response::new(response))
    }

    /// There is nothing to defragment: space comes back while serving. What is still dirty is written now.
    async fn defragment(&self, _request: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        let checkpointer = self.ctx.checkpointer.clone();
        let flush = move || {
            if let Some(why) = points::DEFRAG_BEFORE_COPY.told_to_fail() {
                return Err(Status::unknown(why));
            }
            checkpointer.flush();
            points::DEFRAG_BEFORE_RENAME.hit();
            Ok(())
        };
        let disk = &self.ctx.core.metrics.disk;
        let began = std::time::Instant::now();
        disk.defrag_inflight.inc();
        let flushed = tokio::task::spawn_blocking(flush).await;
        disk.defrag_inflight.dec();
        disk.backend_defrag.observe(began.elapsed().as_secs_f64());
        flushed.map_err(|_| status(&Error::Stopped))??;
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    async fn hash(&self, _request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let core = self.ctx.core.clone();
        let _permit = self.ctx.bulk.acquire().await.map_err(|_| status(&Error::Stopped))?;
        let began = std::time::Instant::now();
        let hash = blocking(&self.ctx.core, move || whole_hash(&core)).await?;
        self.ctx.core.metrics.mvcc.hash.observe(began.elapsed().as_secs_f64());
        Ok(Response::new(HashResponse { header: Some(self.ctx.header(0)), hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let began = std::time::Instant::now();
        let _permit = self.ctx.bulk.acquire().await.map_err(|_| status(&Error::Stopped))?;
        let hashed = hash::of(&self.ctx.core, revision).await.map_err(|error| status(&error))?;
        self.ctx.core.metrics.mvcc.hash_rev.observe(began.elapsed().as_secs_f64());
        let Hashed { hash, revision: hash_revision, compact_revision } = hashed;
        let header = Some(self.ctx.header(0));
        Ok(Response::new(HashKvResponse { header, hash, compact_revision, hash_revision }))
    }

    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let (tx, rx) = mpsc::channel(PIECES_AHEAD);
        let core = self.ctx.core.clone();
        let permit = self.ctx.bulk.clone().acquire_owned().await.map_err(|_| status(&Error::Stopped))?;
        let runtime = tokio::runtime::Handle::current();
        let (taken, revision) = tokio::sync::oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let began = std::time::Instant::now();
            let copy = Copy::take(&core);
            // Nobody waits for it where the call was given up, and then the stream breaks off, too.
            let _ = taken.send(copy.revision());
            match send_snapshot(&core, &copy, &runtime, &tx) {
                Ok(()) => {
                    let took = began.elapsed();
                    core.metrics.disk.backend_snapshot.observe(took.as_secs_f64());
                    tracing::info!(?took, "successfully sent database snapshot to client");
                }
                Err(error) => {
                    tracing::warn!(%error, "a snapshot stream broke off");
                    drop(tx.try_send(Err(Status::internal(error.to_string()))));
                }
            }
        });
        let revision = revision.await.map_err(|_| status(&Error::Stopped))?;
        let mut response = Response::new(ReceiverStream::new(rx));
        response.metadata_mut().insert(REVISION_HEADER, revision.into());
        Ok(response)
    }

    async fn move_leader(&self, request: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        let target = request.into_inner().target_id;
        let limit = self.ctx.config.request_timeout();
        let moved = handover::transfer(&self.ctx, MemberId(target), limit).await;
        moved.map_err(|error| status(&error))?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, request: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        let request = request.into_inner();
        self.ctx.linearizable().await?;
        let target = match DowngradeAction::try_from(request.action).unwrap_or_default() {
            DowngradeAction::Validate => {
                self.check_downgrade(&request.version)?;
                None
            }
            DowngradeAction::Enable => {
                Some(DowngradeInfoSetRequest { enabled: true, ver: self.check_downgrade(&request.version)? })
            }
            DowngradeAction::Cancel => Some(DowngradeInfoSetRequest { enabled: false, ver: String::new() }),
        };
        if let Some(set) = target {
            self.ctx.propose(InternalRaftRequest { downgrade_info_set: Some(set), ..Default::default() }).await?;
        }
        // Major and minor alone, as etcd answers.
        let version = self.ctx.core.state.read().members().version().unwrap_or_default().to_owned();
        let version = version.rsplit_once('.').map_or(version.clone(), |(minor, _)| minor.to_owned());
        Ok(Response::new(DowngradeResponse { header: Some(self.ctx.header(0)), version }))
    }
}

impl MaintenanceService {
    /// The target as a full version, if it is exactly one minor below the cluster's.
    fn check_downgrade(&self, target: &str) -> Result<String, Status> {
        let minor_of = |version: &str| {
            let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
            Some((parts.next()??, parts.next()??))
        };
        let Some((major, minor)) = minor_of(target) else {
            return Err(status(&Error::WrongDowngradeVersionFormat));
        };
        let state = self.ctx.core.state.read();
        let Some((cluster_major, cluster_minor)) = state.members().version().and_then(minor_of) else {
            return Err(status(&Error::ClusterVersionUnavailable));
        };
        if major != cluster_major || minor + 1 != cluster_minor {
            return Err(status(&Error::InvalidDowngradeTargetVersion));
        }
        if state.members().downgrade_target().is_some() {
            return Err(status(&Error::DowngradeInProcess));
        }
        Ok(format!("{major}.{minor}.0"))
    }
}

/// Runs a long read off the serving threads. A store that fails ends the member.
async fn blocking<T: Send + 'static>(
    core: &Arc<Core>,
    read: impl FnOnce() -> Result<T, keepstone_store::StoreError> + Send + 'static,
) -> Result<T, Status> {
    match host::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(core.fail(&error.to_string())),
        Err(_) => Err(status(&Error::Stopped)),
    }
}

/// A hash over everything a member keeps: the key space and the small tables that are the same on every member.
fn whole_hash(core: &Core) -> Result<u32, keepstone_store::StoreError> {
    let epoch = core.epoch();
    let (tables, plan, _pin) = {
        let state = core.state.read();
        let tables = (
            state.alarms().list(0),
            state.members().list(),
            state.leases().iter().map(|(id, l)| (id.0, l.ttl)).collect::<Vec<_>>(),
        );
        let plan = state.hash_plan(0).expect("the current revision can be hashed");
        (tables, plan, core.pins.pin(plan.floor))
    };
    let hash = hash::scan(core, plan)?;
    if core.epoch() != epoch {
        return whole_hash(core);
    }
    Ok(crc32c::crc32c_append(hash, format!("{tables:?}").as_bytes()))
}

type Pieced = mpsc::Sender<Result<SnapshotResponse, Status>>;

fn send_snapshot(core: &Core, copy: &Copy, runtime: &Handle, tx: &Pieced) -> Result<(), ExportError> {
    let layout = copy.measure(core)?;
    let mut remaining = layout.file_bytes();
    tracing::info!("total-bytes" = remaining, revision = copy.revision(), "sending database snapshot to client");
    let mut trailer = Trailer::new();
    // A client that stops reading would hold back compaction for ever.
    let mut pace = Pace::default();
    let mut send = |piece: SnapshotResponse| {
        let bytes = piece.blob.len();
        runtime.block_on(pace.send(tx, Ok(piece), bytes)).map_err(|unread| match unread {
            Unread::Gone => std::io::Error::from(std::io::ErrorKind::BrokenPipe),
            Unread::Slow => std::io::Error::from(std::io::ErrorKind::TimedOut),
        })
    };
    let wrap = |error| {
        ExportError::from(keepstone_snapshot::etcd::WriteError::from(keepstone_snapshot::bolt::WriteError::from(error)))
    };
    let pieces = Pieces::new(PIECE_BYTES, |piece: Vec<u8>| {
        remaining -= piece.len() as u64;
        trailer.update(&piece);
        let response = SnapshotResponse {
            header: None,
            remaining_bytes: remaining,
            blob: piece.into(),
            version: version::ETCD_STORAGE.to_owned(),
        };
        send(response)
    });
    copy.write(core, layout, pieces)?.finish().map(drop).map_err(wrap)?;
    let digest = SnapshotResponse {
        header: None,
        remaining_bytes: 0,
        blob: trailer.finish().to_vec().into(),
        version: version::ETCD_STORAGE.to_owned(),
    };
    send(digest).map_err(wrap)
}
