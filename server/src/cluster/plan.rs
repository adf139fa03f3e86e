//! What Raft's membership still lacks to be what the member table says. Pure: one step at a time, or none.
//!
//! The table says what clients asked for; Raft's membership is who counts for a quorum. They differ while a member that
//! was added as a voter has not caught up, and while one that was removed is still being let go.

use std::collections::BTreeSet;

use keepstone_state::MemberId;

/// A member as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub id: MemberId,
    pub learner: bool,
    /// Whether it has ever run: its ID is bound to a data directory.
    pub bound: bool,
}

/// All that a step is decided on. Seen by a leader.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    pub me: MemberId,
    pub table: Vec<Row>,
    pub voters: BTreeSet<MemberId>,
    /// Raft's learners: log entries go there, nobody counts them.
    pub learners: BTreeSet<MemberId>,
    /// Whether a change of voters has begun and not ended.
    pub joint: bool,
    /// Members whose log is as good as the leader's, and which have answered lately.
    pub caught_up: BTreeSet<MemberId>,
}

/// One change of Raft's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// End a change of voters that an earlier leader began.
    Finish,
    /// This leader was removed: another one goes on from here.
    HandOver(MemberId),
    Remove(MemberId),
    AddLearner(MemberId),
    Promote(MemberId),
}

/// The next step; `None` when there is nothing to do, or nothing that can be done now.
pub fn next(s: &Situation) -> Option<Step> {
    // Before the founding entry there is no table to follow.
    if s.table.is_empty() {
        return None;
    }
    if s.joint {
        return Some(Step::Finish);
    }
    let in_table: BTreeSet<MemberId> = s.table.iter().map(|row| row.id).collect();
    let gone = |id: &&MemberId| !in_table.contains(id);
    if let Some(id) = s.learners.iter().find(gone) {
        return Some(Step::Remove(*id));
    }
    // Promotions before removals of voters: a member that takes another's place does so before that one goes.
    let promotable =
        |row: &&Row| !row.learner && row.bound && s.learners.contains(&row.id) && s.caught_up.contains(&row.id);
    if let Some(row) = s.table.iter().find(promotable) {
        return Some(Step::Promote(row.id));
    }
    if let Some(id) = s.voters.iter().filter(gone).find(|id| **id != s.me) {
        return Some(Step::Remove(*id));
    }
    if s.voters.iter().any(|id| gone(&id)) {
        let heirs = s.voters.iter().filter(|id| **id != s.me && in_table.contains(id));
        return heirs.copied().find(|id| s.caught_up.contains(id)).map(Step::HandOver);
    }
    let missing = |row: &&Row| !s.voters.contains(&row.id) && !s.learners.contains(&row.id);
    s.table.iter().find(missing).map(|row| Step::AddLearner(row.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    fn row(id: u64, learner: bool, bound: bool) -> Row {
        Row { id: MemberId(id), learner, bound }
    }

    fn three() -> Situation {
        Situation {
            me: MemberId(1),
            table: vec![row(1, false, true), row(2, false, true), row(3, false, true)],
            voters: ids(&[1, 2, 3]),
            caught_up: ids(&[1, 2, 3]),
            ..Situation::default()
        }
    }

    #[test]
    fn nothing_is_done_where_nothing_differs() {
        assert_eq!(next(&three()), None);
    }

    #[test]
    fn founders_stay_until_there_is_a_table() {
        assert_eq!(next(&Situation { table: Vec::new(), ..three() }), None);
    }

    #[test]
    fn a_change_that_was_begun_is_ended_first() {
        let mut s = Situation { joint: true, ..three() };
        s.table.pop();
        assert_eq!(next(&s), Some(Step::Finish));
    }

    #[test]
    fn a_voter_that_does_not_run_costs_no_quorum() {
        let mut s = three();
        s.table.push(row(4, false, false));
        assert_eq!(next(&s), Some(Step::AddLearner(MemberId(4))));
        s.learners = ids(&[4]);
        assert_eq!(next(&s), None);
        // It has claimed its ID, and lags.
        s.table[3].bound = true;
        assert_eq!(next(&s), None);
        s.caught_up = ids(&[1, 2, 3, 4]);
        assert_eq!(next(&s), Some(Step::Promote(MemberId(4))));
    }

    #[test]
    fn a_learner_stays_one_until_the_table_says_otherwise() {
        let mut s = three();
        s.table.push(row(4, true, true));
        (s.learners, s.caught_up) = (ids(&[4]), ids(&[1, 2, 3, 4]));
        assert_eq!(next(&s), None);
        s.table[3].learner = false;
        assert_eq!(next(&s), Some(Step::Promote(MemberId(4))));
    }

    #[test]
    fn a_removed_member_leaves_and_a_removed_leader_hands_over_first() {
        let mut s = three();
        s.table.remove(1);
        assert_eq!(next(&s), Some(Step::Remove(MemberId(2))));
        let mut s = three();
        s.table.remove(0);
        assert_eq!(next(&s), Some(Step::HandOver(MemberId(2))));
        s.caught_up = ids(&[1]);
        assert_eq!(next(&s), None, "nobody is ready to take over");
    }

    #[test]
    fn who_takes_a_place_is_promoted_before_the_other_goes() {
        let mut s = three();
        s.table[2] = row(4, false, true);
        (s.learners, s.caught_up) = (ids(&[4]), ids(&[1, 2, 4]));
        assert_eq!(next(&s), Some(Step::Promote(MemberId(4))));
    }
}
