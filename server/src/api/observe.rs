//! What the metrics ask a member for when somebody scrapes.

use keepstone_proto::etcdserverpb::AlarmType;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::context::Context;
use crate::cluster::reconcile;
use crate::metrics::{ActiveAlarm, Feature, Observed};

/// Fills in all that this member knows.
pub fn fill(ctx: &Context, observed: &mut Observed) {
    let core = &ctx.core;
    observed.member_id = core.identity.member_id.0;
    {
        let metrics = ctx.raft.metrics();
        let now = metrics.borrow_watched();
        observed.has_leader = ctx.leader().is_some();
        observed.is_leader = ctx.is_leader();
        observed.committed = now.local_committed.as_ref().map_or(0, |id| id.index());
    }
    observed.pending_promotions = reconcile::pending_promotions(ctx).len() as u64;
    observed.applied = core.applied_index();
    {
        let state = core.state.read();
        observed.cluster_version = state.members().version().map(str::to_owned);
        observed.members = state.members().iter().map(|member| member.id).collect();
        let alarms = state.alarms().list(AlarmType::None as i32).into_iter();
        let kind = |alarm: i32| AlarmType::try_from(alarm).map_or("NONE", |kind| kind.as_str_name());
        observed.alarms = alarms.map(|a| ActiveAlarm { member_id: a.member_id, kind: kind(a.alarm) }).collect();
        observed.revision = state.revision();
        observed.compact_revision = state.compact_revision();
        observed.keys = state.keys() as u64;
    }
    observed.auth_revision = 1;
    let features = &ctx.config.features;
    let feature = |name, stage, enabled| Feature { name, stage, enabled };
    observed.features = vec![
        feature("CompactHashCheck", "ALPHA", features.compact_hash_check),
        feature("InitialCorruptCheck", "ALPHA", features.initial_corrupt_check),
        feature("LeaseCheckpoint", "ALPHA", features.lease_checkpoint),
        feature("LeaseCheckpointPersist", "ALPHA", features.lease_checkpoint_persist),
        feature("StopGRPCServiceOnDefrag", "ALPHA", features.stop_grpc_service_on_defrag),
    ];
    let watch = core.watch.counts();
    observed.watchers = watch.watchers as u64;
    observed.watch_streams = watch.streams as u64;
    observed.slow_watchers = watch.lagging as u64;
    observed.pending_events = watch.owed as u64;
    observed.db_size = core.records.total_bytes();
    observed.db_size_in_use = core.records.live_bytes();
    observed.quota = ctx.config.quota_backend_bytes.unwrap_or(0);
}
