//! `--auto-compaction-mode`: how much history to keep, by time or by revisions. The rules are etcd's.
//!
//! The rules are pure and are handed a monotonic time; the task only sleeps, asks and proposes, and that on a leader
//! alone. A follower keeps the same records, so that it can go on where the leader left off.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use keepstone_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use keepstone_state::Error;
use tokio::time::Instant;

use crate::api::context::Context;
use crate::config::AutoCompaction;
use crate::host;

/// How often the mode `revision` compacts.
const REVISION_EVERY: Duration = Duration::from_secs(5 * 60);
/// How often the mode `periodic` compacts at most.
const PERIODIC_EVERY: Duration = Duration::from_secs(3600);
/// Looks at the revision in one such interval.
const LOOKS: u32 = 10;
/// The shortest time between two looks: no retention may make a busy loop.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// Keeps the history of a period: compacts every hour, or every period if that is shorter, to the revision of one
/// period ago.
#[derive(Debug)]
pub struct Periodic {
    period: Duration,
    /// The revisions at the last looks, oldest first; as many as fit into a period.
    seen: VecDeque<i64>,
    compacted: i64,
    compacted_at: Duration,
    /// How long after the last compaction the next may come; the whole period before the first one.
    wait: Duration,
}

impl Periodic {
    pub fn new(period: Duration, now: Duration) -> Self {
        Self { period, seen: VecDeque::new(), compacted: 0, compacted_at: now, wait: period }
    }

    fn interval(&self) -> Duration {
        self.period.min(PERIODIC_EVERY)
    }

    /// Time between two looks.
    pub fn every(&self) -> Duration {
        (self.interval() / LOOKS).max(SHORTEST_LOOK)
    }

    /// A look at the revision, one [`Periodic::every`] before the next [`Periodic::due`].
    pub fn look(&mut self, revision: i64) {
        let looks = usize::try_from(self.period.as_nanos() / self.every().as_nanos()).unwrap_or(usize::MAX);
        self.seen.push_back(revision);
        if self.seen.len() > looks.saturating_add(1) {
            self.seen.pop_front();
        }
    }

    /// The revision to compact to now, if any.
    pub fn due(&mut self, now: Duration) -> Option<i64> {
        let revision = *self.seen.front()?;
        if now.saturating_sub(self.compacted_at) < self.wait || revision == self.compacted {
            return None;
        }
        if self.wait == self.period {
            self.wait = self.interval();
        }
        Some(revision)
    }

    pub fn compacted(&mut self, now: Duration, revision: i64) {
        (self.compacted, self.compacted_at) = (revision, now);
    }
}

/// Keeps so many revisions: compacts every five minutes.
#[derive(Debug)]
pub struct ByRevision {
    keep: i64,
    compacted: i64,
}

impl ByRevision {
    pub fn new(keep: i64) -> Self {
        Self { keep, compacted: 0 }
    }

    /// The revision to compact to now, if any.
    pub fn due(&self, revision: i64) -> Option<i64> {
        let to = revision - self.keep;
        (to > 0 && to != self.compacted).then_some(to)
    }

    pub fn compacted(&mut self, revision: i64) {
        self.compacted = revision;
    }
}

/// Starts the task of the configured mode.
pub(super) fn start(ctx: &Arc<Context>) {
    let member = Arc::downgrade(ctx);
    match ctx.config.auto_compaction {
        AutoCompaction::Off => {}
        AutoCompaction::Periodic(period) => drop(host::spawn(run_periodic(member, period))),
        AutoCompaction::Revision(keep) => drop(host::spawn(run_by_revision(member, keep))),
    }
}

async fn run_periodic(member: Weak<Context>, period: Duration) {
    let origin = Instant::now();
    let mut rules = Periodic::new(period, Duration::ZERO);
    loop {
        let Some(ctx) = member.upgrade() else { return };
        rules.look(ctx.core.revision());
        drop(ctx);
        tokio::time::sleep(rules.every()).await;
        let Some(ctx) = member.upgrade() else { return };
        if ctx.is_leader()
            && let Some(revision) = rules.due(origin.elapsed())
            && compact(&ctx, revision).await
        {
            rules.compacted(origin.elapsed(), revision);
        }
    }
}

async fn run_by_revision(member: Weak<Context>, keep: i64) {
    let mut rules = ByRevision::new(keep);
    loop {
        tokio::time::sleep(REVISION_EVERY).await;
        let Some(ctx) = member.upgrade() else { return };
        if ctx.is_leader()
            && let Some(revision) = rules.due(ctx.core.revision())
            && compact(&ctx, revision).await
        {
            rules.compacted(revision);
        }
    }
}

/// Whether history up to `revision` is compacted, by this or by somebody else.
async fn compact(ctx: &Context, revision: i64) -> bool {
    tracing::info!(revision, "starting auto compaction");
    let compaction = Some(CompactionRequest { revision, physical: false });
    match ctx.propose(InternalRaftRequest { compaction, ..Default::default() }).await {
        Ok(_) => {
            ctx.core.compactor.start();
            tracing::info!(revision, "completed auto compaction");
            true
        }
        Err(error) if error.message() == Error::Compacted.to_string() => true,
        Err(error) => {
            tracing::warn!(revision, %error, "failed auto compaction");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Runs the rules as the task does, one new revision a look, and names (look, revision) of each compaction.
    fn run(rules: &mut Periodic, looks: u32, first: i64, succeeds: impl Fn(u32) -> bool) -> Vec<(u32, i64)> {
        let mut compactions = Vec::new();
        for look in 1..=looks {
            rules.look(first + i64::from(look) - 1);
            let now = rules.every() * look;
            if let Some(revision) = rules.due(now) {
                compactions.push((look, revision));
                if succeeds(look) {
                    rules.compacted(now, revision);
                }
            }
        }
        compactions
    }

    #[test]
    fn an_hour_or_less_compacts_once_a_period_to_its_begin() {
        for period in [Duration::from_secs(5), 10 * MINUTE, 60 * MINUTE] {
            let mut rules = Periodic::new(period, Duration::ZERO);
            assert_eq!(rules.every(), period / 10);
            assert_eq!(run(&mut rules, 35, 1, |_| true), [(10, 1), (20, 10), (30, 20)]);
        }
    }

    #[test]
    fn more_than_an_hour_compacts_every_hour_after_the_first_period() {
        let mut rules = Periodic::new(120 * MINUTE, Duration::ZERO);
        assert_eq!(rules.every(), 6 * MINUTE);
        assert_eq!(run(&mut rules, 45, 1, |_| true), [(20, 1), (30, 10), (40, 20)]);
    }

    #[test]
    fn a_failed_compaction_is_tried_again_at_the_next_look() {
        let mut rules = Periodic::new(60 * MINUTE, Duration::ZERO);
        assert_eq!(run(&mut rules, 23, 1, |look| look >= 13), [(10, 1), (11, 1), (12, 2), (13, 3), (23, 13)]);
    }

    #[test]
    fn an_idle_store_is_compacted_once() {
        let mut rules = Periodic::new(60 * MINUTE, Duration::ZERO);
        let mut compactions = 0;
        for look in 1..=100 {
            rules.look(5);
            let now = rules.every() * look;
            if let Some(revision) = rules.due(now) {
                compactions += 1;
                rules.compacted(now, revision);
            }
        }
        assert_eq!(compactions, 1);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_no_period_is_too_short() {
        let mut rules = Periodic::new(24 * 60 * MINUTE, Duration::ZERO);
        (0..1000).for_each(|revision| rules.look(revision));
        assert_eq!(rules.seen.len(), 241);
        let mut rules = Periodic::new(Duration::from_nanos(1), Duration::ZERO);
        assert_eq!(rules.every(), SHORTEST_LOOK);
        rules.look(1);
        rules.look(2);
        assert_eq!(rules.seen.len(), 1);
    }

    #[test]
    fn revisions_are_kept_by_their_number() {
        let mut rules = ByRevision::new(100);
        assert_eq!(rules.due(100), None);
        assert_eq!(rules.due(101), Some(1));
        assert_eq!(rules.due(250), Some(150));
        rules.compacted(150);
        assert_eq!(rules.due(250), None);
        assert_eq!(rules.due(251), Some(151));
    }
}
