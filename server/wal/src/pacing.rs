//! When to wait a little before a sync, so that writes that trickle share one.
//!
//! At low load an fdatasync for every write costs more CPU than everything else a write does. Pure: time comes in as a
//! duration since some start.

use std::time::Duration;

/// The policy's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// The longest a write waits for company. Zero turns pacing off. Default 400 µs.
    pub linger: Duration,
    /// Syncs begin at least this far apart while writes overlap: the cap on syncs a second. Default 600 µs.
    pub interval: Duration,
    /// How long one overlap of writes counts as "writes trickle". Default 1 ms.
    pub window: Duration,
    /// Bytes queued at which waiting gains nothing: a sync of this much costs visibly more than a small one. Default
    /// 128 KiB.
    pub enough: usize,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            linger: Duration::from_micros(400),
            interval: Duration::from_micros(600),
            window: Duration::from_millis(1),
            enough: 128 << 10,
        }
    }
}

/// The policy. A write that arrives while an earlier one is unanswered is an overlap; a lone client's next write comes
/// only after its last was answered, so it never makes one and never waits.
#[derive(Debug, Clone)]
pub struct Pacer {
    settings: Pacing,
    overlap: Option<Duration>,
    first_waiting: Option<Duration>,
    sync_began: Option<Duration>,
}

impl Pacer {
    /// A policy that has seen nothing.
    pub fn new(settings: Pacing) -> Self {
        Self { settings, overlap: None, first_waiting: None, sync_began: None }
    }

    /// A write arrived at `now`; `unanswered` are the writes before it that nobody has an answer to.
    pub fn arrived(&mut self, now: Duration, unanswered: usize) {
        if unanswered > 0 {
            self.overlap = Some(now);
        }
        self.first_waiting.get_or_insert(now);
    }

    /// How long from `now` until the queue should be written; zero is at once.
    pub fn wait(&self, now: Duration, queued_bytes: usize) -> Duration {
        let Some(first) = self.first_waiting else {
            return Duration::ZERO;
        };
        let Some(began) = self.sync_began else {
            return Duration::ZERO;
        };
        let trickles = self.overlap.is_some_and(|at| now.saturating_sub(at) <= self.settings.window);
        if !trickles || queued_bytes >= self.settings.enough {
            return Duration::ZERO;
        }
        let until = (first + self.settings.linger).min(began + self.settings.interval);
        until.saturating_sub(now)
    }

    /// The queue is being written now; `left` says whether something stayed in it.
    pub fn began(&mut self, now: Duration, left: bool) {
        self.sync_began = Some(now);
        self.first_waiting = left.then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_lone_client_never_waits() {
        let mut pacer = Pacer::new(Pacing::default());
        let mut now = us(0);
        for _ in 0..100 {
            pacer.arrived(now, 0);
            assert_eq!(pacer.wait(now, 300), Duration::ZERO);
            pacer.began(now, false);
            now += us(150);
        }
    }

    #[test]
    fn overlapping_writes_share_syncs() {
        let mut pacer = Pacer::new(Pacing::default());
        pacer.arrived(us(0), 0);
        pacer.began(us(0), false);
        pacer.arrived(us(100), 1);
        assert_eq!(pacer.wait(us(130), 300), us(370), "until linger after it arrived");
        pacer.arrived(us(300), 1);
        assert_eq!(pacer.wait(us(300), 600), us(200), "a second one does not put it off");
        assert_eq!(pacer.wait(us(500), 600), Duration::ZERO);
    }

    #[test]
    fn a_slow_disk_or_much_data_is_not_slowed_further() {
        let mut pacer = Pacer::new(Pacing::default());
        pacer.began(us(0), false);
        pacer.arrived(us(100), 3);
        assert_eq!(pacer.wait(us(130), 128 << 10), Duration::ZERO, "enough bytes");
        assert_eq!(pacer.wait(us(700), 300), Duration::ZERO, "the last sync began long enough ago");
    }

    #[test]
    fn an_old_overlap_is_forgotten() {
        let mut pacer = Pacer::new(Pacing::default());
        pacer.arrived(us(0), 0);
        pacer.arrived(us(10), 1);
        pacer.began(us(20), false);
        pacer.began(us(1400), false);
        pacer.arrived(us(1500), 0);
        assert_eq!(pacer.wait(us(1500), 300), Duration::ZERO);
    }

    #[test]
    fn syncs_a_second_are_capped() {
        let mut pacer = Pacer::new(Pacing::default());
        let mut rng = crate::testing::Rng::new(1);
        let (mut syncs, mut waiting, mut free_at) = (0u32, 0usize, us(0));
        for tick in 0..100_000u64 {
            let now = us(tick * 10);
            let unanswered = waiting + usize::from(now < free_at);
            if rng.chance(5) {
                pacer.arrived(now, unanswered);
                waiting += 1;
            }
            if waiting > 0 && now >= free_at && pacer.wait(now, waiting * 300).is_zero() {
                pacer.began(now, false);
                (waiting, free_at, syncs) = (0, now + us(130), syncs + 1);
            }
        }
        assert!((1_000..2_100).contains(&syncs), "{syncs} syncs in a second of 5,000 writes");
    }

    #[test]
    fn zero_linger_is_off() {
        let mut pacer = Pacer::new(Pacing { linger: Duration::ZERO, ..Pacing::default() });
        pacer.began(us(0), false);
        pacer.arrived(us(10), 5);
        assert_eq!(pacer.wait(us(10), 1), Duration::ZERO);
    }
}
