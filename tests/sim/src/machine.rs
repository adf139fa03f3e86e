//! A simulated machine: it runs tasks in an order of its own, pauses, dies, and has a clock that goes wrong.

use std::sync::Arc;
use std::task::Waker;

use keepstone::host::Host;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant};

use crate::dice::Dice;

const MILLION: i64 = 1_000_000;
/// Finished tasks that may be remembered before they are cleared away.
const TASKS: usize = 4096;

/// Tells its time: straight lines, each beginning where the last ended.
#[derive(Clone, Copy, Debug)]
struct Clock {
    real: Instant,
    shown: Instant,
    /// Microseconds too many per second.
    fast: i64,
}

impl Clock {
    fn now(&self) -> Instant {
        self.shown + scale(self.real.elapsed(), MILLION + self.fast, MILLION)
    }

    fn when(&self, shown: Instant) -> Instant {
        let wait = shown.saturating_duration_since(self.shown);
        self.real + scale(wait, MILLION, MILLION + self.fast) + Duration::from_nanos(u64::from(!wait.is_zero()))
    }
}

fn scale(time: Duration, by: i64, over: i64) -> Duration {
    let nanos = time.as_nanos() * by.unsigned_abs() as u128 / over.unsigned_abs() as u128;
    Duration::from_nanos(nanos as u64)
}

/// The machine. Its name is its member's.
pub struct Machine {
    pub id: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    dice: Dice,
    clock: Clock,
    paused: bool,
    dead: bool,
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    /// Times of a hundred that a task has to queue again before it goes on.
    shuffle: u64,
}

impl Machine {
    pub fn start(id: u64, dice: Dice, shuffle: u64, fast: i64) -> Arc<Self> {
        let now = Instant::now();
        let clock = Clock { real: now, shown: now, fast };
        let (waiting, tasks) = (Vec::new(), Vec::new());
        let inner = Inner { dice, clock, paused: false, dead: false, waiting, tasks, shuffle };
        Arc::new(Self { id, inner: Mutex::new(inner) })
    }

    /// Nothing goes on here until [`Machine::resume`].
    pub fn pause(&self) {
        self.inner.lock().paused = true;
    }

    pub fn resume(&self) {
        let mut inner = self.inner.lock();
        inner.paused = false;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub fn is_paused(&self) -> bool {
        self.inner.lock().paused
    }

    /// Everything ends here, now.
    pub fn kill(&self) {
        let mut inner = self.inner.lock();
        inner.dead = true;
        let tasks = std::mem::take(&mut inner.tasks);
        drop(inner);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// From now on the clock gains so many microseconds a second, or loses them.
    pub fn set_clock(&self, fast: i64) {
        let clock = &mut self.inner.lock().clock;
        *clock = Clock { real: Instant::now(), shown: clock.now(), fast };
    }
}

impl Host for Machine {
    fn admits(&self, task: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if inner.dead {
            return false;
        }
        if inner.paused {
            inner.waiting.push(task.clone());
            return false;
        }
        let shuffle = inner.shuffle;
        let again = inner.dice.chance(shuffle);
        drop(inner);
        if again {
            task.wake_by_ref();
        }
        !again
    }

    fn started(&self, task: AbortHandle) {
        let mut inner = self.inner.lock();
        if inner.dead {
            task.abort();
            return;
        }
        if inner.tasks.len() >= TASKS {
            inner.tasks.retain(|task| !task.is_finished());
        }
        inner.tasks.push(task);
    }

    fn now(&self) -> Instant {
        self.inner.lock().clock.now()
    }

    fn when(&self, local: Instant) -> Instant {
        self.inner.lock().clock.when(local)
    }

    fn random(&self) -> u64 {
        let drawn = self.inner.lock().dice.bits();
        crate::note!("m{} draws {drawn:016x}", self.id);
        drawn
    }
}
