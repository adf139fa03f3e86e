//! One run: a seed in, a verdict out.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use keepstone::api::kv::KvService;
use keepstone_check::{Call, History, Op, Outcome, Summary, check_calls, check_watch};
use keepstone_proto::etcdserverpb::RangeRequest;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::load::{self, Load, PATIENCE};
use crate::plan::Plan;
use crate::watchers::Watcher;
use crate::{agreement, churn, nemesis, note, stall, trace};

/// What a run that kept every promise has to say.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub seed: u64,
    pub members: u64,
    pub hash: u64,
    pub lines: u64,
    pub simulated: Duration,
    pub summary: Summary,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, members, hash, lines, simulated, summary } = self;
        write!(
            f,
            "seed {seed}: {members} members, {:.1} s, {summary:?}, {lines} lines, hash {hash:016x}",
            simulated.as_secs_f64()
        )
    }
}

/// Runs a plan on this thread.
///
/// # Errors
/// The promise that was broken.
pub fn run(plan: &Plan, print: bool) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let report = runtime.block_on(async {
        trace::begin(print);
        note!("{plan:?}");
        let verdict = simulate(plan).await;
        let (hash, lines) = trace::hash();
        let (seed, members) = (plan.seed, plan.members);
        verdict.map(|summary| Report { seed, members, hash, lines, simulated: trace::now(), summary })
    });
    // What is left belongs to machines that nobody looks at any more.
    std::mem::forget(runtime);
    report
}

async fn simulate(plan: &Plan) -> Result<Summary> {
    let mut dice = plan.dice();
    let cluster = Cluster::new(plan.clone(), dice.fork());
    cluster.ids().into_iter().for_each(|id| cluster.start(id));
    let load = Arc::new(Load::default());
    let goal = Arc::new(AtomicI64::new(0));
    let mut watchers = Vec::new();
    let mut watching: Vec<JoinHandle<()>> = Vec::new();
    for number in 0..plan.watchers {
        let watcher = Arc::new(Watcher::new(number, plan.keys, &mut dice, goal.clone()));
        watching.push(tokio::spawn(watcher.clone().run(cluster.clone(), load.clone(), dice.fork())));
        watchers.push(watcher);
    }
    let mut clients = Vec::new();
    for number in 0..plan.clients {
        clients.push(tokio::spawn(load::client(number, cluster.clone(), load.clone(), dice.fork())));
    }
    let churning = tokio::spawn(churn::run(cluster.clone(), load.clone(), dice.fork()));
    let trouble = tokio::spawn(nemesis::run(cluster.clone(), load.clone(), dice.fork()));

    let over = async {
        tokio::time::sleep(plan.length).await;
        Ok(())
    };
    unless_broken(&cluster, over).await?;
    load.stop.store(true, Ordering::Relaxed);
    for task in clients.into_iter().chain([churning, trouble]) {
        task.await.map_err(|error| anyhow!("the simulator itself: {error}"))?;
    }
    // What was begun still ends: somebody may start, resume or fail late.
    tokio::time::sleep(Duration::from_secs(5)).await;
    nemesis::stop(&cluster);
    let caretaker = tokio::spawn(keep_up(cluster.clone(), dice.fork()));
    let members = async {
        let ended = tokio::time::timeout(PATIENCE, churn::settle(&cluster)).await;
        ended.map_err(|_| anyhow!("STALL: nobody says who is a member; {}", stall::report(&cluster)))
    };
    unless_broken(&cluster, members).await?;
    let last = unless_broken(&cluster, settle(&cluster, &load)).await?;
    goal.store(last, Ordering::Relaxed);
    for (task, watcher) in watching.into_iter().zip(&watchers) {
        let name = watcher.log.lock().name.clone();
        let ended = unless_broken(&cluster, async { Ok(tokio::time::timeout(PATIENCE, task).await) }).await?;
        let next = watcher.next();
        ended.map_err(|_| {
            anyhow!("STALL: watch {name} waits for {next} and does not reach {last}; {}", stall::report(&cluster))
        })??;
    }
    unless_broken(&cluster, agreement::check(&cluster, last)).await?;
    caretaker.abort();
    judge(plan, &load, &watchers)
}

/// Waits, but not once something is broken: that is the verdict, whatever else comes of it.
async fn unless_broken<T>(cluster: &Arc<Cluster>, wait: impl Future<Output = Result<T>>) -> Result<T> {
    let broken = async {
        loop {
            if let Some(why) = cluster.broken() {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        why = broken => bail!("{why}"),
        done = wait => done,
    }
}

/// Restarts who stops by itself.
async fn keep_up(cluster: Arc<Cluster>, mut dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        nemesis::restart_failed(&cluster, &mut dice);
    }
}

/// Waits until every member answers a linearizable list of everything or, where only a leader can, shows one that has
/// caught up. These lists are part of what is checked. Returns the last revision.
async fn settle(cluster: &Arc<Cluster>, load: &Load) -> Result<i64> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let last = loop {
        if tokio::time::Instant::now() > deadline {
            bail!("STALL: no member answers {PATIENCE:?} after all is well again; {}", stall::report(cluster));
        }
        let Some(leader) = cluster.leader() else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Twice as long as any lease: nothing changes any more then.
        match list(cluster, load, leader, false).await {
            Some(revision) if load.quiet(revision) => break revision,
            _ => tokio::time::sleep(Duration::from_secs(15)).await,
        }
    };
    for id in cluster.ids() {
        while list(cluster, load, id, true).await != Some(last) {
            if tokio::time::Instant::now() > deadline {
                if let Some(difference) = stall::difference(cluster) {
                    bail!("{difference}");
                }
                let standing = stall::report(cluster);
                bail!("STALL: m{id} does not reach revision {last} {PATIENCE:?} after all is well again; {standing}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(last)
}

/// Lists everything on a member; what it says counts like any client's read.
async fn list(cluster: &Arc<Cluster>, load: &Load, id: u64, serializable: bool) -> Option<i64> {
    let all = bytes::Bytes::from_static(&[0]);
    let range = RangeRequest { key: all.clone(), range_end: all, serializable, ..Default::default() };
    let begun = trace::now();
    let asked = range.clone();
    let asking = cluster.ask(id, move |ctx| async move { KvService::new(ctx).range_message(asked).await });
    let answer = tokio::time::timeout(Duration::from_secs(10), asking).await.ok()??.ok()?;
    let revision = answer.header.map_or(0, |header| header.revision);
    note!("m{id} lists {} keys at {revision}", answer.kvs.len());
    let (op, outcome) = (Op::Range(range), Outcome::Range(answer));
    load.calls.lock().push(Call { client: u64::MAX, begun, ended: trace::now(), op, outcome });
    Some(revision)
}

/// Holds everything that was seen against what is promised.
fn judge(plan: &Plan, load: &Load, watchers: &[Arc<Watcher>]) -> Result<Summary> {
    let calls = load.calls.lock();
    let logs: Vec<_> = watchers.iter().map(|watcher| watcher.log.lock().clone()).collect();
    let history = History::of(&logs)?;
    let (summary, model) = check_calls(&history, &calls, plan.skew.unsigned_abs() as u32)?;
    let compaction = |call: &Call| match call.op {
        Op::Compact(at) if !matches!(call.outcome, Outcome::Refused(_)) => Some(at),
        _ => None,
    };
    let compactions: Vec<i64> = calls.iter().filter_map(compaction).collect();
    for log in &logs {
        check_watch(log, &history, &model, &compactions)?;
    }
    Ok(summary)
}
