//! Loss of power: a member's whole life on disk is recorded, disks are rebuilt as a loss of power at random moments may
//! leave them, and each must hold what was acknowledged by then.
//!
//! What was acknowledged when is told by the length of the trace, which the client reads after each answer: whatever
//! the answer rests on is in the trace before it.

mod disk;
mod file;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepstone_preload::{ROOT_VAR, TRACE_VAR};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::client::{Client, revision};
use crate::history::{replay, same};
use crate::ledger::Ledger;
use crate::load::{Call, Load, Mix};
use crate::member::{self, Member, Setup};
use crate::watcher::{End, Watcher};
use disk::{Disk, Names};
use file::Fate;
use trace::{Reader, Record};

/// Bytes of trace after which the load ends, whatever was asked for.
const MAX_TRACE: u64 = 1 << 30;
/// Failed states are counted, and so many of them described.
const DESCRIBED: usize = 30;

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    pub states: u32,
    pub calls: usize,
    pub revision: i64,
    pub trace_bytes: u64,
    pub records: usize,
    pub syncs: usize,
    pub range_syncs: usize,
    pub recording: Duration,
    pub took: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} states of a trace of {} records, {} syncs, {} sync_file_range (which count as none), {} MiB; {} calls, \
             revision {}; {:.1} s, {:.1} of them recording: nothing lost",
            self.states,
            self.records,
            self.syncs,
            self.range_syncs,
            self.trace_bytes >> 20,
            self.calls,
            self.revision,
            self.took.as_secs_f64(),
            self.recording.as_secs_f64()
        )
    }
}

/// Records a member and opens `states` disks. The same seed makes the same choices on the same trace.
/// `trust_range_sync` takes sync_file_range for a sync, which it is not: it tells whether a failure comes from it.
///
/// # Errors
/// What the failed states broke, with their directories kept.
pub async fn run(states: u32, seed: u64, trust_range_sync: bool) -> Result<Report> {
    let dir = tempfile::Builder::new().prefix("keepstone-power-").tempdir()?;
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    // 12 states are the small budget: a short life is enough for them.
    let life = Duration::from_millis((2000 + 130 * u64::from(states)).min(14_000));
    let done = async {
        let recorded = record(dir.path(), life, seed).await?;
        let recording = began.elapsed();
        let mut report = recorded.open_states(states, trust_range_sync, &mut rng).await?;
        (report.recording, report.took) = (recording, began.elapsed());
        anyhow::Ok(report)
    };
    done.await.map_err(|error| {
        let kept = dir.keep();
        error.context(format!("seed {seed}; kept {}", kept.display()))
    })
}

/// A member's life.
struct Recorded {
    dir: PathBuf,
    /// The directory below which everything was recorded.
    root: String,
    trace: PathBuf,
    setup: Setup,
    ledger: Ledger,
    all: Watcher,
}

async fn record(dir: &Path, life: Duration, seed: u64) -> Result<Recorded> {
    let (root, trace) = (dir.canonicalize()?.join("root"), dir.join("trace"));
    std::fs::create_dir(&root)?;
    std::fs::File::create(&trace)?;
    let mut setup = Setup::new(&root.join("data"), &dir.join("recorded.log"))?;
    let root = root.to_str().context("the temporary directory is no Unicode")?.to_owned();
    setup.args = ["--snapshot-count", "400", "--snapshot-catchup-entries", "50"].map(str::to_owned).to_vec();
    let mut recorded = setup.clone();
    recorded.env = vec![
        ("LD_PRELOAD".to_owned(), member::preload()?.to_string_lossy().into_owned()),
        (ROOT_VAR.to_owned(), root.clone()),
        (TRACE_VAR.to_owned(), trace.to_string_lossy().into_owned()),
    ];
    let (mut ledger, mut all) = (Ledger::default(), Watcher::everything(2));
    let load = Load {
        url: setup.url(),
        stop: AtomicBool::new(false),
        stamp: {
            let trace = trace.clone();
            Arc::new(move || std::fs::metadata(&trace).map_or(0, |found| found.len()))
        },
        mix: Mix { writers: 6, readers: 1, short_leases: false, one_large_in: 12, large_bytes: 300_000 },
        unique: Arc::default(),
        floor: Arc::default(),
    };
    // Two processes: the second one's recovery writes to the disk too.
    for part in 0..2 {
        let (mut member, mut client) = Member::start(&recorded).await?;
        let load = Arc::new(Load {
            url: load.url.clone(),
            stop: AtomicBool::new(false),
            stamp: load.stamp.clone(),
            mix: load.mix,
            unique: load.unique.clone(),
            floor: Arc::new(AtomicI64::new(0)),
        });
        let calls = live(&load, &mut client, &mut all, &trace, life / 2, seed + part).await?;
        let now = revision(client.all(0).await?.header);
        ensure!(all.follow(&mut client, Some(now)).await? == End::Reached, "the recorded member's watch broke");
        ledger.enter(calls);
        let from = all.seen.partition_point(|next| next.revision <= ledger.keys.revision);
        ledger.settle(&all.seen[from..]).context("without any fault")?;
        if part == 0 {
            member.stop().await?;
        } else {
            member.kill()?;
        }
    }
    Ok(Recorded { dir: dir.to_owned(), root, trace, setup, ledger, all })
}

/// Keeps the member busy for a time, its store flushed now and then.
async fn live(
    load: &Arc<Load>,
    client: &mut Client,
    all: &mut Watcher,
    trace: &Path,
    life: Duration,
    seed: u64,
) -> Result<Vec<Call>> {
    let tasks = load.start(seed);
    let began = Instant::now();
    while began.elapsed() < life && std::fs::metadata(trace)?.len() < MAX_TRACE {
        let now = revision(client.all(0).await?.header);
        all.follow(client, Some(now)).await?;
        load.floor.store(all.next - 100, Ordering::Relaxed);
        // Ends with a flush of the store, as the five seconds' one does.
        client.defragment().await?;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut calls = Vec::new();
    for task in tasks {
        calls.extend(task.await??);
    }
    Ok(calls)
}

impl Recorded {
    async fn open_states(&self, states: u32, trust_range_sync: bool, rng: &mut StdRng) -> Result<Report> {
        let mut report =
            Report { states, calls: self.ledger.len(), revision: self.ledger.keys.revision, ..Report::default() };
        let mut places = Vec::new();
        let mut reader = Reader::open(&self.trace)?;
        while let Some(record) = reader.next()? {
            use keepstone_preload::trace::Kind;
            report.records += 1;
            report.syncs += usize::from(record.head.kind == Kind::SyncEnd);
            report.range_syncs += usize::from(record.head.kind == Kind::SyncRange);
            report.trace_bytes = record.end;
            if record.matters() && !matches!(record.head.kind, Kind::Zero) {
                places.push(record.end);
            }
        }
        ensure!(!places.is_empty(), "the trace is empty: was the library preloaded?");
        let mut failures = Vec::new();
        for (names, states) in [(Names::Posix, states - states / 2), (Names::Journal, states / 2)] {
            let mut cuts: Vec<u64> = (0..states).map(|_| places[rng.random_range(0..places.len())]).collect();
            cuts.sort_unstable();
            self.open_cuts(Disk::new(&self.root, names, trust_range_sync), &cuts, rng, &mut failures).await?;
        }
        ensure!(
            failures.is_empty(),
            "{} of {states} states are wrong:\n\n{}",
            failures.len(),
            failures.iter().take(DESCRIBED).map(String::as_str).collect::<Vec<_>>().join("\n\n")
        );
        Ok(report)
    }

    async fn open_cuts(
        &self,
        mut disk: Disk,
        cuts: &[u64],
        rng: &mut StdRng,
        failures: &mut Vec<String>,
    ) -> Result<()> {
        let mut reader = Reader::open(&self.trace)?;
        let mut cuts = cuts.iter().peekable();
        while let Some(record) = reader.next()? {
            let Some(cut) = cuts.peek().copied() else { break };
            let end = record.end;
            disk.step(&record)
                .with_context(|| format!("the record that ends at byte {end}: {:?}", describe(&record)))?;
            if end < *cut {
                continue;
            }
            while cuts.next_if(|cut| **cut <= end).is_some() {
                const CHANCES: [f64; 5] = [0.0, 0.1, 0.5, 0.9, 1.0];
                let fate = Fate { drop: CHANCES[rng.random_range(0..5)], tear: CHANCES[rng.random_range(0..5)] };
                if let Err(error) = self.open_state(&disk, end, fate, rng, failures.len()).await {
                    let what = describe(&record);
                    failures.push(format!("cut at byte {end}, after {what}, {:?}, {fate:?}: {error:#}", disk.names));
                }
            }
        }
        Ok(())
    }

    /// Rebuilds a state and opens it. One that fails is kept beside the trace.
    async fn open_state(&self, disk: &Disk, cut: u64, fate: Fate, rng: &mut StdRng, number: usize) -> Result<()> {
        let root = self.dir.join(format!("state-{number}"));
        if root.exists() {
            std::fs::remove_dir_all(&root)?;
        }
        disk.rebuild(&root, fate, rng)?;
        let before = self.dir.join(format!("state-{number}-before"));
        if before.exists() {
            std::fs::remove_dir_all(&before)?;
        }
        disk_copy(&root, &before)?;
        let mut setup = self.setup.clone();
        setup.data_dir = root.join("data");
        setup.log = self.dir.join(format!("state-{number}.log"));
        drop(std::fs::remove_file(&setup.log));
        let (mut member, mut client) = Member::start(&setup).await?;
        self.check(&mut client, cut).await?;
        member.kill()?;
        std::fs::remove_dir_all(&root)?;
        std::fs::remove_dir_all(&before)?;
        Ok(())
    }

    async fn check(&self, client: &mut Client, cut: u64) -> Result<()> {
        let listed = client.all(0).await?;
        let now = revision(listed.header);
        let (acknowledged, compacted) = self.ledger.acknowledged(cut);
        ensure!(now >= acknowledged, "LOST: revision {acknowledged} was acknowledged, the member is at {now}");
        let possible = self.ledger.possible(cut);
        ensure!(now <= possible, "the member is at {now}, but what was asked for by then ends at {possible}");
        let keys = replay(&self.all.seen, now)?;
        keys.compare(&listed)?;
        let hash = client.hash_kv(0).await.context("HashKV")?;
        ensure!(
            hash.compact_revision.max(0) >= compacted,
            "compacted to {compacted}, but {} is said",
            hash.compact_revision
        );
        let from = hash.compact_revision.max(1) + 1;
        let mut fresh = Watcher::everything(from);
        fresh.follow(client, Some(now)).await?;
        same(&self.all.seen, &fresh.seen, from, now).context("the recorded member and this one")?;
        let leases = self.ledger.leases_at(cut);
        for id in leases.there.iter().rev().take(20) {
            let found = client.time_to_live(*id).await?;
            ensure!(found.ttl > 0, "lease {id} was granted, and is lost");
            let mut hanging = found.keys;
            hanging.sort_unstable();
            ensure!(hanging == keys.attached(*id), "lease {id} holds {hanging:?}");
        }
        for id in leases.revoked.iter().rev().take(20) {
            ensure!(client.time_to_live(*id).await?.ttl == -1, "lease {id} was revoked, and is there");
        }
        for id in leases.not_asked_for.iter().take(5) {
            ensure!(client.time_to_live(*id).await?.ttl == -1, "lease {id} is there before anybody asked for it");
        }
        let put = client.put("after", "the loss").await.context("a put after the loss")?;
        ensure!(put == now + 1, "a put after the loss has revision {put}, not {}", now + 1);
        Ok(())
    }
}

/// A copy that keeps holes: most of a log segment is one.
fn disk_copy(from: &Path, to: &Path) -> Result<()> {
    let done = std::process::Command::new("cp").args(["-a", "--sparse=always", "--"]).arg(from).arg(to).status()?;
    ensure!(done.success(), "cp ended with {done}");
    Ok(())
}

fn describe(record: &Record) -> String {
    let head = record.head;
    let path =
        if record.payload.len() < 300 { String::from_utf8_lossy(&record.payload).into_owned() } else { String::new() };
    format!("{:?} fd {} at {} {} {path:?}", head.kind, head.fd, head.a, head.b)
}
