//! What an operator writes about clusters, claims and orders, and what the world takes from it.

use keepstone_operator::controller::api::{ApiError, text, uid};
use keepstone_operator::controller::look::claims;
use keepstone_operator::convert::record;
use keepstone_operator::convert::text::{number, time};
use keepstone_operator_api::operation::OperationPhase;
use keepstone_operator_api::status::EtcdClusterStatus;
use keepstone_operator_api::{EtcdOperation, SCHEDULED_ANNOTATION};
use keepstone_operator_plan::act::Act;
use keepstone_operator_plan::ids::{ClusterId, MemberId, Time, Uid};
use keepstone_operator_plan::observed::{Phase, Request};
use keepstone_operator_plan::operation::Verb;
use serde_json::{Value, json};

use super::Site;
use crate::render;

impl Site {
    /// What status says of the operation and the cluster's ID is what the world knows of them.
    pub(super) fn status(&mut self, who: u8, old: &Value, new: &Value) -> Result<(), ApiError> {
        let read = |value: &Value| -> Result<EtcdClusterStatus, ApiError> {
            let status = value.get("status").cloned().unwrap_or_else(|| json!({}));
            serde_json::from_value(status).map_err(|why| ApiError::Refused(why.to_string()))
        };
        let (old, new) = (read(old)?, read(new)?);
        if old.operation != new.operation {
            let act = match &new.operation {
                Some(it) => {
                    let operation = record::read(it).map_err(|why| ApiError::Refused(why.to_string()))?;
                    if self.lax {
                        self.world.seq = operation.seq.saturating_sub(1);
                    }
                    Act::RecordIntent(operation)
                }
                None => Act::CloseIntent { seq: old.operation.as_ref().map_or(0, |it| it.seq) },
            };
            self.act(who, &act)?;
        }
        if old.cluster_id != new.cluster_id {
            let id = |text: &Option<String>| text.as_ref().and_then(|id| number("id", id).ok()).map(ClusterId);
            self.act(who, &Act::Latch { from: id(&old.cluster_id), to: id(&new.cluster_id) })?;
        }
        Ok(())
    }

    pub(super) fn mark(&mut self, who: u8, live: &Value, new: &Value) -> Result<(), ApiError> {
        let left = |claim: &Value| text(claim, "/metadata/annotations/keepstone.io~1left").to_owned();
        let place = text(live, "/metadata/name").strip_prefix("data-").and_then(|pod| render::names().ordinal(pod));
        let ordinal = place.ok_or_else(|| ApiError::Refused("a foreign claim".to_owned()))?;
        let member = number("left", &left(new)).ok().map(MemberId);
        self.act(who, &Act::MarkClaimLeft { ordinal, uid: uid(live).into(), member })
    }

    pub(super) fn told(&mut self, live: &Value, new: &Value) {
        let phase = serde_json::from_value(new["status"]["phase"].clone()).unwrap_or(OperationPhase::Pending);
        let phase = match phase {
            OperationPhase::Pending => Phase::Pending,
            OperationPhase::Running => Phase::Running,
            OperationPhase::Succeeded => Phase::Succeeded,
            OperationPhase::Failed | OperationPhase::Rejected => Phase::Failed,
        };
        let id = Uid::from(uid(live));
        self.world.requests.iter_mut().filter(|one| one.uid == id).for_each(|one| one.phase = phase);
        self.look_over();
    }

    /// A volume is to become larger.
    pub(super) fn grow(&mut self, who: u8, live: &Value, new: &Value) -> Result<(), ApiError> {
        let refused = || ApiError::Refused("a claim of no size".to_owned());
        let claim: k8s_openapi::api::core::v1::PersistentVolumeClaim =
            serde_json::from_value(new.clone()).map_err(|why| ApiError::Refused(why.to_string()))?;
        let bytes = render::units(claims::request(claim.spec.as_ref()).ok_or_else(refused)?);
        let place = text(live, "/metadata/name").strip_prefix("data-").and_then(|pod| render::names().ordinal(pod));
        let ordinal = place.ok_or_else(|| ApiError::Refused("a foreign claim".to_owned()))?;
        self.act(who, &Act::GrowClaim { ordinal, uid: uid(live).into(), bytes })
    }

    /// An order that a schedule gives. Of those that were missed only the last may come.
    pub(super) fn ordered(&mut self, object: &Value) -> Result<Value, ApiError> {
        let order: EtcdOperation =
            serde_json::from_value(object.clone()).map_err(|why| ApiError::Refused(why.to_string()))?;
        let kept = |_: &_| None;
        let verb = keepstone_operator::convert::order::read(&order.spec, kept)
            .map_err(|why| ApiError::Refused(why.to_string()))?;
        let annotations = object.pointer("/metadata/annotations");
        let stamp = annotations.and_then(|all| all.get(SCHEDULED_ANNOTATION)).cloned().unwrap_or_default();
        let scheduled = serde_json::from_value(stamp).ok().map(|stamp| time(&stamp));
        let name = text(object, "/metadata/name").to_owned();
        self.say(format!("scheduled: {name}"));
        let alike = |one: &&Request| std::mem::discriminant(&one.verb) == std::mem::discriminant(&verb);
        let last = self.world.requests.iter().filter(alike).filter_map(|one| one.scheduled).max();
        if scheduled.is_none() || scheduled <= last || scheduled > Some(Time(self.world.now)) {
            self.broken.get_or_insert(format!("{name} is scheduled for {scheduled:?}, after {last:?}"));
        }
        let (uid, created) = (Uid::from(name.as_str()), Time(self.world.now));
        let request = Request { name: name.as_str().into(), uid, created, scheduled, verb, phase: Phase::Pending };
        self.world.requests.push(request);
        self.look_over();
        Ok(json!({}))
    }

    /// What a human orders.
    pub fn ask(&mut self, verb: Verb) {
        self.say(format!("order: {verb:?}"));
        self.world.ask(verb);
        self.changed();
    }
}
