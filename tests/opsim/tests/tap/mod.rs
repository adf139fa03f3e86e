//! One operator at a small Kubernetes, with what a test wants to be different from what is there.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use keepstone_operator::controller::api::{Api, ApiError, Deletion, Fresh, Which, text};
use keepstone_operator::controller::kind::{Kind, Name};
use keepstone_operator::controller::members::{Answer, Change, Failure, Members, Row, Target};
use keepstone_operator::controller::memory::Memory;
use keepstone_operator::controller::pass::{Controller, Habits, Sources};
use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{MemberId, Ordinal};
use keepstone_operator_world::kube::Kind as Made;
use keepstone_operator_world::{Fault, Spec, World};
use keepstone_opsim::client::Wire;
use keepstone_opsim::keys::Keys;
use keepstone_opsim::render::{NAMESPACE, names, settings};
use keepstone_opsim::rng::Rng;
use keepstone_opsim::site::{Site, merge};
use parking_lot::Mutex;
use serde_json::Value;

#[derive(Default)]
pub struct Differs {
    /// Places whose claims and pods a cache does not show. As long as nobody looks past the cache no member answers, either.
    pub hidden: Vec<u32>,
    /// Objects that are there as well.
    pub beside: Vec<(Kind, Value)>,
    /// What was written to their status.
    pub told: Vec<Value>,
    /// Of a kind, what the API server won't take.
    pub refused: Option<Kind>,
    /// Whether no backup can be put onto a volume.
    pub spoils: bool,
}

impl Differs {
    /// Writes to the status of an object that is there as well; none where there is no such one.
    fn tell(&mut self, kind: Kind, name: &str, patch: &Value) -> Option<Value> {
        let ours = |(of, object): &&mut (Kind, Value)| *of == kind && text(object, "/metadata/name") == name;
        let (_, object) = self.beside.iter_mut().find(ours)?;
        merge(&mut object["status"], &patch["status"]);
        self.told.push(patch["status"].clone());
        Some(object.clone())
    }
}

#[derive(Clone)]
struct Tap(Wire, Arc<Mutex<Differs>>);

impl Tap {
    fn let_through(&self, kind: Kind) -> Result<(), ApiError> {
        let refused = self.1.lock().refused == Some(kind);
        if refused { Err(ApiError::Refused("a webhook denied it".to_owned())) } else { Ok(()) }
    }

    fn beside(&self, kind: Kind) -> Vec<Value> {
        self.1.lock().beside.iter().filter(|(one, _)| *one == kind).map(|(_, object)| object.clone()).collect()
    }
}

impl Api for Tap {
    async fn get(&self, kind: Kind, name: &Name) -> Result<Option<Value>, ApiError> {
        let ours = self.beside(kind).into_iter().find(|object| text(object, "/metadata/name") == name.name);
        if ours.is_some() { Ok(ours) } else { self.0.get(kind, name).await }
    }

    async fn list(&self, kind: Kind, space: &str, which: Which<'_>, fresh: Fresh) -> Result<Vec<Value>, ApiError> {
        let mut list = self.0.list(kind, space, which, fresh).await?;
        let hidden: Vec<_> = {
            let mut differs = self.1.lock();
            if kind == Kind::Claim && fresh == Fresh::Now {
                differs.hidden.clear();
            }
            differs.hidden.iter().map(|n| Ordinal(*n)).collect()
        };
        let gone = |one: &Value| match kind {
            Kind::Claim => hidden.iter().any(|n| names().claim(*n) == text(one, "/metadata/name")),
            Kind::Pod => hidden.iter().any(|n| names().pod(*n) == text(one, "/metadata/name")),
            _ => false,
        };
        list.retain(|one| !gone(one));
        list.extend(self.beside(kind));
        Ok(list)
    }

    async fn create(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.let_through(kind)?;
        self.0.create(kind, object).await
    }

    async fn apply(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.let_through(kind)?;
        self.0.apply(kind, object).await
    }

    async fn merge(&self, kind: Kind, name: &Name, status: bool, patch: &Value) -> Result<Value, ApiError> {
        if let Some(object) = self.1.lock().tell(kind, &name.name, patch) {
            return Ok(object);
        }
        self.0.merge(kind, name, status, patch).await
    }

    async fn replace(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.0.replace(kind, object).await
    }

    async fn delete(&self, kind: Kind, name: &Name, how: &Deletion) -> Result<(), ApiError> {
        self.0.delete(kind, name, how).await
    }
}

impl Members for Tap {
    async fn status(&self, of: &Target) -> Result<Answer, Failure> {
        let silent = !self.1.lock().hidden.is_empty();
        if silent { Err(Failure::Silence("lost".to_owned())) } else { self.0.status(of).await }
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

pub struct Place {
    pub site: Arc<Mutex<Site>>,
    pub differs: Arc<Mutex<Differs>>,
    controller: Controller<Tap, Tap, Wire>,
    memory: Memory,
    /// Why the last pass came to nothing.
    failed: Option<String>,
}

impl Place {
    pub fn new(habits: Habits) -> Self {
        let world = World::new(Spec { size: 3, kind: Made { config: 0, minor: 4 }, hibernate: false });
        let site = Arc::new(Mutex::new(Site::new(world, Rng::new(1))));
        let differs = Arc::new(Mutex::new(Differs::default()));
        let wire = Wire { site: site.clone(), who: 0, careful: true, hasty: false, heard: None, greedy: false };
        let tap = Tap(wire.clone(), differs.clone());
        let mut drawn = 0;
        let nonce = move || {
            drawn += 1;
            drawn
        };
        let sources = Sources { keys: Mutex::new(Box::new(Keys::new(1))), nonce: Mutex::new(Box::new(nonce)) };
        let controller = Controller {
            api: tap.clone(),
            members: tap,
            clock: Arc::new(wire),
            settings: settings(),
            sources,
            me: "operator-0".to_owned(),
            habits,
        };
        Self { site, differs, controller, memory: Memory::default(), failed: None }
    }

    /// One pass over a cluster, and a second in which all happens that is to.
    pub fn pass(&mut self, cluster: &str) {
        let cluster = Name::new(NAMESPACE, cluster);
        {
            let mut pass = pin!(self.controller.pass(&cluster, &mut self.memory));
            self.failed = loop {
                if let Poll::Ready(done) = pass.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    break done.err().map(|why| format!("{why:?}"));
                }
            };
        }
        let mut site = self.site.lock();
        site.pass_time(1_000_000);
        if self.differs.lock().spoils {
            site.world.suffer(Fault::FillFailed);
            site.changed();
        }
        site.job_by_itself();
        while let Some(event) = site.world.events().first().copied() {
            site.world.happen(event);
            site.changed();
        }
    }

    /// Passes until it is so.
    pub fn until(&mut self, cluster: &str, what: &str, is: impl Fn(&Site, &Differs) -> bool) {
        for _ in 0..200 {
            if is(&self.site.lock(), &self.differs.lock()) {
                return;
            }
            self.pass(cluster);
        }
        let site = self.site.lock();
        let (broken, failed, under_way) = (&site.broken, &self.failed, &site.world.operation);
        panic!("it never was so that {what}: {broken:?} {failed:?} {under_way:?}");
    }
}

/// Whether all three members serve.
pub fn whole(site: &Site) -> bool {
    site.world.latched.is_some_and(|cluster| site.world.voters_up(cluster) == 3) && site.world.operation.is_none()
}
