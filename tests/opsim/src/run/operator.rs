//! One operator process: the lease it tends, and the passes it makes, each as far as it got.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use keepstone_operator::controller::fenced::Fenced;
use keepstone_operator::controller::kind::Name;
use keepstone_operator::controller::lease::{Lease, PERIOD};
use keepstone_operator::controller::memory::Memory;
use keepstone_operator::controller::pass::{Again, Controller, Habits, Sources};
use parking_lot::Mutex;

use super::Planted;
use crate::client::Wire;
use crate::keys::Keys;
use crate::render::{CLUSTER, NAMESPACE, settings};
use crate::rng::Rng;
use crate::site::Site;

type Ours = Controller<Fenced<Wire, Wire>, Fenced<Wire, Wire>, Wire>;
type Passing = Pin<Box<dyn Future<Output = (Again, Memory)>>>;

pub struct Operator {
    who: u8,
    planted: Planted,
    site: Arc<Mutex<Site>>,
    started: u32,
    lease: Arc<Lease>,
    controller: Arc<Ours>,
    tending: Option<Pin<Box<dyn Future<Output = ()>>>>,
    passing: Option<Passing>,
    memory: Option<Memory>,
    /// When it next looks at the lease, and at the cluster.
    pub tend_at: Duration,
    pub pass_at: Duration,
}

impl Operator {
    pub fn new(who: u8, site: &Arc<Mutex<Site>>, planted: Planted) -> Self {
        Self::started(who, site, planted, 0)
    }

    fn started(who: u8, site: &Arc<Mutex<Site>>, planted: Planted, started: u32) -> Self {
        let wire = Self::wire(who, site, planted);
        let lease = match planted {
            Planted::OwnLease | Planted::NoFence => format!("keepstone-operator-{who}"),
            _ => "keepstone-operator".to_owned(),
        };
        let lease = Arc::new(Lease::new(Name::new("system", &lease), format!("operator-{who}-{started}")));
        let clock = Arc::new(wire.clone());
        let mut nonces = Rng::new(u64::from(who) << 32 | u64::from(started));
        let now = Duration::from_micros(site.lock().micros);
        let controller = Arc::new(Controller {
            api: Fenced::new(wire.clone(), clock.clone(), lease.clone()),
            members: Fenced::new(wire, clock.clone(), lease.clone()),
            clock,
            settings: settings(),
            sources: Sources {
                keys: Mutex::new(Box::new(Keys::new(u64::from(who) << 32 | u64::from(started)))),
                nonce: Mutex::new(Box::new(move || nonces.draw())),
            },
            me: format!("operator-{who}"),
            habits: Habits {
                looks_again: planted != Planted::NoSecondLook,
                writes_first: planted != Planted::ActsFirst,
            },
        });
        Self {
            who,
            planted,
            site: site.clone(),
            started,
            lease,
            controller,
            tending: None,
            passing: None,
            memory: Some(Memory::default()),
            tend_at: now,
            pass_at: now,
        }
    }

    fn wire(who: u8, site: &Arc<Mutex<Site>>, planted: Planted) -> Wire {
        Wire {
            site: site.clone(),
            who,
            careful: planted != Planted::NoSecondLook,
            hasty: planted == Planted::NoSettling,
            heard: (planted == Planted::OldAnswers).then(Arc::default),
            greedy: planted == Planted::Greedy,
        }
    }

    pub fn start_over(&mut self) {
        *self = Self::started(self.who, &self.site, self.planted, self.started + 1);
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.site.lock().micros)
    }

    /// It gets on by a call, of its lease or of its pass. `woken` says that a watch has told of something.
    pub fn turn(&mut self, rng: &mut Rng, woken: bool) {
        if rng.one_in(200) {
            self.tend()
        } else {
            self.pass(woken)
        }
        if self.passing.is_none() {
            self.tend();
        }
    }

    pub fn tend(&mut self) {
        let now = self.now();
        if self.tending.is_none() && now >= self.tend_at {
            self.tend_at = now + PERIOD;
            let (lease, controller) = (self.lease.clone(), self.controller.clone());
            // Not through the fence: who does not hold it yet has to be able to take it.
            let wire = Self::wire(self.who, &self.site, Planted::Nothing);
            self.tending = Some(Box::pin(async move {
                // That it failed is seen by its not being held.
                let _ = lease.tend(&wire, &*controller.clock).await;
            }));
        }
        if let Some(tending) = &mut self.tending
            && poll(tending).is_some()
        {
            self.tending = None;
        }
    }

    pub fn leads(&self) -> bool {
        self.lease.holds(&*self.controller.clock)
    }

    pub fn pass(&mut self, woken: bool) {
        let now = self.now();
        if self.passing.is_none() && (woken || now >= self.pass_at) && self.leads() {
            let (controller, mut memory) = (self.controller.clone(), self.memory.take().unwrap_or_default());
            self.passing = Some(Box::pin(async move {
                let report = controller.pass(&Name::new(NAMESPACE, CLUSTER), &mut memory).await;
                (report.map_or(Again::In(PERIOD), |report| report.again), memory)
            }));
        }
        let Some(passing) = &mut self.passing else { return };
        let Some((again, memory)) = poll(passing) else { return };
        (self.passing, self.memory) = (None, Some(memory));
        self.pass_at = match again {
            Again::Now => self.now(),
            Again::In(wait) => self.now() + wait,
            Again::Never => self.now() + PERIOD,
        };
    }

    /// Whether nothing of it is under way.
    pub fn rests(&self) -> bool {
        self.passing.is_none() && self.tending.is_none()
    }
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
