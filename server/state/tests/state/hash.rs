//! HashKV against figures that etcd 3.6.16's own store gave for the same history.

use keepstone_state::HashKv;

use crate::support::*;

/// What was done, and what etcd's `HashByRev` said, freshly opened, once its compaction was over.
const HISTORY: &str = include_str!("hash.txt");

fn hash(member: &Member, revision: i64) -> u32 {
    let plan = member.state.hash_plan(revision).expect("a revision that may be read");
    let mut hash = HashKv::new(plan);
    for record in member.store.records.values() {
        hash.record(record, |record| member.state.keeps(record.kv.key(), record.at, plan.keep_at));
    }
    hash.finish()
}

#[test]
fn hashes_are_etcds_whether_compaction_is_over_or_not() {
    let mut member = Member::default();
    let mut compared = 0;
    for line in HISTORY.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words[0] {
            "put" => drop(member.put(words[1], words[2])),
            "del" => drop(member.delete(words[1], words[2])),
            "compact" => drop(member.compact(words[1].parse().expect("a revision")).expect("compacted")),
            _ => {
                for swept in [false, true] {
                    if swept {
                        member.sweep();
                    }
                    for expected in &words[1..] {
                        let (revision, expected) = expected.split_once('=').expect("revision=hash");
                        let revision = revision.parse().expect("a revision");
                        assert_eq!(hash(&member, revision).to_string(), expected, "at {revision} after {compared}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn a_hash_is_asked_for_between_the_floor_and_now() {
    use keepstone_state::Error;
    let mut member = Member::default();
    member.put("a", "1");
    member.put("a", "2");
    assert_eq!(member.state.hash_plan(0).map(|plan| (plan.revision, plan.floor)), Ok((3, -1)));
    member.compact(3).expect("compacted");
    assert_eq!(member.state.hash_plan(2), Err(Error::Compacted));
    assert_eq!(member.state.hash_plan(4), Err(Error::FutureRevision));
}
