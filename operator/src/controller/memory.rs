//! What the operator keeps of a cluster between passes. All of it may be lost at any time: only patience and what people
//! are shown depend on it.

use std::collections::VecDeque;
use std::time::Duration;

use keepstone_operator_plan::ids::{Revision, Time};
use keepstone_operator_plan::observed::Echo;

/// Seconds between two notes of the revision.
const STEP: u64 = 60;
/// A week of them.
const MOST: usize = 7 * 24 * 60;

#[derive(Debug, Default)]
pub struct Memory {
    pub echo: Option<Echo>,
    pub revisions: Revisions,
    /// When status was last written for numbers alone.
    pub numbers: Option<Time>,
    /// What the last event said, and of which act: a thing that fails in each pass is told once.
    pub told: Option<String>,
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
