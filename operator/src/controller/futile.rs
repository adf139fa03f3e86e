//! What is tried time and again, and in vain: Kubernetes refuses it, or something else changes it back. Nothing waits for
//! it, so that nobody would see it but in events. For people; the planner decides nothing by it.

use keepstone_operator_api::Reason;
use keepstone_operator_plan::act::Act;
use keepstone_operator_plan::condition::{Condition, ConditionType, Truth};
use keepstone_operator_plan::ids::Time;

use super::act::ActError;
use super::api::ApiError;
use super::words;
use crate::Names;

/// It is told of after so many attempts, over so many seconds.
const ATTEMPTS: u32 = 3;
const PATIENCE: u64 = 60;
/// Seconds after which nobody tries it any more: longer than it is ever passed over.
const OVER: u64 = 120;

/// Acts that were tried lately. It may be lost at any time.
#[derive(Debug, Default)]
pub struct Futile(Vec<Attempts>);

#[derive(Debug)]
struct Attempts {
    act: Act,
    /// Why the last was refused; none where it was done, and is due again.
    refused: Option<String>,
    count: u32,
    first: Time,
    last: Time,
}

impl Futile {
    pub fn note(&mut self, act: &Act, done: &Result<(), ActError>, now: Time) {
        let refused = match done {
            Ok(()) if stays(act) => None,
            Err(ActError::Api(why)) if *why != ApiError::NotLeading => Some(why.to_string()),
            _ => return,
        };
        self.0.retain(|one| now.since(one.last).0 < OVER);
        self.0.retain(|one| one.act != *act || one.refused.is_some() == refused.is_some());
        match self.0.iter_mut().find(|one| one.act == *act) {
            Some(one) => (one.refused, one.count, one.last) = (refused, one.count + 1, now),
            None => self.0.push(Attempts { act: act.clone(), refused, count: 1, first: now, last: now }),
        }
    }

    /// What is in vain now, in words.
    #[must_use]
    pub fn told(&self, names: &Names, now: Time) -> Vec<String> {
        let lasts = |one: &&Attempts| {
            one.count >= ATTEMPTS && one.last.since(one.first).0 >= PATIENCE && now.since(one.last).0 < OVER
        };
        let words = |one: &Attempts| {
            let why = one.refused.as_deref().unwrap_or("it is written, and something changes it back");
            format!("{}: {why}", words::act(&one.act, names))
        };
        self.0.iter().filter(lasts).map(words).collect()
    }
}

/// Whether it writes what nobody else should change, so that it is not due a second time.
fn stays(act: &Act) -> bool {
    matches!(
        act,
        Act::ApplyObjects
            | Act::ApplyBudget { .. }
            | Act::OpenClientService { .. }
            | Act::ApplyWorkload { .. }
            | Act::SetReplicas { .. }
            | Act::PublishBundle { .. }
            | Act::SetFence(_)
    )
}

/// The conditions, where so much is in vain. What is said already is worse.
#[must_use]
pub fn judge(mut conditions: Vec<Condition>, told: &[String]) -> Vec<Condition> {
    if told.is_empty() {
        return conditions;
    }
    let words = told.join("; ");
    for one in &mut conditions {
        match (one.kind, one.truth) {
            (ConditionType::Degraded, Truth::True) if !one.message.is_empty() => {
                one.message = format!("{}; {words}", one.message);
            }
            (ConditionType::Degraded, Truth::True) => one.message.clone_from(&words),
            (ConditionType::Degraded, _) => {
                (one.truth, one.reason, one.message) = (Truth::True, Reason::ApplyFailed, words.clone());
            }
            (ConditionType::Ready, Truth::True) => (one.truth, one.reason) = (Truth::False, Reason::ApplyFailed),
            _ => {}
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use keepstone_operator_plan::ids::{MemberId, Ordinal, Uid};

    use super::*;

    const DENIED: &str = "admission webhook \"policy\" denied the request";

    fn refused() -> Result<(), ActError> {
        Err(ApiError::Refused(DENIED.to_owned()).into())
    }

    fn tried(act: &Act, done: &Result<(), ActError>, at: &[u64]) -> Futile {
        let mut futile = Futile::default();
        at.iter().for_each(|second| futile.note(act, done, Time(*second)));
        futile
    }

    fn told(futile: &Futile, now: u64) -> Vec<String> {
        let names =
            Names { cluster: "main".to_owned(), namespace: "prod".to_owned(), domain: "cluster.local".to_owned() };
        futile.told(&names, Time(now))
    }

    /// It used to be in an event and the log alone, beside a cluster that was called Ready.
    #[test]
    fn what_is_refused_for_a_minute_is_told_and_no_longer_than_that() {
        let said = [format!("apply Services, NetworkPolicy and the like: refused: {DENIED}")];
        let futile = tried(&Act::ApplyObjects, &refused(), &[1000, 1035, 1070]);
        assert_eq!(told(&futile, 1071), said);
        assert_eq!(told(&futile, 1070 + OVER), [""; 0]);
        assert_eq!(told(&tried(&Act::ApplyObjects, &refused(), &[1000, 1005, 1010]), 1011), [""; 0]);
        assert_eq!(told(&tried(&Act::ApplyObjects, &refused(), &[1000, 1100]), 1101), [""; 0]);
        let mut done = futile;
        done.note(&Act::ApplyObjects, &Ok(()), Time(1100));
        assert_eq!(told(&done, 1101), [""; 0], "it was taken at last");
    }

    #[test]
    fn what_is_changed_back_each_time_is_told_as_well() {
        let act = Act::SetReplicas { uid: Uid::from("sts"), from: 2, to: 3 };
        let said = told(&tried(&act, &Ok(()), &[1000, 1030, 1060]), 1061);
        assert_eq!(said.len(), 1);
        assert!(said[0].ends_with("something changes it back"), "{said:?}");
    }

    #[test]
    fn what_has_to_be_done_or_asked_more_than_once_is_not_in_vain() {
        let at = [1000, 1030, 1060];
        assert_eq!(told(&tried(&Act::Defragment { ordinal: Ordinal(1) }, &Ok(()), &at), 1061), [""; 0]);
        let early = Err(ActError::Nobody);
        assert_eq!(told(&tried(&Act::MemberPromote { id: MemberId(1) }, &early, &at), 1061), [""; 0]);
        let elsewhere = Err(ApiError::NotLeading.into());
        assert_eq!(told(&tried(&Act::ApplyObjects, &elsewhere, &at), 1061), [""; 0]);
    }

    #[test]
    fn a_cluster_that_is_not_as_it_should_be_is_not_ready_and_a_worse_reason_stays() {
        let condition = |kind, truth, reason, message: &str| Condition { kind, truth, reason, message: message.into() };
        let before = vec![
            condition(ConditionType::Available, Truth::True, Reason::QuorumHealthy, ""),
            condition(ConditionType::Degraded, Truth::False, Reason::AsExpected, ""),
            condition(ConditionType::Ready, Truth::True, Reason::AsExpected, ""),
        ];
        assert_eq!(judge(before.clone(), &[]), before);
        let said: Vec<_> = judge(before, &["no".to_owned()]).into_iter().map(|it| (it.truth, it.reason)).collect();
        let failed = Reason::ApplyFailed;
        assert_eq!(said, [(Truth::True, Reason::QuorumHealthy), (Truth::True, failed), (Truth::False, failed)]);
        let worse = vec![condition(ConditionType::Degraded, Truth::True, Reason::QuorumLost, "two are gone")];
        let said = judge(worse, &["no".to_owned()]);
        assert_eq!((said[0].reason, said[0].message.as_str()), (Reason::QuorumLost, "two are gone; no"));
    }
}
