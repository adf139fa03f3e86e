//! Who differs, from what the members say of their hashes. Pure.

use std::collections::BTreeMap;

use keepstone_state::MemberId;

use super::Answer;
use crate::hash::Hashed;

/// Named where members differ and no hash is a majority's: the alarm is everybody's then, as in etcd.
pub const NOBODY: MemberId = MemberId(0);

/// What came of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Members whose hashes could be compared, the one that asked included.
    pub compared: usize,
    /// Sorted.
    pub blamed: Vec<MemberId>,
}

/// Compares hashes of one revision. Only those of the same compact revision can be compared. `bounds` are the current
/// and the compact revision of the leader after it has heard all answers: nobody may be ahead of it.
pub fn judge(me: MemberId, own: Hashed, answers: &[(MemberId, Option<Answer>)], bounds: (i64, i64)) -> Verdict {
    let mut groups: BTreeMap<u32, Vec<MemberId>> = BTreeMap::from([(own.hash, vec![me])]);
    let mut blamed = Vec::new();
    let mut compared = 1;
    for (id, answer) in answers {
        let Some(answer) = answer else { continue };
        if answer.current > bounds.0 || answer.hashed.compact_revision > bounds.1 {
            blamed.push(*id);
            continue;
        }
        if answer.hashed.compact_revision == own.compact_revision && answer.hashed.revision == own.revision {
            compared += 1;
            groups.entry(answer.hashed.hash).or_default().push(*id);
        }
    }
    let members = answers.len() + 1;
    let quorum = members / 2 + 1;
    if groups.len() > 1 {
        let majority = groups.values().find(|group| group.len() >= quorum).cloned();
        match majority {
            Some(good) => blamed.extend(groups.into_values().flatten().filter(|id| !good.contains(id))),
            None => blamed.push(NOBODY),
        }
    }
    blamed.sort_unstable();
    Verdict { compared, blamed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Hashed = Hashed { hash: 7, revision: 20, compact_revision: 10 };

    fn said(id: u64, hash: u32) -> (MemberId, Option<Answer>) {
        (MemberId(id), Some(Answer { hashed: Hashed { hash, ..OWN }, current: 20 }))
    }

    fn verdict(answers: &[(MemberId, Option<Answer>)]) -> (usize, Vec<u64>) {
        let Verdict { compared, blamed } = judge(MemberId(1), OWN, answers, (20, 10));
        (compared, blamed.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn members_that_agree_are_nobodys_business() {
        assert_eq!(verdict(&[]), (1, vec![]));
        assert_eq!(verdict(&[said(2, 7), said(3, 7)]), (3, vec![]));
        assert_eq!(verdict(&[said(2, 7), (MemberId(3), None)]), (2, vec![]));
    }

    #[test]
    fn the_minority_differs_be_it_the_one_that_asks() {
        assert_eq!(verdict(&[said(2, 7), said(3, 8)]), (3, vec![3]));
        assert_eq!(verdict(&[said(2, 8), said(3, 8)]), (3, vec![1]));
        assert_eq!(verdict(&[said(2, 8), said(3, 7), said(4, 9), said(5, 7)]), (5, vec![2, 4]));
    }

    #[test]
    fn without_a_majority_it_is_everybodys_alarm() {
        assert_eq!(verdict(&[said(2, 8)]), (2, vec![0]));
        assert_eq!(verdict(&[said(2, 8), (MemberId(3), None)]), (2, vec![0]));
        assert_eq!(verdict(&[said(2, 8), said(3, 9)]), (3, vec![0]));
    }

    #[test]
    fn a_hash_above_another_compaction_says_nothing() {
        let mut other = said(2, 8);
        other.1.as_mut().expect("an answer").hashed.compact_revision = 9;
        assert_eq!(verdict(&[other, said(3, 7)]), (2, vec![]));
        let mut behind = said(2, 8);
        behind.1.as_mut().expect("an answer").hashed.revision = 19;
        assert_eq!(verdict(&[behind, said(3, 7)]), (2, vec![]));
    }

    #[test]
    fn nobody_is_ahead_of_the_leader() {
        let mut ahead = said(2, 7);
        ahead.1.as_mut().expect("an answer").current = 21;
        assert_eq!(verdict(&[ahead, said(3, 7)]), (2, vec![2]));
        let mut compacted = said(3, 7);
        compacted.1.as_mut().expect("an answer").hashed.compact_revision = 11;
        assert_eq!(verdict(&[said(2, 7), compacted]), (2, vec![3]));
    }
}
