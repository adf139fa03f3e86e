//! `EtcdOperation`s: those that a schedule makes, and how each of them ends.

use keepstone_operator_api::condition::{self, ConditionState, ConditionType};
use keepstone_operator_api::operation::{EtcdOperationStatus, OperationPhase};
use keepstone_operator_api::{EtcdOperation, Reason, SCHEDULED_ANNOTATION};
use keepstone_operator_plan::act::{Job, Outcome};
use keepstone_operator_plan::ids::Time;
use serde_json::{Value, json};

use super::{ActError, Done, Hands};
use crate::controller::api::{Api, ApiError, typed, uid, version};
use crate::controller::kind::Kind;
use crate::controller::members::Members;
use crate::controller::write::difference;
use crate::convert::desired::rule_of;
use crate::convert::{order, text};

impl<A: Api, M: Members> Hands<'_, A, M> {
    /// Named after its time, so that it is made once.
    pub(super) async fn stamp(&self, job: &Job, due: Time) -> Done {
        let b = &self.look.blueprint;
        let (verb, with) = match job {
            Job::Compact { revision } => ("compact", json!({"revision": revision.0})),
            Job::Defragment { rule } => ("defragment", json!({"rule": rule_of(rule)})),
        };
        let mut metadata = b.metadata(format!("{}-{verb}-{}", b.names.cluster, due.0));
        metadata.annotations = Some([(SCHEDULED_ANNOTATION.to_owned(), stamp_text(due))].into());
        let order = json!({
            "apiVersion": Kind::Operation.api_version(),
            "kind": "EtcdOperation",
            "metadata": metadata,
            "spec": {"clusterRef": {"name": b.names.cluster}, verb: with},
        });
        match self.api.create(Kind::Operation, &order).await {
            Ok(_) | Err(ApiError::Conflict(_)) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    pub(super) async fn finish(&self, id: &str, outcome: &Outcome) -> Done {
        let (phase, reason, message) = match outcome {
            Outcome::Succeeded => (OperationPhase::Succeeded, Reason::Succeeded, ""),
            Outcome::Failed(why) => (OperationPhase::Failed, Reason::StepFailed, *why),
            Outcome::Rejected(why) => (OperationPhase::Rejected, rejected(why), *why),
        };
        let found = self.look.objects.of(Kind::Operation).find(|order| uid(order) == id);
        let live = found.ok_or(ActError::Gone("the EtcdOperation"))?;
        Ok(tell(self.api, live, phase, reason, message, self.now).await?)
    }
}

pub(super) fn stamp_text(time: Time) -> String {
    let text = serde_json::to_value(text::stamp(time)).unwrap_or_default();
    text.as_str().unwrap_or_default().to_owned()
}

/// The planner says it in words for people.
fn rejected(why: &str) -> Reason {
    let known = [
        ("confirm", Reason::WrongConfirmation),
        ("no such", Reason::MemberNotFound),
        ("no quorum", Reason::QuorumAtRisk),
    ];
    known.iter().find(|(words, _)| why.contains(words)).map_or(Reason::ClusterNotReady, |(_, reason)| *reason)
}

/// Writes how far an order is.
///
/// # Errors
/// As the API server has them.
pub async fn tell(
    api: &impl Api,
    live: &Value,
    phase: OperationPhase,
    reason: Reason,
    message: &str,
    now: Time,
) -> Result<(), ApiError> {
    let found: EtcdOperation = typed(live)?;
    let old = found.status.clone().unwrap_or_default();
    let generation = found.metadata.generation.unwrap_or_default();
    let over = !matches!(phase, OperationPhase::Pending | OperationPhase::Running);
    let mut new = EtcdOperationStatus {
        observed_generation: generation,
        verb: order::name(&found.spec).map(str::to_owned),
        phase: Some(phase),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        started_at: old.started_at.clone().or_else(|| (phase != OperationPhase::Pending).then(|| text::stamp(now))),
        finished_at: over.then(|| text::stamp(now)),
        ..old.clone()
    };
    let state = if phase == OperationPhase::Succeeded { ConditionState::True } else { ConditionState::False };
    let completed = ConditionType::Completed;
    condition::set(&mut new.conditions, completed, state, reason, message, generation, &text::stamp(now));
    let json_of = |status: &EtcdOperationStatus| serde_json::to_value(status).unwrap_or_default();
    let before = live.get("status").cloned().unwrap_or_else(|| json!({}));
    let patch = json!({
        "metadata": {"uid": uid(live), "resourceVersion": version(live)},
        "status": difference(&before, &json_of(&new)),
    });
    let name = crate::controller::write::name(live);
    api.merge(Kind::Operation, &name, true, &patch).await.map(drop)
}
