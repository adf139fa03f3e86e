//! What Kubernetes won't take is told, and holds up nothing else.

mod tap;

use keepstone_operator::controller::kind::Kind;
use keepstone_operator::controller::pass::Habits;
use keepstone_opsim::render::CLUSTER;
use keepstone_opsim::site::Site;
use serde_json::Value;
use tap::{Place, whole};

fn says(site: &Site, kind: &str) -> (Value, Value) {
    let cluster = site.get(Kind::Cluster, CLUSTER).unwrap_or_default();
    let conditions = cluster["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == kind).unwrap_or_default();
    (found["status"].clone(), found["reason"].clone())
}

/// It was called Ready, with a network policy that nobody had.
#[test]
fn an_object_that_is_refused_is_told_of_and_the_cluster_stands_all_the_same() {
    let mut place = Place::new(Habits::default());
    place.differs.lock().refused = Some(Kind::NetworkPolicy);
    place.until(CLUSTER, "it stands", |site, _| whole(site));
    place.until(CLUSTER, "it is told", |site, _| says(site, "Degraded") == ("True".into(), "ApplyFailed".into()));
    assert_eq!(says(&place.site.lock(), "Available").0, "True");
    assert_eq!(says(&place.site.lock(), "Ready"), ("False".into(), "ApplyFailed".into()));
    place.differs.lock().refused = None;
    place.until(CLUSTER, "it is ready", |site, _| says(site, "Ready").0 == "True");
}
