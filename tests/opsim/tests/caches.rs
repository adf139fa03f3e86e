//! What a cache shows may be old, and old news alone must make no difference.

mod tap;

use keepstone_operator::controller::pass::Habits;
use keepstone_operator_plan::ids::{ClusterId, Ordinal};
use keepstone_operator_plan::operation::{Intent, Verb};
use keepstone_operator_world::Fault;
use keepstone_opsim::render::CLUSTER;
use tap::{Place, whole};

/// The member at the last place was taken down.
#[test]
fn a_stateful_set_is_made_anew_of_what_there_is_and_not_of_what_a_cache_shows() {
    let mut place = Place::new(Habits::default());
    place.until(CLUSTER, "it stands", |site, _| whole(site));
    place.differs.lock().hidden = vec![2];
    {
        let mut site = place.site.lock();
        site.world.suffer(Fault::WorkloadOrphaned);
        site.changed();
    }
    place.until(CLUSTER, "there is a StatefulSet again", |site, _| site.world.kube.workload.is_some());
    let site = place.site.lock();
    assert_eq!((&site.broken, site.world.kube.replicas()), (&None, 3));
}

/// One lost answer of each member, a cache that was behind and an order that was wrong.
fn ordered_to_recover_what_is_well(habits: Habits) -> bool {
    let mut place = Place::new(habits);
    place.until(CLUSTER, "it stands", |site, _| whole(site));
    {
        let mut site = place.site.lock();
        let confirm = ClusterId(site.world.latched.expect("it stands"));
        site.ask(Verb::RecoverQuorum { survivor: Ordinal(0), confirm });
    }
    place.differs.lock().hidden = vec![1, 2];
    place.pass(CLUSTER);
    let site = place.site.lock();
    matches!(site.world.operation.as_ref().map(|it| &it.intent), Some(Intent::RecoverQuorum(_)))
}

#[test]
fn a_cluster_is_given_up_on_what_is_so_and_not_on_what_a_cache_shows() {
    assert!(!ordered_to_recover_what_is_well(Habits::default()));
    assert!(ordered_to_recover_what_is_well(Habits { looks_again: false, ..Habits::default() }), "this shows nothing");
}
