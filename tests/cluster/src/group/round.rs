//! One round: a new cluster, so many seconds of trouble under load, and the verdict.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use keepstone_check::{Op, Outcome, Summary};
use keepstone_proto::etcdserverpb::{LeaseLeasesRequest, PutRequest};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::clients::{Asked, Caller};
use super::members::Group;
use super::nemesis::{Done, Nemesis};
use super::ops::Plant;
use super::verdict;
use super::watchers::Watcher;
use crate::client::revision;
use crate::member::PATIENCE;

/// The longest that trouble lasts in a round: what a round's history takes in memory, and in time to judge, is bounded.
const TROUBLE: Duration = Duration::from_secs(60);
/// What founding, the end and the verdict take beside it, about.
const AROUND: Duration = Duration::from_secs(10);
const LEAST: Duration = Duration::from_secs(10);

/// What a round is like. Follows from its seed, but for how much time is left.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub members: usize,
    clients: u64,
    watchers: u64,
    trouble: Duration,
    /// What is kept of the log: see [`LOG`].
    log: (&'static str, &'static str),
    plant: Option<Plant>,
}

impl Plan {
    pub fn of(seed: u64, members: Option<usize>, plant: Option<Plant>, left: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let drawn = if rng.random_bool(0.6) { 3 } else { 5 };
        Self {
            seed,
            members: members.unwrap_or(drawn),
            clients: rng.random_range(6..14),
            watchers: rng.random_range(4..9),
            log: LOG[rng.random_range(0..LOG.len())],
            plant,
            trouble: left.saturating_sub(AROUND).clamp(LEAST, TROUBLE),
        }
    }
}

/// What a round has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rounds: u32,
    calls: usize,
    watched: usize,
    summary: Summary,
    faults: Done,
    ended_full: u32,
    longest_pause: Duration,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.calls += other.calls;
        self.watched += other.watched;
        self.summary.revisions += other.summary.revisions;
        self.summary.writes += other.summary.writes;
        self.summary.reads += other.summary.reads;
        self.summary.carried_out += other.summary.carried_out;
        self.summary.not_carried_out += other.summary.not_carried_out;
        self.summary.lease_ends += other.summary.lease_ends;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        self.ended_full += other.ended_full;
        self.longest_pause = self.longest_pause.max(other.longest_pause);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { revisions, writes, reads, carried_out, not_carried_out, lease_ends } = self.summary;
        write!(
            f,
            "{} rounds, {} calls: {writes} writes and {reads} reads answered, {carried_out} unanswered writes carried out, \
             {not_carried_out} calls not; {revisions} revisions, {lease_ends} lease ends, {} watch responses; faults {}: ",
            self.rounds,
            self.calls,
            self.watched,
            self.faults.values().sum::<u32>()
        )?;
        let faults: Vec<String> = self.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
        write!(
            f,
            "{} ({} ended for a full disk); longest pause {:.2} s",
            faults.join(", "),
            self.ended_full,
            self.longest_pause.as_secs_f64()
        )
    }
}

/// Runs a round.
///
/// # Errors
/// What was broken; the directory, which has the members' logs, is kept.
pub async fn run(plan: &Plan) -> Result<Report> {
    let dir = tempfile::Builder::new().prefix("keepstone-group-").tempdir()?;
    match within(plan, &dir.path().canonicalize()?).await {
        Err(why) => Err(why.context(format!("kept {}", dir.keep().display()))),
        report => report,
    }
}

/// Entries between two checkpoints, and entries kept for those that lag: a member that comes back finds what it needs in
/// the log, or is sent a snapshot.
const LOG: [(&str, &str); 3] = [("300", "50"), ("3000", "500"), ("10000", "5000")];

async fn within(plan: &Plan, dir: &std::path::Path) -> Result<Report> {
    let (every, kept) = plan.log;
    let flags = ["--snapshot-count", every, "--snapshot-catchup-entries", kept].map(str::to_owned);
    let mut group = Group::found(dir, plan.members, &flags, plan.plant).await?;
    let (world, goal) = (group.world.clone(), Arc::new(AtomicI64::new(0)));
    let callers = (1..=plan.clients).map(|n| tokio::spawn(Caller::new(n, plan.seed, world.clone()).run()));
    let callers: Vec<_> = callers.collect();
    let watchers = (0..plan.watchers).map(|n| Watcher::new(n, plan.seed, world.clone(), goal.clone()));
    let watchers: Vec<_> = watchers.map(|watcher| tokio::spawn(watcher.run())).collect();
    let mut nemesis = Nemesis::new(plan.seed);
    let troubled = nemesis.run(&mut group, Instant::now() + plan.trouble).await;
    world.stop.store(true, Ordering::Relaxed);
    let mut asked = Vec::new();
    for caller in callers {
        asked.extend(caller.await?);
    }
    troubled?;
    let (last, settled) = settle(&mut group, plan.seed).await.context("the end")?;
    asked.extend(settled);
    goal.store(last, Ordering::Relaxed);
    let mut watches = Vec::new();
    let until = tokio::time::Instant::now() + PATIENCE;
    for watcher in watchers {
        let log = tokio::time::timeout_at(until, watcher).await;
        watches.push(log.with_context(|| format!("a watch does not reach revision {last}"))???);
    }
    verdict::same_everywhere(&group, last).await?;
    group.all_run()?;
    group.no_panics()?;
    let (calls, longest_pause) = (asked.len(), world.longest_pause());
    let watched = watches.iter().map(|log| log.deliveries.len()).sum();
    let summary = tokio::task::spawn_blocking(move || verdict::judge(asked, &watches)).await??;
    let (faults, ended_full) = (nemesis.done, nemesis.ended_full);
    Ok(Report { rounds: 1, calls, watched, summary, faults, ended_full, longest_pause })
}

/// Ends all leases, so that nothing changes any more, and makes the last revision.
async fn settle(group: &mut Group, seed: u64) -> Result<(i64, Vec<Asked>)> {
    quiet(group).await?;
    let mut caller = Caller::new(0, seed, group.world.clone());
    let until = Instant::now() + PATIENCE;
    loop {
        let mut client = group.connect(0).await?;
        let leases = client.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases;
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            caller.ask(Op::Revoke(lease.id), PATIENCE).await;
        }
        if Instant::now() > until {
            bail!("there are still leases");
        }
    }
    let value = format!("last {seed}");
    let put = PutRequest { key: "last".into(), value: value.into(), ..Default::default() };
    caller.ask(Op::Put(put), PATIENCE).await;
    match caller.asked.last().map(|one| &one.call) {
        Some(call) if matches!(call.outcome, Outcome::Put(_)) => Ok((call.revision().unwrap_or(0), caller.asked)),
        other => bail!("the last write was answered {other:?}"),
    }
}

/// How long nothing must have changed until what clients gave up on counts as done, or as never to be.
const QUIET: Duration = Duration::from_millis(300);

async fn quiet(group: &mut Group) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut before = 0;
    loop {
        group.all_serve().await?;
        let now = revision(group.connect(0).await?.all(0).await?.header);
        if now == before {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("there are still changes");
        }
        before = now;
        tokio::time::sleep(QUIET).await;
    }
}
