//! All machines, what is on their disks, and who runs on them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use keepstone::api::context::Context;
use keepstone::host;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;

use crate::dice::Dice;
use crate::disks::{Disks, End};
use crate::machine::Machine;
use crate::member::Member;
use crate::oracle::{OpenLog, Oracle};
use crate::plan::{Fault, Plan};
use crate::wires::Wires;
use crate::{note, trace};

/// The cluster of one run.
pub struct Cluster {
    pub plan: Plan,
    pub wires: Wires,
    dice: Mutex<Dice>,
    slots: Mutex<BTreeMap<u64, Slot>>,
    pub oracle: Oracle,
    broken: Mutex<Option<String>>,
}

/// One member's place. Its disks stay while machines come and go.
struct Slot {
    disks: Disks,
    machine: Option<Arc<Machine>>,
    /// The log, once the member has opened it.
    log: Option<OpenLog>,
    running: Option<Arc<Member>>,
    /// When it was started.
    since: Duration,
    standing: Standing,
}

/// How a member belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Founder,
    /// It was added, and has not been let in yet.
    Added,
    /// It was added and let in.
    Joined,
}

impl Slot {
    fn new(standing: Standing) -> Self {
        Self { disks: Disks::empty(), machine: None, log: None, running: None, since: Duration::ZERO, standing }
    }
}

impl Cluster {
    pub fn new(plan: Plan, mut dice: Dice) -> Arc<Self> {
        let wires = Wires::new(dice.fork());
        let slots = (1..=plan.members).map(|id| (id, Slot::new(Standing::Founder))).collect();
        let (dice, slots, oracle) = (Mutex::new(dice), Mutex::new(slots), Oracle::default());
        Arc::new(Self { plan, wires, dice, slots, oracle, broken: Mutex::new(None) })
    }

    pub fn ids(&self) -> Vec<u64> {
        self.slots.lock().keys().copied().collect()
    }

    /// The member, if it runs.
    pub fn running(&self, id: u64) -> Option<Arc<Member>> {
        self.slots.lock().get(&id)?.running.clone()
    }

    /// The machine of a member that runs or starts.
    pub fn machine(&self, id: u64) -> Option<Arc<Machine>> {
        self.slots.lock().get(&id)?.machine.clone()
    }

    /// Makes a place for a member that is being added.
    pub fn enlist(&self, id: u64) {
        self.slots.lock().entry(id).or_insert_with(|| Slot::new(Standing::Added));
    }

    /// Ends a member that was removed, for good.
    pub fn dismiss(self: &Arc<Self>, id: u64) {
        self.end(id, End::Killed);
        if self.slots.lock().remove(&id).is_some() {
            note!("m{id} is gone");
        }
    }

    pub fn standing(&self, id: u64) -> Standing {
        self.slots.lock().get(&id).map_or(Standing::Added, |slot| slot.standing)
    }

    /// A member was let in, which is on its disk.
    pub fn joined(&self, id: u64) {
        if let Some(slot) = self.slots.lock().get_mut(&id) {
            slot.standing = Standing::Joined;
        }
    }

    /// Since when a member has been up, if it is; running or not.
    pub fn up_since(&self, id: u64) -> Option<Duration> {
        self.slots.lock().get(&id).filter(|slot| slot.machine.is_some()).map(|slot| slot.since)
    }

    /// Who believes to lead, in the newest term.
    pub fn leader(&self) -> Option<u64> {
        let leads = |id: &u64| {
            let raft = self.running(*id)?.raft.clone();
            let now = raft.metrics();
            let now = now.borrow_watched();
            (now.current_leader == Some(*id)).then_some((now.current_term, *id))
        };
        self.ids().iter().filter_map(leads).max().map(|(_, id)| id)
    }

    /// What broke a promise outside of any call, if anything has.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().clone()
    }

    pub fn break_with(&self, why: String) {
        note!("BROKEN: {why}");
        self.broken.lock().get_or_insert(why);
    }

    /// Starts a member in the background, unless it runs.
    pub fn start(self: &Arc<Self>, id: u64) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&id).filter(|slot| slot.machine.is_none()) else { return };
        slot.since = trace::now();
        let mut dice = self.dice.lock().fork();
        let skew = self.plan.skew;
        let fast = match self.plan.fault {
            Some(Fault::FastClocks) => 3_000_000,
            _ => dice.within(0..2 * skew.unsigned_abs() + 1).cast_signed() - skew,
        };
        let machine = Machine::start(id, dice.fork(), self.plan.shuffle, fast);
        slot.machine = Some(machine.clone());
        let disks = slot.disks.clone();
        drop(slots);
        note!("m{id} starts");
        let this = self.clone();
        tokio::spawn(async move {
            let starting = Member::start(this.clone(), machine.clone(), disks, dice);
            match host::spawn_on(machine.clone(), starting).await {
                Ok(Ok(member)) => this.started(id, member),
                Ok(Err(why)) => this.break_with(format!("member {id} does not start: {why:#}")),
                Err(error) if error.is_panic() => this.break_with(format!("member {id} panicked at its start")),
                // Killed meanwhile.
                Err(_) => {}
            }
        });
    }

    /// A member has opened its log; it is asked what it has kept.
    pub fn opened(&self, id: u64, log: OpenLog) {
        let found = log.promise();
        if let Some(slot) = self.slots.lock().get_mut(&id) {
            slot.log = Some(log);
        }
        self.judge(self.oracle.opened(id, &found));
    }

    /// What the oracle said.
    pub fn judge(&self, verdict: Result<(), String>) {
        if let Err(why) = verdict
            && !self.plan.blind
        {
            self.break_with(why);
        }
    }

    fn started(&self, id: u64, member: Member) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&id) else { return };
        // It may have been killed between its last step and here.
        if slot.machine.as_ref().is_some_and(|machine| Arc::ptr_eq(machine, &member.machine)) {
            slot.running = Some(Arc::new(member));
            drop(slots);
            note!("m{id} runs");
        }
    }

    /// Ends a member, whatever it is doing.
    pub fn end(&self, id: u64, end: End) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(&id) else { return };
        let Some(machine) = slot.machine.take() else { return };
        machine.kill();
        slot.running = None;
        let log = slot.log.take();
        if let Some(log) = &log {
            self.oracle.ended(id, log.promise());
        }
        let mut dice = self.dice.lock().fork();
        slot.disks = slot.disks.after(end, log.as_ref().map(|log| &*log.wal), &mut dice);
        drop(slots);
        note!("m{id} ends: {end:?}, {}", dice.bits());
    }

    /// Makes the log's next sync fail.
    pub fn fail_sync(&self, id: u64) {
        if let Some(slot) = self.slots.lock().get(&id) {
            slot.disks.log.fail_fdatasync(1);
        }
    }

    /// Asks a member something, over wires that only crashes cut; `None` if no answer comes.
    pub async fn ask<T, F>(&self, id: u64, what: impl FnOnce(Arc<Context>) -> F + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let way = || self.dice.lock().millis(0..3);
        tokio::time::sleep(way()).await;
        let member = self.running(id)?;
        let (machine, ctx) = (member.machine.clone(), member.ctx.clone());
        drop(member);
        let answer = host::spawn_on(machine, async move { what(ctx).await }).await;
        if let Err(error) = &answer
            && error.is_panic()
        {
            self.break_with(format!("member {id} panicked over a request"));
        }
        tokio::time::sleep(way()).await;
        answer.ok()
    }
}
