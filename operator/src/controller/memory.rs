//! What the operator keeps of a cluster between passes. All of it may be lost at any time: only patience and what people
//! are shown depend on it.

use std::collections::VecDeque;
use std::time::Duration;

use keepstone_operator_plan::act::Act;
use keepstone_operator_plan::ids::{Revision, Time};
use keepstone_operator_plan::observed::Echo;

use super::futile::Futile;

/// Seconds between two notes of the revision.
const STEP: u64 = 60;
/// A week of them.
const MOST: usize = 7 * 24 * 60;

#[derive(Debug, Default)]
pub struct Memory {
    pub tried: Tried,
    pub futile: Futile,
    pub revisions: Revisions,
    /// When status was last written for numbers alone.
    pub numbers: Option<Time>,
    /// What the last event said, and of which act: a thing that fails in each pass is told once.
    pub told: Option<String>,
}

/// What was tried lately, and what came of it: each act once, the newest last. It is passed over for so long, that neither
/// what fails each time nor what helps nobody holds up the rest.
#[derive(Debug, Default)]
pub struct Tried(Vec<(Time, Echo)>);

/// Seconds.
const LATELY: u64 = 60;

impl Tried {
    /// Whether it was not among them already.
    pub fn note(&mut self, act: &Act, done: bool, now: Time) -> bool {
        let anew = !self.0.iter().any(|(_, echo)| echo.act == *act);
        self.0.retain(|(at, echo)| echo.act != *act && now.since(*at).0 < LATELY);
        // What was done for an operation says nothing of another.
        if matches!(act, Act::CloseIntent { .. }) {
            self.0.retain(|(_, echo)| !echo.done);
        }
        self.0.push((now, Echo { act: act.clone(), done }));
        anew
    }

    /// There is nothing to be done, or all has to be looked at anew: whatever was tried may be tried again.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    #[must_use]
    pub fn lately(&self, now: Time) -> Vec<Echo> {
        self.0.iter().filter(|(at, _)| now.since(*at).0 < LATELY).map(|(_, echo)| echo.clone()).collect()
    }
}

/// Which revision was current when.
#[derive(Debug, Default)]
pub struct Revisions(VecDeque<(Time, Revision)>);

impl Revisions {
    pub fn note(&mut self, now: Time, revision: Revision) {
        if self.0.back().is_some_and(|(last, known)| now.since(*last).0 < STEP || revision < *known) {
            return;
        }
        self.0.push_back((now, revision));
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// The revision that was current that long ago; none where nobody wrote it down.
    #[must_use]
    pub fn before(&self, span: Duration, now: Time) -> Option<Revision> {
        let then = now.0.checked_sub(span.as_secs())?;
        self.0.iter().rev().find(|(at, _)| at.0 <= then).map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two acts that failed each used to make the other one's failure forgotten, and nothing else had its turn.
    #[test]
    fn two_acts_that_fail_are_both_known_to_have_failed() {
        let (one, other) = (Act::ApplyObjects, Act::CreateCa { next: true });
        let mut tried = Tried::default();
        assert!(tried.note(&one, false, Time(1000)));
        assert!(tried.note(&other, false, Time(1005)));
        let told = |act: &Act, done| Echo { act: act.clone(), done };
        assert_eq!(tried.lately(Time(1010)), [told(&one, false), told(&other, false)]);
        assert!(!tried.note(&one, true, Time(1010)));
        assert_eq!(tried.lately(Time(1010)), [told(&other, false), told(&one, true)]);
        assert_eq!(tried.lately(Time(1065)), [told(&one, true)], "by then it may be tried again");
        tried.note(&Act::CloseIntent { seq: 1 }, true, Time(1066));
        assert_eq!(tried.lately(Time(1066)).iter().filter(|echo| echo.act == one).count(), 0);
        tried.forget();
        assert_eq!(tried.lately(Time(1066)), []);
    }

    #[test]
    fn a_revision_is_known_only_as_far_back_as_it_was_written_down() {
        let mut revisions = Revisions::default();
        for minute in 0..10 {
            revisions.note(Time(1000 + minute * 60), Revision(minute as i64));
            revisions.note(Time(1000 + minute * 60 + 1), Revision(99));
        }
        let ago = |seconds| revisions.before(Duration::from_secs(seconds), Time(1540));
        assert_eq!(
            (ago(0), ago(61), ago(540), ago(541)),
            (Some(Revision(9)), Some(Revision(7)), Some(Revision(0)), None)
        );
    }
}
