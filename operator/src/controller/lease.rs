//! Who of several operators acts: the one that holds a lease, and only as long as it surely does.
//!
//! Clocks of two machines are never compared. Whoever waits takes over when it has not seen the lease change for as long as it
//! lasts, by its own clock; whoever holds it counts from before its last renewal was sent, and stops well before the others
//! may begin, so that a call under way has ended by then. What wakes after that acts no more before it has renewed.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Api, ApiError, text};
use super::clock::Clock;
use super::kind::{Kind, Name};
use parking_lot::Mutex;

/// How long a lease lasts that nobody renews.
pub const LASTS: Duration = Duration::from_secs(30);
/// How often it is renewed, and looked at.
pub const PERIOD: Duration = Duration::from_secs(5);
/// The longest that a call may take. No act begins later than this before the lease may be another's.
pub const LONGEST_CALL: Duration = Duration::from_secs(15);

/// What this process knows of the lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The record that was seen last, and when it was first seen.
    seen: Option<(Record, Duration)>,
    /// Before the last renewal of ours was sent.
    renewed: Option<Duration>,
}

/// What tells one state of the lease from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    holder: String,
    renewed: String,
    transitions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Renew,
    TakeOver,
    Wait,
}

impl Known {
    /// What to do about the lease as it is.
    fn step(&mut self, me: &str, lease: Option<&Value>, now: Duration) -> Step {
        let Some(lease) = lease else { return Step::Create };
        let record = Record {
            holder: text(lease, "/spec/holderIdentity").to_owned(),
            renewed: text(lease, "/spec/renewTime").to_owned(),
            transitions: lease.pointer("/spec/leaseTransitions").and_then(Value::as_u64).unwrap_or(0),
        };
        if record.holder == me {
            return Step::Renew;
        }
        self.renewed = None;
        if record.holder.is_empty() {
            return Step::TakeOver;
        }
        match &self.seen {
            Some((seen, since)) if *seen == record => {
                if now.saturating_sub(*since) > LASTS {
                    Step::TakeOver
                } else {
                    Step::Wait
                }
            }
            _ => {
                self.seen = Some((record, now));
                Step::Wait
            }
        }
    }

    fn holds(&self, now: Duration) -> bool {
        self.renewed.is_some_and(|sent| now.saturating_sub(sent) + LONGEST_CALL < LASTS)
    }
}

/// The lease of one operator process.
#[derive(Debug)]
pub struct Lease {
    name: Name,
    me: String,
    known: Mutex<Known>,
}

impl Lease {
    /// `me` has to be another for each process, also for one that is started again.
    #[must_use]
    pub fn new(name: Name, me: String) -> Self {
        Self { name, me, known: Mutex::new(Known::default()) }
    }

    /// Whether an act may begin.
    pub fn holds(&self, clock: &impl Clock) -> bool {
        self.known.lock().holds(clock.steady())
    }

    /// Looks at the lease, and takes or renews it if that is its turn.
    ///
    /// # Errors
    /// As the API server has them; a conflict says that another was faster.
    pub async fn tend(&self, api: &impl Api, clock: &impl Clock) -> Result<bool, ApiError> {
        let before = clock.steady();
        let found = api.get(Kind::Lease, &self.name).await?;
        let step = self.known.lock().step(&self.me, found.as_ref(), clock.steady());
        let sent = match step {
            Step::Wait => return Ok(false),
            Step::Create => api.create(Kind::Lease, &self.record(clock, None)).await,
            Step::Renew | Step::TakeOver => api.replace(Kind::Lease, &self.record(clock, found.as_ref())).await,
        };
        match sent {
            Ok(_) => {
                // From before the look: between look and answer nobody else can have changed it.
                self.known.lock().renewed = Some(before);
                Ok(self.holds(clock))
            }
            Err(why) => Err(why),
        }
    }

    /// Lets it go, so that another need not wait.
    ///
    /// # Errors
    /// As the API server has them.
    pub async fn release(&self, api: &impl Api) -> Result<(), ApiError> {
        self.known.lock().renewed = None;
        let Some(mut lease) = api.get(Kind::Lease, &self.name).await? else { return Ok(()) };
        if text(&lease, "/spec/holderIdentity") != self.me {
            return Ok(());
        }
        lease["spec"]["holderIdentity"] = json!("");
        api.replace(Kind::Lease, &lease).await.map(drop)
    }

    fn record(&self, clock: &impl Clock, old: Option<&Value>) -> Value {
        let seconds = i64::try_from(clock.now().0).unwrap_or(0);
        // Of two renewals in one second the second must be seen as another.
        let stamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        let micros = clock.steady().subsec_micros();
        let stamp = format!("{}.{micros:06}Z", stamp.strftime("%Y-%m-%dT%H:%M:%S"));
        let mut lease = old.cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": Kind::Lease.api_version(),
                "kind": "Lease",
                "metadata": {"namespace": self.name.namespace, "name": self.name.name},
                "spec": {},
            })
        });
        let ours = text(&lease, "/spec/holderIdentity") == self.me;
        let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_u64).unwrap_or(0);
        let spec = &mut lease["spec"];
        spec["holderIdentity"] = json!(self.me);
        spec["leaseDurationSeconds"] = json!(LASTS.as_secs());
        spec["renewTime"] = json!(stamp);
        if !ours {
            spec["acquireTime"] = json!(stamp);
            spec["leaseTransitions"] = json!(transitions + u64::from(old.is_some()));
        }
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: &str) -> Value {
        json!({"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseTransitions": 1}})
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_taken_over_only_after_it_has_not_moved_for_as_long_as_it_lasts() {
        let mut known = Known::default();
        assert_eq!(known.step("b", Some(&lease("a", "1")), at(100)), Step::Wait, "whatever its clock says");
        assert_eq!(known.step("b", Some(&lease("a", "1")), at(130)), Step::Wait);
        assert_eq!(known.step("b", Some(&lease("a", "2")), at(131)), Step::Wait, "it moved");
        assert_eq!(known.step("b", Some(&lease("a", "2")), at(161)), Step::Wait);
        assert_eq!(known.step("b", Some(&lease("a", "2")), at(162)), Step::TakeOver);
    }

    #[test]
    fn one_that_was_let_go_is_free_at_once() {
        assert_eq!(Known::default().step("b", Some(&lease("", "1")), at(0)), Step::TakeOver);
    }

    /// Whoever waits begins to count when it sees a renewal, and that is after it was sent.
    #[test]
    fn whoever_holds_it_stops_before_another_may_begin() {
        let known = Known { renewed: Some(at(100)), ..Known::default() };
        assert!(known.holds(at(100)));
        let last = (100..200).rev().find(|now| known.holds(at(*now))).expect("it holds for a while");
        assert!(at(last) + LONGEST_CALL < at(100) + LASTS);
    }

    #[test]
    fn who_sees_another_holder_holds_it_no_more() {
        let mut known = Known { renewed: Some(at(100)), ..Known::default() };
        known.step("a", Some(&lease("b", "1")), at(101));
        assert!(!known.holds(at(101)));
    }
}
