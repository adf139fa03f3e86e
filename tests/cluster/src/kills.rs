//! One member under load, killed again and again, checked after each time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::client::{Client, revision};
use crate::history::same;
use crate::ledger::Ledger;
use crate::load::{Call, Clock, Load, Mix};
use crate::member::{Member, Setup};
use crate::watcher::{End, Watcher};

/// Revisions that compaction leaves behind the slowest watcher.
const KEEP: i64 = 300;
/// Every so many rounds the member is stopped cleanly too.
const CLEAN_EVERY: u32 = 8;

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    pub kills: u32,
    pub calls: usize,
    pub revision: i64,
    pub compacted: i64,
    pub clean_restarts: u32,
    pub took: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kills, {} clean restarts, {} calls, revision {}, compacted to {}, {:.1} s: nothing lost",
            self.kills,
            self.clean_restarts,
            self.calls,
            self.revision,
            self.compacted,
            self.took.as_secs_f64()
        )
    }
}

/// Kills a member `count` times. The same seed makes the same choices; the interleaving is the machine's.
///
/// # Errors
/// The first promise that was broken, with the member's directory kept.
pub async fn run(count: u32, seed: u64) -> Result<Report> {
    let dir = tempfile::Builder::new().prefix("keepstone-kills-").tempdir()?;
    let mut test = Test::new(dir.path(), seed)?;
    let done = test.run(count).await;
    done.map_err(|error| {
        let kept = dir.keep();
        error.context(format!("seed {seed}, after {} kills; kept {}", test.report.kills, kept.display()))
    })?;
    Ok(test.report)
}

struct Test {
    setup: Setup,
    rng: StdRng,
    ledger: Ledger,
    all: Watcher,
    some: Watcher,
    stamp: Clock,
    unique: Arc<AtomicU64>,
    floor: Arc<AtomicI64>,
    report: Report,
}

type Watching = JoinHandle<Result<Watcher>>;
type Calling = JoinHandle<Result<Vec<Call>>>;

impl Test {
    fn new(dir: &Path, seed: u64) -> Result<Self> {
        let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
        let began = Instant::now();
        Ok(Self {
            setup,
            rng: StdRng::seed_from_u64(seed),
            ledger: Ledger::default(),
            all: Watcher::everything(2),
            some: Watcher::range(b"k/010", b"k/020", 2),
            stamp: Arc::new(move || began.elapsed().as_nanos() as u64),
            unique: Arc::default(),
            floor: Arc::default(),
            report: Report::default(),
        })
    }

    async fn run(&mut self, count: u32) -> Result<()> {
        let began = Instant::now();
        let mut member = Member::spawn(&self.setup)?;
        let mut round = 0;
        while self.report.kills < count {
            member = self.round(member).await?;
            let mut client = member.ready().await?;
            self.check(&mut client).await?;
            round += 1;
            if round % CLEAN_EVERY == 0 || self.report.kills >= count {
                member = self.clean_restart(member, &mut client).await?;
            }
        }
        member.stop().await?;
        self.report.calls = self.ledger.len();
        self.report.revision = self.ledger.keys.revision;
        self.report.compacted = self.ledger.compacted;
        self.report.took = began.elapsed();
        Ok(())
    }

    /// Load, a kill at a random moment, and a new process, which may itself be killed while it starts.
    async fn round(&mut self, mut member: Member) -> Result<Member> {
        let (load, tasks, watching) = self.load();
        if self.rng.random_bool(0.9) {
            member.ready().await?;
        }
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..1200))).await;
        member.kill()?;
        self.report.kills += 1;
        member = Member::spawn(&self.setup)?;
        while self.rng.random_bool(0.25) {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..150))).await;
            member.kill()?;
            self.report.kills += 1;
            member = Member::spawn(&self.setup)?;
        }
        load.stop.store(true, Ordering::Relaxed);
        let mut calls: Vec<Call> = Vec::new();
        for task in tasks {
            calls.extend(task.await??);
        }
        for (mine, task) in [&mut self.all, &mut self.some].into_iter().zip(watching) {
            *mine = task.await?.context("watching")?;
        }
        self.ledger.enter(calls);
        Ok(member)
    }

    fn load(&mut self) -> (Arc<Load>, Vec<Calling>, [Watching; 2]) {
        let mix = Mix { writers: 6, readers: 2, short_leases: true, one_large_in: 200, large_bytes: 60_000 };
        let load = Arc::new(Load {
            url: self.setup.url(),
            stop: AtomicBool::new(false),
            stamp: self.stamp.clone(),
            mix,
            unique: self.unique.clone(),
            floor: self.floor.clone(),
        });
        let tasks = load.start(self.rng.random());
        let take = |watcher: &mut Watcher| std::mem::replace(watcher, Watcher::everything(0));
        let watching =
            [take(&mut self.all), take(&mut self.some)].map(|watcher| tokio::spawn(watch(watcher, load.clone())));
        (load, tasks, watching)
    }

    async fn check(&mut self, client: &mut Client) -> Result<()> {
        let listed = client.all(0).await?;
        let now = revision(listed.header);
        let seen = self.all.next - 1;
        ensure!(now >= seen, "a watcher saw revision {seen}, after the restart the member is at {now}");
        ensure!(now >= self.ledger.shown, "clients saw revision {}, the member is at {now}", self.ledger.shown);
        self.all.follow(client, Some(now)).await.context("catching up with everything")?;
        self.some.follow(client, Some(now)).await.context("catching up with a range")?;
        // A lease may have expired meanwhile, and more has come.
        let now = self.all.next - 1;
        let from = self.ledger.keys.revision;
        let new = self.all.seen.partition_point(|next| next.revision <= from);
        let base = self.ledger.keys.clone();
        self.ledger.settle(&self.all.seen[new..])?;
        self.ledger.keys.compare(&client.all(now).await?).context("listing everything")?;
        self.check_history(client, now).await?;
        if base.revision > self.floor.load(Ordering::Relaxed) && base.revision > 1 {
            let at = self.rng.random_range(base.revision..=now);
            let mut then = base;
            self.all.seen[new..].iter().take_while(|next| next.revision <= at).try_for_each(|next| then.apply(next))?;
            then.compare(&client.all(at).await?).context("listing the past")?;
        }
        self.check_leases(client).await?;
        self.floor.store(from.min(now - KEEP), Ordering::Relaxed);
        let needed = self.floor.load(Ordering::Relaxed).max(0) - 1000;
        for watcher in [&mut self.all, &mut self.some] {
            watcher.seen.retain(|next| next.revision > needed);
        }
        Ok(())
    }

    /// A new watch from as early as possible sees what those that were interrupted saw.
    async fn check_history(&mut self, client: &mut Client, now: i64) -> Result<()> {
        let compacted = client.hash_kv(0).await?.compact_revision.max(0);
        ensure!(compacted >= self.ledger.compacted, "compacted to {}, but {compacted} is said", self.ledger.compacted);
        let mut fresh = Watcher::everything(compacted.max(1) + 1);
        fresh.follow(client, Some(now)).await.context("reading the history")?;
        // What the watchers saw long ago has been let go, and the compaction may not have come that far.
        let kept = self.floor.load(Ordering::Relaxed).max(0) - 1000;
        let begin = compacted.max(1).max(kept) + 1;
        same(&self.all.seen, &fresh.seen, begin, now).context("an interrupted watch and a new one")?;
        let mut part = fresh.seen;
        for next in &mut part {
            next.events.retain(|event| self.some.covers(event.kv().key()));
        }
        part.retain(|next| !next.events.is_empty());
        same(&self.some.seen, &part, begin, now).context("an interrupted watch of a range and a new one")
    }

    async fn check_leases(&mut self, client: &mut Client) -> Result<()> {
        for (id, lease) in self.ledger.leases.iter().rev().take(60) {
            let found = client.time_to_live(*id).await?;
            if lease.revoked() {
                ensure!(found.ttl == -1, "lease {id} was revoked, and is there");
            } else if lease.lasts() {
                ensure!(found.ttl > 0, "lease {id} was granted, and is lost");
                let mut keys = found.keys;
                keys.sort_unstable();
                ensure!(keys == self.ledger.keys.attached(*id), "lease {id} holds {keys:?}");
            }
        }
        Ok(())
    }

    async fn clean_restart(&mut self, mut member: Member, client: &mut Client) -> Result<Member> {
        let now = revision(client.all(0).await?.header);
        let before = client.hash_kv(now).await?;
        member.stop().await?;
        let (member, mut client) = Member::start(&self.setup).await?;
        let after = client.hash_kv(now).await?;
        ensure!(
            (before.hash, before.compact_revision) == (after.hash, after.compact_revision),
            "HashKV at {now} was {before:?}, after a clean restart it is {after:?}"
        );
        self.report.clean_restarts += 1;
        Ok(member)
    }
}

/// Watches over all connections until the load ends.
async fn watch(mut watcher: Watcher, load: Arc<Load>) -> Result<Watcher> {
    while let Some(mut client) = load.connect().await {
        while !load.stopped() {
            tokio::select! {
                end = watcher.follow(&mut client, None) => {
                    if end? == End::Broken {
                        break;
                    }
                }
                () = stopped(&load) => break,
            }
        }
    }
    Ok(watcher)
}

async fn stopped(load: &Load) {
    while !load.stopped() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
