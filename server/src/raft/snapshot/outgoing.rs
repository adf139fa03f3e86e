//! What this member has promised to those it sends its state to: the moment that is being sent, and the log after it,
//! which they will want next.
//!
//! All that lag at a time are sent the same moment, and one whose connection broke goes on with it. A promise ends when
//! it was kept, when nobody has got on with it for [`RESUME_FOR`], or when it holds back too much of the log. Nothing is
//! promised to a member that does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cut::Cut;
use super::wire::Id;
use crate::core::Core;
use crate::raft::codec::Applied;

/// How long an interrupted transfer may be taken up again.
const RESUME_FOR: Duration = Duration::from_secs(30);
/// Bytes that a transfer has to bring for its end to count as getting on: one that is refused at once, again and again,
/// keeps nothing.
const GETS_ON_BYTES: u64 = 8 << 20;
/// How often promises are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Segments of the log past which nothing is held back any more: 2 GiB at their usual size.
const HELD_SEGMENTS: usize = 32;

/// All promises of a member.
#[derive(Default)]
pub struct Outgoing {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    live: Option<Live>,
    /// Log indices after which the log is held, and how many hold each.
    holds: BTreeMap<u64, usize>,
}

/// The moment that is being sent.
struct Live {
    cut: Arc<Cut>,
    users: usize,
    /// When it was taken, or somebody last got on with it.
    idle_since: Instant,
    _hold: Hold,
}

/// Keeps the log after an index until it is dropped.
pub struct Hold {
    core: std::sync::Weak<Core>,
    index: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.outgoing.inner.lock().release(self.index);
        }
    }
}

impl Inner {
    fn hold(&mut self, core: &Arc<Core>, index: u64) -> Hold {
        *self.holds.entry(index).or_default() += 1;
        Hold { core: Arc::downgrade(core), index }
    }

    fn release(&mut self, index: u64) {
        if let Some(count) = self.holds.get_mut(&index) {
            *count -= 1;
            if *count == 0 {
                self.holds.remove(&index);
            }
        }
    }
}

/// What a snapshot that Raft asked for stands for, until it is sent.
pub struct Ticket {
    /// What Raft is told that it covers: no more than what is sent.
    pub covers: Applied,
    cut: Option<Arc<Cut>>,
    _hold: Hold,
}

impl Ticket {
    /// The name of what it stands for, if that is being sent already.
    pub fn id(&self) -> Option<Id> {
        self.cut.as_ref().map(|cut| cut.id())
    }
}

/// The use of a moment by one transfer.
pub struct Using {
    core: Arc<Core>,
    pub cut: Arc<Cut>,
    sent: AtomicU64,
    kept: AtomicBool,
}

impl Outgoing {
    /// A ticket for what is being sent already, else for the last flushed checkpoint. Costs nothing: the moment itself
    /// is taken when it is sent, and is never older.
    pub fn ticket(core: &Arc<Core>) -> Ticket {
        let mut inner = core.outgoing.inner.lock();
        let cut = inner.live.as_ref().map(|live| live.cut.clone());
        // Read under the lock that the log is purged under: what it covers is not purged before it is held.
        let covers = cut.as_ref().map_or_else(|| core.durable(), |cut| cut.applied().clone());
        let index = covers.log_id.as_ref().map_or(0, |id| id.index());
        Ticket { covers, cut, _hold: inner.hold(core, index) }
    }

    /// The moment to send for a ticket. Blocks while the small tables are copied. `None` when what the ticket stands for
    /// is gone: another is to be asked for.
    pub fn begin(core: &Arc<Core>, ticket: &Ticket) -> Option<Using> {
        let live = |inner: &mut Inner| {
            let live = inner.live.as_mut()?;
            let wanted = ticket.cut.as_ref().is_none_or(|cut| Arc::ptr_eq(cut, &live.cut));
            let covers = ticket.covers.log_id.as_ref().is_none_or(|id| id.index() <= live.cut.last().index());
            (wanted && covers).then(|| {
                live.users += 1;
                Using::new(core, &live.cut)
            })
        };
        if let Some(using) = live(&mut core.outgoing.inner.lock()) {
            return Some(using);
        }
        if ticket.cut.is_some() {
            return None;
        }
        let cut = Arc::new(Cut::take(core)?);
        let mut inner = core.outgoing.inner.lock();
        // Somebody else's may have come between; one is enough.
        if let Some(using) = live(&mut inner) {
            return Some(using);
        }
        let hold = inner.hold(core, cut.last().index());
        let old = inner.live.replace(Live { cut: cut.clone(), users: 1, idle_since: Instant::now(), _hold: hold });
        drop(inner);
        drop(old);
        Some(Using::new(core, &cut))
    }

    /// How far the log may be purged if it could be up to `up_to`. Call it right before purging, from one place.
    pub fn purgeable(&self, up_to: u64) -> u64 {
        let inner = self.inner.lock();
        inner.holds.keys().next().map_or(up_to, |held| up_to.min(*held))
    }

    /// Ends what has been promised for too long.
    fn expire(&self, segments: usize) {
        let mut inner = self.inner.lock();
        let too_much = segments > HELD_SEGMENTS;
        let over = |live: &mut Live| too_much || (live.users == 0 && live.idle_since.elapsed() >= RESUME_FOR);
        let Some(live) = inner.live.take_if(over) else { return };
        drop(inner);
        tracing::info!(index = live.cut.last().index(), too_much, "no longer keeping a snapshot for members that lag");
        live.cut.expire();
    }

    /// Drops the moment that is being sent, so that the next ticket is for a newer one.
    pub fn renew(&self) {
        let live = self.inner.lock().live.take();
        drop(live);
    }

    /// Whether a moment is kept.
    pub fn is_sending(&self) -> bool {
        self.inner.lock().live.is_some()
    }
}

impl Using {
    fn new(core: &Arc<Core>, cut: &Arc<Cut>) -> Self {
        Self { core: core.clone(), cut: cut.clone(), sent: AtomicU64::new(0), kept: AtomicBool::new(false) }
    }

    /// So many bytes more are on their way.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It was received whole.
    pub fn kept(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let mut inner = self.core.outgoing.inner.lock();
        let Some(live) = inner.live.as_mut().filter(|live| Arc::ptr_eq(&live.cut, &self.cut)) else { return };
        live.users -= 1;
        if self.sent.load(Ordering::Relaxed) >= GETS_ON_BYTES {
            live.idle_since = Instant::now();
        }
        let done = inner.live.take_if(|live| live.users == 0 && self.kept.load(Ordering::Relaxed));
        drop(inner);
        drop(done);
    }
}

/// Ends promises in time, until the member stops. `segments` counts those of the log.
pub async fn tend(core: std::sync::Weak<Core>, segments: impl Fn() -> usize) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let Some(core) = core.upgrade() else { return };
        core.outgoing.expire(segments());
    }
}
