//! `--quota-backend-bytes`: a write that would take the live data past it raises NOSPACE.

use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};
use keepstone_state::{Error, quota};
use tonic::Status;

use super::context::Context;
use super::error::status;

/// Lets a write pass that fits the quota. One that does not raises the alarm for the whole cluster first.
///
/// # Errors
/// `database space exceeded`.
pub async fn admit(ctx: &Context, request: &InternalRaftRequest) -> Result<(), Status> {
    let Some(limit) = ctx.config.quota_backend_bytes else { return Ok(()) };
    let cost = quota::cost(request) as u64;
    if cost == 0 || ctx.core.records.live_bytes() + cost <= limit {
        return Ok(());
    }
    if !ctx.core.state.read().alarms().any(AlarmType::Nospace) {
        let member_id = ctx.core.identity.member_id.0;
        let alarm = AlarmRequest { action: AlarmAction::Activate as i32, member_id, alarm: AlarmType::Nospace as i32 };
        ctx.propose(InternalRaftRequest { alarm: Some(alarm), ..Default::default() }).await?;
        tracing::warn!(quota = limit, "database space exceeded: NOSPACE alarm raised");
    }
    Err(status(&Error::NoSpace))
}
