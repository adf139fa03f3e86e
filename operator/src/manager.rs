//! The operator as a process: it watches for what changed, sees that one operator works, and has the controller pass over
//! each cluster that needs it.

mod metrics;
mod server;
mod wakeup;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::blueprint::OperatorPods;
use crate::controller::clock::Clock as _;
use crate::controller::fenced::Fenced;
use crate::controller::kind::Name;
use crate::controller::lease::{Lease, PERIOD};
use crate::controller::live::{Live, SystemClock};
use crate::controller::memory::Memory;
use crate::controller::pass::{Again, Controller, Habits, Sources};
use crate::members;
use crate::pki::SystemKeys;
use crate::{Settings, manager::wakeup::Wakeups};
use metrics::Metrics;

/// Passes at once.
const AT_ONCE: usize = 8;
/// A pass that takes longer is given up. All its calls have bounds of their own.
const LONGEST_PASS: Duration = Duration::from_secs(600);
/// Without a sign of life for so long the process is to be started again.
const ALIVE: Duration = Duration::from_secs(120);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: std::net::SocketAddr,
    pub lease: String,
    pub image: String,
    /// The operator's own image.
    pub agent: String,
    pub domain: String,
    /// All where empty.
    pub namespaces: Vec<String>,
    pub pod: String,
    pub namespace: String,
}

type Fence<T> = Fenced<T, SystemClock>;

struct Manager {
    controller: Controller<Fence<Live>, Fence<members::Live>, SystemClock>,
    lease: Arc<Lease>,
    clock: Arc<SystemClock>,
    wakeups: Wakeups,
    metrics: Metrics,
    at_once: Semaphore,
    stopping: AtomicBool,
    /// Steady seconds of the last look at the lease.
    alive: AtomicU64,
    /// Kinds whose watch has begun.
    watched: AtomicU64,
}

/// Runs until it is told to stop.
///
/// # Errors
/// There is no Kubernetes to be found, or the port is taken.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = kube::Client::try_default().await.context("no Kubernetes to talk to")?;
    let live = Live::new(client);
    let me = format!("{}_{:016x}", options.pod, random());
    let clock = Arc::new(SystemClock);
    let lease = Arc::new(Lease::new(Name::new(&options.namespace, &options.lease), me.clone()));
    let manager = Arc::new(Manager {
        controller: controller(&options, live.clone(), me, &clock, &lease),
        lease,
        clock,
        wakeups: Wakeups::default(),
        metrics: Metrics::default(),
        at_once: Semaphore::new(AT_ONCE),
        stopping: AtomicBool::new(false),
        alive: AtomicU64::new(0),
        watched: AtomicU64::new(0),
    });
    let listener = tokio::net::TcpListener::bind(options.listen).await.context("the port for probes and metrics")?;
    tokio::spawn(server::serve(listener, manager.clone()));
    watch::all(&manager, &live, &options.namespaces);
    tracing::info!(pod = options.pod, namespaces = ?options.namespaces, "the operator runs");
    let mut end = Box::pin(terminated());
    loop {
        manager.tend(&live).await;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = &mut end => break,
        }
    }
    manager.stop(&live).await;
    Ok(())
}

fn controller(
    options: &Options,
    live: Live,
    me: String,
    clock: &Arc<SystemClock>,
    lease: &Arc<Lease>,
) -> Controller<Fence<Live>, Fence<members::Live>, SystemClock> {
    let labels = vec![("app.kubernetes.io/name".to_owned(), "keepstone-operator".to_owned())];
    Controller {
        api: Fenced::new(live, clock.clone(), lease.clone()),
        members: Fenced::new(members::Live::default(), clock.clone(), lease.clone()),
        clock: clock.clone(),
        settings: Settings {
            image: options.image.clone(),
            domain: options.domain.clone(),
            agent: options.agent.clone(),
            operator: OperatorPods { namespace: options.namespace.clone(), labels },
        },
        sources: Sources { keys: Mutex::new(Box::new(SystemKeys)), nonce: Mutex::new(Box::new(random)) },
        me,
        habits: Habits::default(),
    }
}

/// From the system: what it makes is never asked for twice.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut bytes).expect("the system has random numbers");
    u64::from_ne_bytes(bytes)
}

/// Until the process is told to end.
pub async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (
        signal(SignalKind::terminate()).expect("signals can be waited for"),
        signal(SignalKind::interrupt()).expect("signals can be waited for"),
    );
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

impl Manager {
    fn leads(&self) -> bool {
        self.lease.holds(&*self.clock) && !self.stopping.load(Ordering::Relaxed)
    }

    async fn tend(self: &Arc<Self>, live: &Live) {
        let before = self.leads();
        if let Err(why) = self.lease.tend(live, &*self.clock).await {
            tracing::warn!(%why, "the lease");
        }
        self.alive.store(self.clock.steady().as_secs(), Ordering::Relaxed);
        let leads = self.leads();
        self.metrics.leader(leads);
        if leads != before {
            tracing::info!(leads, "whether this operator leads has changed");
        }
        if leads && !before {
            for name in self.wakeups.all() {
                self.wake(name);
            }
        }
    }

    /// Passes that are under way end by themselves, none begins, and the lease is let go.
    async fn stop(&self, live: &Live) {
        self.stopping.store(true, Ordering::Relaxed);
        let all = u32::try_from(AT_ONCE).expect("a few");
        let idle = tokio::time::timeout(Duration::from_secs(20), self.at_once.acquire_many(all)).await;
        if idle.is_err() {
            tracing::warn!("a pass is still under way: the lease is left to end");
            return;
        }
        if let Err(why) = self.lease.release(live).await {
            tracing::warn!(%why, "the lease was not let go");
        }
        tracing::info!("the operator ends");
    }

    /// Something about a cluster has changed.
    fn wake(self: &Arc<Self>, name: Name) {
        if let Some(bell) = self.wakeups.ring(&name) {
            let manager = self.clone();
            tokio::spawn(async move { manager.attend(name, bell).await });
        }
    }

    /// Passes over one cluster, whenever it is time, until there is none of the name.
    async fn attend(&self, name: Name, bell: Arc<wakeup::Bell>) {
        let mut memory = Memory::default();
        loop {
            let again = if self.leads() { self.pass(&name, &mut memory).await } else { Again::In(PERIOD) };
            match again {
                Again::Now => {}
                Again::In(wait) => bell.wait(wait).await,
                Again::Never if self.wakeups.forget(&name) => {
                    self.metrics.forget(&name);
                    return;
                }
                Again::Never => {}
            }
        }
    }

    async fn pass(&self, name: &Name, memory: &mut Memory) -> Again {
        let Ok(_turn) = self.at_once.acquire().await else { return Again::In(PERIOD) };
        let begun = self.clock.steady();
        let result = tokio::time::timeout(LONGEST_PASS, self.controller.pass(name, memory)).await;
        self.metrics.took(self.clock.steady().saturating_sub(begun));
        match result {
            Ok(Ok(report)) => {
                self.metrics.report(name, &report);
                report.again
            }
            Ok(Err(why)) => {
                tracing::warn!(cluster = %name, %why, "the pass failed");
                self.metrics.failed(name, "Unreadable");
                Again::In(PERIOD)
            }
            Err(_) => {
                tracing::error!(cluster = %name, "the pass did not end");
                self.metrics.failed(name, "Overdue");
                Again::In(PERIOD)
            }
        }
    }

    fn alive(&self) -> bool {
        let last = Duration::from_secs(self.alive.load(Ordering::Relaxed));
        self.clock.steady().saturating_sub(last) < ALIVE
    }

    fn ready(&self) -> bool {
        self.alive() && self.watched.load(Ordering::Relaxed) >= watch::KINDS
    }
}
