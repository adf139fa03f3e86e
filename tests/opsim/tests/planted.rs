//! An operator that leaves out what it must not leave out is found: else the seeds that find nothing say nothing.

use keepstone_opsim::{Flavour, Planted, run, run_as};

/// The first of so many seeds that finds it, and what it finds.
fn found(planted: Planted, seeds: u64) -> Option<(u64, String)> {
    (1..=seeds).find_map(|seed| run(seed, planted).err().map(|broken| (seed, broken.why)))
}

/// What is broken in a run with nothing in it but members that come, go and are lost.
fn plain(seed: u64) -> Option<String> {
    run_as(seed, Planted::Nothing, Flavour::default()).err().map(|broken| broken.why)
}

fn must_be_found(planted: Planted, seeds: u64) {
    let (seed, why) = found(planted, seeds).expect("it is found");
    println!("{planted:?}: seed {seed}: {}", why.lines().next().unwrap_or_default());
}

#[test]
fn destroying_what_a_cache_showed_is_found() {
    must_be_found(Planted::NoSecondLook, 300);
}

#[test]
fn acting_before_the_intent_is_written_is_found() {
    must_be_found(Planted::ActsFirst, 100);
}

#[test]
fn two_operators_that_nothing_keeps_apart_are_found() {
    must_be_found(Planted::NoFence, 100);
}

#[test]
fn signing_with_a_ca_that_members_do_not_know_yet_is_found() {
    must_be_found(Planted::NoSettling, 40);
}

#[test]
fn taking_a_silent_member_for_well_is_found() {
    must_be_found(Planted::OldAnswers, 100);
}

#[test]
fn deleting_what_was_to_be_kept_is_found() {
    must_be_found(Planted::Greedy, 40);
}

/// The lease is the first of two fences: without it UIDs, resource versions and the number of the operation still hold.
#[test]
fn two_operators_at_once_break_nothing() {
    for seed in 1..=40 {
        assert_eq!(run(seed, Planted::OwnLease).err().map(|broken| broken.why), None, "seed {seed}");
    }
}

#[test]
fn a_seed_names_a_run() {
    for seed in 1..=5 {
        assert_eq!(run(seed, Planted::Nothing), run(seed, Planted::Nothing));
    }
}

#[test]
fn what_stands_breaks_nothing() {
    for seed in 1..=30 {
        if let Err(broken) = run(seed, Planted::Nothing) {
            panic!("seed {seed}: {}\n{}", broken.why, broken.trail.join("\n"));
        }
    }
}

/// A permit that a list behind the times did not show was taken for revoked, and clients were let in beside it.
#[test]
fn clients_wait_for_a_permit_that_is_surely_gone() {
    assert_eq!(plain(101), None);
}

/// A learner that a late call had added, and an operation that waited for it to be promoted: each for the other.
#[test]
fn a_learner_that_came_late_holds_up_nothing() {
    assert_eq!(plain(837), None);
}
