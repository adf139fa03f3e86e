//! Records and orders that name a cluster which is not there: one that is gone, or that never was. What a Job began without
//! the members is seen to its end.

use std::time::Duration;

use keepstone_operator_api::Reason;
use keepstone_operator_api::backup::BackupPhase;
use keepstone_operator_api::operation::OperationPhase;
use keepstone_operator_plan::ids::{Seconds, Time};
use serde_json::Value;

use super::act;
use super::api::{Api, ApiError, Deletion, Fresh, Which, text, uid};
use super::backups::{self, Said, Step};
use super::kind::{Kind, Name};
use super::look::jobs;
use super::pass::{Again, expired};
use super::write::name;
use crate::convert::text::time;

/// A manifest may have the order before the cluster.
const GRACE: Seconds = Seconds(30);
const PAUSE: Duration = Duration::from_secs(5);

/// Removes the files of records that are deleted, and tells what waits for the cluster that it waits for nothing.
///
/// # Errors
/// As the API server has them.
pub async fn see_to(api: &impl Api, cluster: &Name, agent: &str, now: Time) -> Result<Again, ApiError> {
    let about = Which::About(&cluster.name);
    let records = api.list(Kind::Backup, &cluster.namespace, about, Fresh::Now).await?;
    let orders = api.list(Kind::Operation, &cluster.namespace, about, Fresh::Now).await?;
    let mut again = Again::Never;
    if records.iter().any(|record| leaving(record) || runs(record)) {
        let objects = jobs::of(api, cluster).await?;
        for record in records.iter().filter(|record| leaving(record) || runs(record)) {
            let step = backups::step(record, &objects, now)?;
            if step != Step::Nothing && step != Step::LetGo {
                again = Again::In(PAUSE);
            }
            backups::carry_out(api, record, &step, agent, &objects, now).await?;
        }
    }
    let message = format!("there is no EtcdCluster {} in this namespace", cluster.name);
    let reason = Reason::ClusterNotFound;
    let ripe = |object: &Value| now.since(created(object)) >= GRACE;
    let (old_records, young_records): (Vec<_>, Vec<_>) = records.iter().filter(waits).partition(|one| ripe(one));
    let (old_orders, young_orders): (Vec<_>, Vec<_>) = orders.iter().filter(waits).partition(|one| ripe(one));
    for record in old_records {
        let said = Said { phase: BackupPhase::Failed, reason, message: message.clone(), artifact: None };
        backups::tell(api, record, &said, now).await?;
    }
    for order in old_orders {
        act::tell(api, order, OperationPhase::Rejected, reason, &message, now).await?;
    }
    for order in orders.iter().filter(|order| runs(order) && !leaving(order)) {
        act::tell(api, order, OperationPhase::Failed, reason, &message, now).await?;
    }
    for order in orders.iter().filter(|order| expired(order, now)) {
        let how = Deletion { uid: Some(uid(order).to_owned()), ..Deletion::default() };
        api.delete(Kind::Operation, &name(order), &how).await?;
    }
    let waited_for = !young_records.is_empty() || !young_orders.is_empty();
    Ok(if waited_for { Again::In(PAUSE) } else { again })
}

fn leaving(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Whether nobody has begun with it.
fn waits(object: &&Value) -> bool {
    !leaving(object) && matches!(text(object, "/status/phase"), "" | "Pending")
}

fn runs(object: &Value) -> bool {
    text(object, "/status/phase") == "Running"
}

fn created(object: &Value) -> Time {
    let stamp = object.pointer("/metadata/creationTimestamp").cloned().unwrap_or_default();
    serde_json::from_value(stamp).map_or(Time(0), |stamp| time(&stamp))
}
