//! What a cache shows may be old, and old news alone must make no difference.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use keepstone_operator::controller::api::{Api, ApiError, Deletion, Fresh, Which, text};
use keepstone_operator::controller::kind::{Kind, Name};
use keepstone_operator::controller::members::{Answer, Change, Failure, Members, Row, Target};
use keepstone_operator::controller::memory::Memory;
use keepstone_operator::controller::pass::{Controller, Habits, Sources};
use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::MemberId;
use keepstone_operator_world::kube::Kind as Made;
use keepstone_operator_world::{Fault, Spec, World};
use keepstone_opsim::client::Wire;
use keepstone_opsim::keys::Keys;
use keepstone_opsim::render::{CLUSTER, NAMESPACE, names, settings};
use keepstone_opsim::rng::Rng;
use keepstone_opsim::site::Site;
use parking_lot::Mutex;
use serde_json::Value;

/// An API server whose cache does not show the last claim yet, and members that don't tell their table: from when it is set.
#[derive(Clone)]
struct Behind(Wire, Arc<Mutex<bool>>);

impl Api for Behind {
    async fn get(&self, kind: Kind, name: &Name) -> Result<Option<Value>, ApiError> {
        self.0.get(kind, name).await
    }

    async fn list(&self, kind: Kind, space: &str, which: Which<'_>, fresh: Fresh) -> Result<Vec<Value>, ApiError> {
        let mut list = self.0.list(kind, space, which, fresh).await?;
        if *self.1.lock() && kind == Kind::Claim && fresh == Fresh::Cached {
            let last = names().claim(keepstone_operator_plan::ids::Ordinal(2));
            list.retain(|claim| text(claim, "/metadata/name") != last);
        }
        Ok(list)
    }

    async fn create(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.0.create(kind, object).await
    }

    async fn apply(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.0.apply(kind, object).await
    }

    async fn merge(&self, kind: Kind, name: &Name, status: bool, patch: &Value) -> Result<Value, ApiError> {
        self.0.merge(kind, name, status, patch).await
    }

    async fn replace(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.0.replace(kind, object).await
    }

    async fn delete(&self, kind: Kind, name: &Name, how: &Deletion) -> Result<(), ApiError> {
        self.0.delete(kind, name, how).await
    }
}

impl Members for Behind {
    async fn status(&self, of: &Target) -> Result<Answer, Failure> {
        if *self.1.lock() { Err(Failure::Silence("lost".to_owned())) } else { self.0.status(of).await }
    }

    async fn table(&self, from: &Target) -> Result<Vec<Row>, Failure> {
        self.0.table(from).await
    }

    async fn alarms(&self, from: &Target) -> Result<BTreeSet<(MemberId, Alarm)>, Failure> {
        self.0.alarms(from).await
    }

    async fn change(&self, with: &Target, change: &Change) -> Result<(), Failure> {
        self.0.change(with, change).await
    }
}

/// The member at the last place was taken down.
#[test]
fn a_stateful_set_is_made_anew_of_what_there_is_and_not_of_what_a_cache_shows() {
    let world = World::new(Spec { size: 3, kind: Made { config: 0, minor: 4 }, hibernate: false });
    let site = Arc::new(Mutex::new(Site::new(world, Rng::new(1))));
    let behind = Arc::new(Mutex::new(false));
    let wire = Wire { site: site.clone(), who: 0, careful: true, hasty: false, heard: None, greedy: false };
    let ours = Behind(wire.clone(), behind.clone());
    let controller = Controller {
        api: ours.clone(),
        members: ours,
        clock: Arc::new(wire),
        settings: settings(),
        sources: Sources { keys: Mutex::new(Box::new(Keys::new(1))), nonce: Mutex::new(Box::new(|| 1)) },
        me: "operator-0".to_owned(),
        habits: Habits::default(),
    };
    let (cluster, mut memory) = (Name::new(NAMESPACE, CLUSTER), Memory::default());
    let mut lost = false;
    for _ in 0..200 {
        let mut pass = pin!(controller.pass(&cluster, &mut memory));
        while pass.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
        let mut site = site.lock();
        site.pass_time(1_000_000);
        while let Some(event) = site.world.events().first().copied() {
            site.world.happen(event);
            site.changed();
        }
        let whole = site.world.latched.is_some_and(|cluster| site.world.voters_up(cluster) == 3);
        *behind.lock() = false;
        if lost && site.world.kube.workload.is_some() {
            assert_eq!((&site.broken, site.world.kube.replicas()), (&None, 3));
            return;
        }
        if whole && !lost {
            lost = true;
            *behind.lock() = true;
            site.world.suffer(Fault::WorkloadOrphaned);
            site.changed();
        }
    }
    panic!("there is no StatefulSet again: {:?}", site.lock().broken);
}
