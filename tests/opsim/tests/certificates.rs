//! What is written about certificates is true when it is written.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use k8s_openapi::api::core::v1::Secret;
use keepstone_operator::controller::kind::{Kind, Name};
use keepstone_operator::controller::memory::Memory;
use keepstone_operator::controller::pass::{Controller, Habits, Sources};
use keepstone_operator::objects::tls_secret;
use keepstone_operator_plan::observed::Surface;
use keepstone_operator_world::kube::Kind as Made;
use keepstone_operator_world::{Spec, World};
use keepstone_opsim::client::Wire;
use keepstone_opsim::keys::Keys;
use keepstone_opsim::render::{CLUSTER, NAMESPACE, names, settings};
use keepstone_opsim::rng::Rng;
use keepstone_opsim::site::{Site, Tls};
use parking_lot::Mutex;
use serde_json::Value;

/// Seconds that a call is under way.
const CALL: u64 = 2;

fn controller(site: &Arc<Mutex<Site>>) -> Controller<Wire, Wire, Wire> {
    let wire = Wire { site: site.clone(), who: 0, careful: true, hasty: false, heard: None, greedy: false };
    Controller {
        api: wire.clone(),
        members: wire.clone(),
        clock: Arc::new(wire),
        settings: settings(),
        sources: Sources { keys: Mutex::new(Box::new(Keys::new(1))), nonce: Mutex::new(Box::new(|| 1)) },
        me: "operator-0".to_owned(),
        habits: Habits::default(),
    }
}

/// Has passes made, each call of which takes a while, until there is an object; gives back both as soon as it is written.
fn slowly(kind: Kind, name: &str) -> (Value, u64) {
    let world = World::new(Spec { size: 3, kind: Made { config: 0, minor: 4 }, hibernate: false });
    let mut site = Site::new(world, Rng::new(1));
    site.tls = Some(Tls::new(Rng::new(2)));
    site.sync();
    let site = Arc::new(Mutex::new(site));
    let controller = controller(&site);
    let (cluster, mut memory) = (Name::new(NAMESPACE, CLUSTER), Memory::default());
    for _ in 0..40 {
        let mut pass = pin!(controller.pass(&cluster, &mut memory));
        while pass.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let mut site = site.lock();
            if let Some(object) = site.get(kind, name) {
                return (object, site.world.now);
            }
            site.pass_time(CALL * 1_000_000);
        }
    }
    panic!("there is never a {kind} {name}");
}

/// A pass had begun minutes before, so that a new CA signed minutes before all members knew it.
#[test]
fn a_bundle_is_known_from_when_it_is_written_and_not_from_when_that_was_decided() {
    let (trust, now) = slowly(Kind::ConfigMap, &names().trust());
    let since = trust.pointer("/metadata/annotations/keepstone.io~1since").and_then(Value::as_str);
    let since: u64 = since.and_then(|since| since.parse().ok()).expect("a time");
    assert!(now - since <= CALL, "{since}, and it is {now}");
}

/// The old CA was forgotten when its last certificate had been out of use for as long as the pass took that replaced it.
#[test]
fn a_certificate_replaces_another_when_it_is_written_and_not_when_that_was_decided() {
    let (secret, now) = slowly(Kind::Secret, &names().leaf(Surface::Client));
    let secret: Secret = serde_json::from_value(secret).expect("a Secret");
    let issued = tls_secret::read_leaf(&secret).and_then(|leaf| leaf.facts()).expect("a certificate").issued;
    assert!(now - issued.0 <= CALL, "{issued:?}, and it is {now}");
}
