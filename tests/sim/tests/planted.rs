//! The tests of the tests: what is broken on purpose is found, and named; what is not broken passes; a seed names one run.

use std::process::{Command, Output};

use keepstone_sim::planted::Finding;

/// Seeds that a fault is planted in at most, before somebody must have found it.
const SEEDS: u64 = 12;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keepstone-sim")).args(args).output().expect("the simulator starts")
}

/// Plants a fault in one seed after another until a broken promise is named.
fn finds(name: &str, blind: bool, words: &[&str]) {
    let mut said = Vec::new();
    for seed in 1..=SEEDS {
        let seed = seed.to_string();
        let mut args = vec!["one", &seed, "--fault", name];
        args.extend(blind.then_some("--blind"));
        let run = sim(&args);
        let verdict = String::from_utf8_lossy(&run.stderr).into_owned();
        if !run.status.success()
            && let Finding::Named(word) = Finding::of(&verdict)
            && words.contains(&word)
        {
            return;
        }
        said.push(verdict);
    }
    panic!("{name} was not found: {said:#?}");
}

#[test]
fn acknowledging_before_the_sync_is_found() {
    finds("ack-before-sync", false, &["FORGOTTEN", "does not start"]);
}

#[test]
fn clients_alone_find_a_write_that_was_acknowledged_before_its_sync() {
    finds("ack-before-sync", true, &["LOST", "STALE", "both were answered", "does not start"]);
}

#[test]
fn applying_before_the_own_log_is_synced_is_found() {
    finds("apply-before-sync", false, &["AHEAD OF ITS LOG"]);
}

#[test]
fn reading_without_asking_who_leads_is_found() {
    finds("unchecked-reads", false, &["STALE"]);
}

#[test]
fn a_vote_that_is_not_on_disk_when_it_is_given_is_found() {
    finds("forgotten-votes", false, &["FORGOTTEN", "TWO LEADERS"]);
}

#[test]
fn an_entry_that_one_member_skips_is_found() {
    finds("skipped-entries", false, &["STATES DIFFER", "HASHES DIFFER", "watch w", "no watch saw"]);
}

#[test]
fn a_proposal_that_is_sent_twice_is_found() {
    finds("repeated-proposals", false, &["which was answered", "nobody deleted this"]);
}

#[test]
fn an_event_that_a_watch_leaves_out_is_found() {
    finds("dropped-events", false, &["watch w", "no watch saw"]);
}

#[test]
fn an_event_that_is_lost_where_a_snapshot_is_installed_is_found() {
    finds("events-lost-at-snapshot", false, &["watch w", "no watch saw"]);
}

#[test]
fn a_revision_that_a_watch_gets_in_parts_is_found() {
    finds("split-revisions", false, &["watch w"]);
}

#[test]
fn a_lease_that_ends_before_its_time_is_found() {
    finds("fast-clocks", false, &["end of a lease that could not end"]);
}

#[test]
fn a_seed_names_one_run() {
    for seed in ["1", "2", "3"] {
        let (first, second) = (sim(&["one", seed]), sim(&["one", seed]));
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
        assert_eq!(first.stdout, second.stdout);
    }
}
