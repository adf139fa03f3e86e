//! The leader's clock of leases: renewals stay here, ends and checkpoints become proposals.
//!
//! Never changes a lease by itself: it learns what became of one as every member does, when that is applied. Lock
//! order: the state's lock first, then this clock's.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use keepstone_proto::etcdserverpb::{InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest};
use keepstone_proto::keepstonepb::LeaseExpire;
use keepstone_state::{Error, LeaseChange, LeaseId, Leases};
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use super::expiry::{Expiry, Known, Renewed, Rules};
use crate::api::context::Context;
use crate::api::error::status;
use crate::config::Config;
use crate::host;
use crate::metrics::Metrics;

/// How often ends are looked for.
const TICK: Duration = Duration::from_millis(500);
/// Leases that end in one proposal at most: what their deletes may add to one apply.
const ENDS_A_TICK: usize = 1000;
/// Keys that one such proposal deletes at most, unless a single lease has more.
const KEYS_A_TICK: usize = 10_000;
/// When ends that were refused are proposed again.
const RETRY: Duration = Duration::from_secs(3);
/// How long a lease goes without renewal before what is left of it is noted.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5 * 60);
/// Leases noted in one proposal, and such proposals of one tick at most.
const CHECKPOINTS_A_PROPOSAL: usize = 1000;
const CHECKPOINT_PROPOSALS_A_TICK: usize = 16;
/// Pause before a new leader asks again whether it still leads.
const RETRY_PROMOTION: Duration = Duration::from_millis(100);

/// The shortest TTL that a lease is granted for, in seconds: its holder must live through an election.
pub fn min_ttl(config: &Config) -> i64 {
    let tick = config.heartbeat_interval.as_millis().max(1);
    let ticks = config.election_timeout.as_millis() / tick;
    let least = (3 * ticks / 2) * tick;
    i64::try_from(least.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// What became of a renewal.
#[derive(Debug)]
pub enum Renewal {
    /// For so many seconds.
    For(i64),
    /// There is no such lease.
    Unknown,
    /// Ask again once this resolves: its end or a note of it is on its way through the log.
    Later(oneshot::Receiver<()>),
    /// Its checkpoint must be cleared in the log first.
    ClearFirst,
    /// This member does not lead, or has not taken over the leases yet.
    NotLeading,
    /// The leader would have to be asked again, and to wait.
    AskAgain,
}

/// When each lease ends, as long as this member leads.
pub struct LeaseClock {
    origin: Instant,
    inner: Mutex<Inner>,
    /// The term that this member's clock runs for.
    term: watch::Sender<Option<u64>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Inner {
    expiry: Expiry,
    /// Renewals that wait for a lease to change; woken by being dropped. One a keepalive stream at most.
    waiting: HashMap<LeaseId, Vec<oneshot::Sender<()>>>,
}

impl LeaseClock {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let (origin, term) = (host::now(), watch::Sender::new(None));
        Arc::new(Self { origin, inner: Mutex::default(), term, metrics })
    }

    fn now(&self) -> Duration {
        host::now().saturating_duration_since(self.origin)
    }

    /// What a run of entries changed. Call it under the state's write lock.
    pub fn applied(&self, changes: &[LeaseChange]) {
        if changes.is_empty() {
            return;
        }
        self.count(changes);
        let now = self.now();
        let mut inner = self.inner.lock();
        for change in changes {
            match *change {
                LeaseChange::Granted(id, ttl) => inner.expiry.grant(now, id, ttl),
                LeaseChange::Checkpointed(id, remaining_ttl) => {
                    inner.expiry.checkpointed(id, remaining_ttl);
                    inner.waiting.remove(&id);
                }
                LeaseChange::Gone(id) => {
                    inner.expiry.revoke(id);
                    inner.waiting.remove(&id);
                }
            }
        }
    }

    fn count(&self, changes: &[LeaseChange]) {
        for change in changes {
            match change {
                LeaseChange::Granted(_, ttl) => {
                    self.metrics.leases.granted.inc();
                    self.metrics.leases.ttl.observe(*ttl as f64);
                }
                LeaseChange::Gone(_) => self.metrics.leases.revoked.inc(),
                LeaseChange::Checkpointed(..) => {}
            }
        }
    }

    /// Starts a lease's time anew. Call it only after leadership was confirmed.
    pub fn renew(&self, id: LeaseId) -> Renewal {
        let now = self.now();
        let mut inner = self.inner.lock();
        if !inner.expiry.leads() {
            return Renewal::NotLeading;
        }
        match inner.expiry.renew(now, id) {
            Renewed::For(ttl) => Renewal::For(ttl),
            Renewed::Unknown => Renewal::Unknown,
            Renewed::ClearFirst => Renewal::ClearFirst,
            Renewed::Ended | Renewed::BeingNoted => {
                let (tx, rx) = oneshot::channel();
                let waiting = inner.waiting.entry(id).or_default();
                waiting.retain(|waiter| !waiter.is_closed());
                waiting.push(tx);
                Renewal::Later(rx)
            }
        }
    }

    /// What is left of a lease, and what it was granted for in seconds; `None` if this clock does not have it.
    pub fn remaining(&self, id: LeaseId) -> Option<(Duration, i64)> {
        self.inner.lock().expiry.remaining(self.now(), id)
    }

    /// Sorts leases by their ends; as they are while this member does not lead.
    pub fn sort(&self, ids: &mut [LeaseId]) {
        let inner = self.inner.lock();
        ids.sort_by_cached_key(|id| inner.expiry.ends(*id));
    }

    /// The term this clock runs for, while it does.
    pub fn term(&self) -> watch::Receiver<Option<u64>> {
        self.term.subscribe()
    }

    fn promote(&self, term: u64, leases: &Leases, rules: Rules) {
        let known = leases.iter().map(|(id, lease)| Known { id, ttl: lease.ttl, remaining_ttl: lease.remaining_ttl });
        let mut inner = self.inner.lock();
        inner.expiry.promote(self.now(), known, rules);
        inner.waiting.clear();
        self.term.send_replace(Some(term));
    }

    fn demote(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        self.term.send_replace(None);
    }

    /// A snapshot has replaced the state, which happens to no leader.
    pub fn replaced(&self) {
        self.demote();
    }

    fn due(&self) -> Vec<LeaseId> {
        self.inner.lock().expiry.due(self.now(), ENDS_A_TICK)
    }

    fn retry(&self, ids: &[LeaseId], after: Duration) {
        self.inner.lock().expiry.retry(ids, self.now() + after);
    }

    fn due_notes(&self) -> Vec<(LeaseId, i64)> {
        self.inner.lock().expiry.due_notes(self.now(), CHECKPOINTS_A_PROPOSAL)
    }

    fn not_noted(&self, notes: &[(LeaseId, i64)]) {
        let mut inner = self.inner.lock();
        inner.expiry.not_noted(notes);
        for (id, _) in notes {
            inner.waiting.remove(id);
        }
    }
}

/// Starts the clock's tasks on the current runtime. They end with the member.
pub(super) fn start(ctx: &Arc<Context>) {
    host::spawn(follow_leadership(Arc::downgrade(ctx)));
    host::spawn(run(Arc::downgrade(ctx)));
}

/// The term that this member leads in, as Raft says now.
fn leads_in(ctx: &Context) -> Option<u64> {
    let metrics = ctx.raft.server_metrics();
    let now = metrics.borrow_watched();
    (now.current_leader == Some(now.id)).then_some(now.vote.leader_id.term)
}

/// Runs the clock while this member leads, anew for each term.
async fn follow_leadership(member: Weak<Context>) {
    let Some(ctx) = member.upgrade() else { return };
    let mut changes = ctx.raft.server_metrics();
    drop(ctx);
    loop {
        // Seen before the look, so that what changes after it wakes this task.
        drop(changes.borrow_and_update());
        let Some(ctx) = member.upgrade() else { return };
        let settled = take_over(&ctx).await;
        drop(ctx);
        if !settled {
            tokio::time::sleep(RETRY_PROMOTION).await;
        } else if changes.changed().await.is_err() {
            // Raft has stopped: nobody waits any longer for what it would decide.
            if let Some(ctx) = member.upgrade() {
                ctx.core.leases.demote();
            }
            return;
        }
    }
}

/// Starts or stops the clock as Raft has it; false if that has to be tried again.
async fn take_over(ctx: &Context) -> bool {
    let clock = &ctx.core.leases;
    let leads = leads_in(ctx);
    if *clock.term.borrow() == leads {
        return true;
    }
    clock.demote();
    let Some(term) = leads else { return true };
    // What earlier leaders granted and noted has to be applied before it is looked at.
    if ctx.linearizable().await.is_err() || leads_in(ctx) != Some(term) {
        return false;
    }
    let checkpoint = ctx.config.features.lease_checkpoint.then_some(CHECKPOINT_EVERY);
    let rules = Rules { extend: ctx.config.election_timeout, checkpoint };
    let state = ctx.core.state.read();
    clock.promote(term, state.leases(), rules);
    true
}

/// Proposes what has become due, tick by tick.
async fn run(member: Weak<Context>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = false;
    loop {
        ticks.tick().await;
        let Some(ctx) = member.upgrade() else { return };
        let outcome = tick(&ctx).await;
        if let Err(error) = &outcome
            && !refused
        {
            tracing::warn!(%error, "leases that have expired could not be revoked; trying again");
        }
        refused = outcome.is_err();
    }
}

async fn tick(ctx: &Context) -> Result<(), Status> {
    let Some(term) = *ctx.core.leases.term.borrow() else { return Ok(()) };
    let due = ctx.core.leases.due();
    if !due.is_empty() {
        let (now, later) = split_by_keys(ctx, &due);
        ctx.core.leases.retry(later, Duration::ZERO);
        if let Err(error) = expire(ctx, term, now).await {
            ctx.core.leases.retry(now, RETRY);
            return Err(error);
        }
        tracing::debug!(leases = now.len(), "expired leases revoked");
        ctx.core.metrics.leases.expired.inc_by(now.len() as u64);
    }
    for _ in 0..CHECKPOINT_PROPOSALS_A_TICK {
        let notes = ctx.core.leases.due_notes();
        if notes.is_empty() {
            break;
        }
        let noted = checkpoint(ctx, &notes).await;
        // Those that were applied are not being noted any more: this is for leases that are none, too.
        ctx.core.leases.not_noted(&notes);
        noted?;
    }
    Ok(())
}

/// As many leases as [`KEYS_A_TICK`] allows, one at least, and the rest.
fn split_by_keys<'a>(ctx: &Context, due: &'a [LeaseId]) -> (&'a [LeaseId], &'a [LeaseId]) {
    let state = ctx.core.state.read();
    let mut keys = 0;
    let fits = due.iter().take_while(|id| {
        let room = keys < KEYS_A_TICK;
        keys += state.leases().get(**id).map_or(0, |lease| lease.keys().len());
        room
    });
    due.split_at(fits.count())
}

/// Ends leases, each at a revision of its own. A member that was deposed meanwhile must not: the new leader may have
/// renewed them.
async fn expire(ctx: &Context, term: u64, ids: &[LeaseId]) -> Result<(), Status> {
    ctx.linearizable().await?;
    if leads_in(ctx) != Some(term) {
        return Err(status(&Error::NotLeader));
    }
    let lease_expire = Some(LeaseExpire { ids: ids.iter().map(|id| id.0).collect() });
    ctx.propose(InternalRaftRequest { lease_expire, only_in_term: term, ..Default::default() }).await.map(drop)
}

/// Notes in the log how many seconds are left of each lease; 0 for all of its time.
///
/// # Errors
/// What refused the proposal; its outcome may be unknown.
pub async fn checkpoint(ctx: &Context, notes: &[(LeaseId, i64)]) -> Result<(), Status> {
    let checkpoints =
        notes.iter().map(|(id, remaining_ttl)| LeaseCheckpoint { id: id.0, remaining_ttl: *remaining_ttl }).collect();
    let lease_checkpoint = Some(LeaseCheckpointRequest { checkpoints });
    let only_in_term = (*ctx.core.leases.term.borrow()).ok_or_else(|| status(&Error::NotLeader))?;
    ctx.propose(InternalRaftRequest { lease_checkpoint, only_in_term, ..Default::default() }).await.map(drop)
}

#[cfg(test)]
mod tests {
    use keepstone_proto::etcdserverpb::LeaseGrantRequest;
    use keepstone_state::{Effects, Record, RecordError, Records, Revision, State};

    use super::*;

    const RULES: Rules = Rules { extend: Duration::from_secs(1), checkpoint: Some(CHECKPOINT_EVERY) };

    struct NoRecords;

    impl Records for NoRecords {
        fn get(&self, at: Revision) -> Result<keepstone_proto::KeyValue, RecordError> {
            Err(RecordError::Missing(at))
        }
    }

    /// A state with one lease of so many seconds, and the clock that leads it in term 1.
    fn leading(id: i64, ttl: i64) -> (State, Arc<LeaseClock>) {
        let mut state = State::new();
        let lease_grant = Some(LeaseGrantRequest { id, ttl });
        apply(&mut state, &InternalRaftRequest { lease_grant, ..Default::default() });
        let clock = LeaseClock::new(Metrics::new(crate::metrics::Options::default()));
        clock.promote(1, state.leases(), RULES);
        (state, clock)
    }

    fn apply(state: &mut State, request: &InternalRaftRequest) -> Effects {
        let mut effects = Effects::default();
        state.apply(1, 1, request, &NoRecords, &mut effects).expect("no record is read").expect("applied");
        assert_eq!(effects.records, Vec::<Record>::new());
        effects
    }

    fn later(renewal: Renewal) -> oneshot::Receiver<()> {
        match renewal {
            Renewal::Later(changed) => changed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_shortest_ttl_outlives_an_election() {
        let mut config = Config::defaults();
        assert_eq!(min_ttl(&config), 2);
        config.election_timeout = Duration::from_secs(50);
        config.heartbeat_interval = Duration::from_secs(5);
        assert_eq!(min_ttl(&config), 75);
    }

    #[test]
    fn only_a_leader_renews() {
        let (state, clock) = leading(1, 100);
        assert!(matches!(clock.renew(LeaseId(1)), Renewal::For(100)));
        assert!(matches!(clock.renew(LeaseId(2)), Renewal::Unknown));
        clock.demote();
        assert!(matches!(clock.renew(LeaseId(1)), Renewal::NotLeading));
        assert_eq!(clock.remaining(LeaseId(1)), None);
        clock.promote(2, state.leases(), RULES);
        assert_eq!(*clock.term().borrow(), Some(2));
        assert!(matches!(clock.renew(LeaseId(1)), Renewal::For(100)));
    }

    #[tokio::test]
    async fn a_renewal_that_comes_too_late_waits_for_the_end_to_be_applied() {
        let (mut state, clock) = leading(1, 100);
        // A lease without time has ended as soon as it is granted; the state never grants one.
        clock.applied(&[LeaseChange::Granted(LeaseId(7), 0)]);
        let mut waits = later(clock.renew(LeaseId(7)));
        assert_eq!(clock.due(), [LeaseId(7)]);
        assert!(waits.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Empty));
        clock.applied(&[LeaseChange::Gone(LeaseId(7))]);
        drop(waits.await);
        assert!(matches!(clock.renew(LeaseId(7)), Renewal::Unknown));

        let lease_expire = Some(LeaseExpire { ids: vec![1] });
        let gone = apply(&mut state, &InternalRaftRequest { lease_expire, ..Default::default() });
        clock.applied(&gone.leases);
        assert!(matches!(clock.renew(LeaseId(1)), Renewal::Unknown));
    }

    #[tokio::test]
    async fn losing_leadership_wakes_those_who_wait() {
        let (_, clock) = leading(1, 100);
        clock.applied(&[LeaseChange::Granted(LeaseId(7), 0)]);
        let waits = later(clock.renew(LeaseId(7)));
        clock.demote();
        drop(waits.await);
        assert!(matches!(clock.renew(LeaseId(7)), Renewal::NotLeading));
    }

    #[test]
    fn renewals_that_were_given_up_leave_nothing_behind() {
        let (_, clock) = leading(1, 100);
        clock.applied(&[LeaseChange::Granted(LeaseId(7), 0)]);
        for _ in 0..100 {
            drop(later(clock.renew(LeaseId(7))));
        }
        assert_eq!(clock.inner.lock().waiting.get(&LeaseId(7)).map(Vec::len), Some(1));
    }

    #[test]
    fn leases_are_listed_by_their_ends() {
        let (_, clock) = leading(1, 100);
        clock.applied(&[LeaseChange::Granted(LeaseId(2), 300), LeaseChange::Granted(LeaseId(3), 5)]);
        let mut ids = [LeaseId(1), LeaseId(2), LeaseId(3)];
        clock.sort(&mut ids);
        assert_eq!(ids, [LeaseId(3), LeaseId(1), LeaseId(2)]);
    }
}
