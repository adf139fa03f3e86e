//! Every interleaving of an operator, Kubernetes and three members with one or two faults of those that a case lists: nothing
//! that must never be comes about, and from every state that was reached the world becomes what was asked for once it is
//! quiet. A case ends at 60,000 states, the shallowest first, and prints how deep that is.
//!
//! `KEEPSTONE_PLAN_STATES`, `KEEPSTONE_PLAN_FAULTS` and `KEEPSTONE_PLAN_DEPTH` set other bounds; `cargo xtask prove
//! operator-plan` sees all states there are.

mod explore;
mod settle;

use std::str::FromStr;

use keepstone_operator_plan::ids::{ClusterId, Ordinal};
use keepstone_operator_plan::operation::Verb;
use keepstone_operator_world::kube::{BAD, Kind};
use keepstone_operator_world::{Fault, Spec, World};

use explore::{Bounds, explore};
use settle::settled;

fn setting<T: FromStr>(name: &str, or: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
}

fn bounds(faults: u8) -> Bounds {
    Bounds {
        depth: setting("KEEPSTONE_PLAN_DEPTH", 1000),
        faults: setting("KEEPSTONE_PLAN_FAULTS", faults),
        states: setting("KEEPSTONE_PLAN_STATES", 60_000),
    }
}

fn check(from: World, faults: &[Fault], bounds: &Bounds) {
    let found = explore(from, faults, bounds);
    let whole = if found.whole { "all there are" } else { "as many as allowed" };
    println!("{} states, {whole}, {} steps deep, {} worlds settled", found.states, found.depth, found.settled);
}

fn fresh(size: u32) -> World {
    World::new(Spec { size, kind: Kind { config: 0, minor: 4 }, hibernate: false })
}

fn three() -> World {
    settled(fresh(3))
}

fn after(mut world: World, fault: Fault) -> World {
    world.suffer(fault);
    world
}

/// What may befall the member at a place.
fn ills(n: u32) -> Vec<Fault> {
    vec![
        Fault::PodDeleted(n),
        Fault::Crashed(n),
        Fault::Wiped(n),
        Fault::ClaimDeleted(n),
        Fault::NodeLost(n),
        Fault::NodeBack(n),
    ]
}

fn all_ills() -> Vec<Fault> {
    let mut all: Vec<Fault> = (0..3).flat_map(ills).collect();
    all.extend([Fault::Later(700), Fault::WorkloadOrphaned, Fault::Scaled(1), Fault::Scaled(5)]);
    all
}

#[test]
fn founding() {
    let mut faults = ills(0);
    faults.push(Fault::Later(400));
    check(fresh(3), &faults, &bounds(2));
}

#[test]
fn a_cluster_at_rest() {
    check(three(), &all_ills(), &bounds(2));
}

#[test]
fn growing() {
    let mut faults = all_ills();
    faults.extend([Fault::Size(1), Fault::Size(2)]);
    check(after(settled(fresh(1)), Fault::Size(3)), &faults, &bounds(2));
}

#[test]
fn shrinking() {
    let mut faults = all_ills();
    faults.push(Fault::Size(3));
    check(after(three(), Fault::Size(1)), &faults, &bounds(2));
}

#[test]
fn replacing() {
    check(after(three(), Fault::Wiped(0)), &all_ills(), &bounds(2));
}

#[test]
fn rolling() {
    let mut faults = all_ills();
    faults.extend([Fault::Config(0), Fault::Size(2), Fault::Hibernate(true)]);
    check(after(three(), Fault::Config(1)), &faults, &bounds(2));
}

#[test]
fn a_version_that_does_not_start() {
    let mut faults = all_ills();
    faults.push(Fault::Config(0));
    check(after(three(), Fault::Config(BAD)), &faults, &bounds(2));
}

#[test]
fn sleeping_and_waking() {
    let mut faults = all_ills();
    faults.extend([Fault::Hibernate(false), Fault::Size(2)]);
    check(after(three(), Fault::Hibernate(true)), &faults, &bounds(2));
}

#[test]
fn recovering_from_a_lost_majority() {
    let mut world = three();
    world.suffer(Fault::Wiped(0));
    world.suffer(Fault::Wiped(2));
    let confirm = ClusterId(world.latched.expect("there is a cluster"));
    world.ask(Verb::RecoverQuorum { survivor: Ordinal(1), confirm });
    check(world, &all_ills(), &bounds(1));
}

#[test]
fn orders() {
    let mut world = three();
    world.ask(Verb::MoveLeader { to: Some(Ordinal(2)) });
    world.ask(Verb::ReplaceMember { ordinal: Ordinal(2) });
    check(world, &all_ills(), &bounds(1));
}

#[test]
fn a_new_version_and_the_way_back() {
    let mut faults = all_ills();
    faults.push(Fault::Minor(4));
    check(after(three(), Fault::Minor(5)), &faults, &bounds(2));
}

/// Nodes that are shut down in order, and come back.
fn shut_down() -> Vec<Fault> {
    let mut all: Vec<Fault> = (0..3).flat_map(|n| [Fault::ShutDown(n), Fault::NodeBack(n)]).collect();
    all.push(Fault::Later(700));
    all
}

#[test]
fn data_that_differs() {
    let mut faults = shut_down();
    faults.push(Fault::Corrupt(0));
    check(three(), &faults, &bounds(2));
}

#[test]
fn a_disk_that_rots() {
    let mut faults = shut_down();
    faults.push(Fault::Rotten(1));
    check(three(), &faults, &bounds(2));
}

#[test]
fn restoring_a_backup() {
    let mut world = three();
    let confirm = ClusterId(world.latched.expect("there is a cluster"));
    world.ask(Verb::Restore { source: "backup".into(), save: true, confirm });
    let mut faults = all_ills();
    faults.push(Fault::FillFailed);
    check(world, &faults, &bounds(1));
}
