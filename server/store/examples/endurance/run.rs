//! The long run: writes with compaction behind, then random reads, then a restart.

use std::{
    collections::VecDeque,
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use keepstone_state::{Records, Revision};
use keepstone_store::{Options, RecordStore};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::{
    Knobs, open,
    procfs::{cpu_seconds, memory, written},
    support::records::record,
};

const RUN: usize = 200;
/// How far behind the last revision compaction stays, and how often it runs.
const KEPT: u32 = 100_000;
const COMPACT_EVERY: u32 = 50_000;
const FLUSH_EVERY: Duration = Duration::from_secs(5);
const CHECKPOINT_BYTES: usize = 4 << 20;

/// What writer, background and reader share.
struct Shared {
    store: Arc<RecordStore>,
    /// By revision: the revision that replaced it, or 0.
    next: Vec<AtomicU32>,
    floor: AtomicU32,
    last: AtomicU32,
    compact: AtomicBool,
    stop: AtomicBool,
    flush_bytes: usize,
    error: Mutex<Option<String>>,
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    fn show(mut self, what: &str) {
        self.0.sort_unstable();
        let at = |part: usize| {
            let index = (self.0.len() * part / 1000).min(self.0.len().saturating_sub(1));
            self.0.get(index).copied().unwrap_or_default()
        };
        println!("{what:<28} n {:<7} p50 {:>9.1?} p99 {:>9.1?} max {:>9.1?}", self.0.len(), at(500), at(990), at(1000));
    }
}

pub fn run(backend: &str, revisions: u64, dir: &Path, knobs: &Knobs) -> Result<(), String> {
    let revisions = u32::try_from(revisions).map_err(|error| error.to_string())?;
    let keys = u32::try_from(knobs.get("keys", revisions as usize / 4)).unwrap_or(1).max(1);
    let next: Vec<_> = (0..revisions as usize + 2).map(|_| AtomicU32::new(0)).collect();
    let mut latest = vec![0_u32; keys as usize];
    // Touched now, so that the base holds them.
    latest.fill(1);
    latest.fill(0);
    for slot in &next {
        slot.store(1, Ordering::Relaxed);
        slot.store(0, Ordering::Relaxed);
    }
    let base = memory("VmRSS");
    let options = options(knobs);
    let behind = knobs.get("backend", if backend == "disk" { 4 } else { 16 });
    let cache = (options.cache_bytes >> 20) as usize + behind;
    println!("== {backend} revisions {revisions} keys {keys} {options:?} base RSS {base} MiB");
    let (store, _) = RecordStore::open(open(backend, dir, knobs).map_err(text)?, options.clone()).map_err(text)?;
    let shared = Arc::new(Shared {
        store,
        next,
        floor: AtomicU32::new(0),
        last: AtomicU32::new(1),
        compact: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        flush_bytes: knobs.get("flush", 64) << 20,
        error: Mutex::new(None),
    });
    let worker = thread::spawn({
        let shared = Arc::clone(&shared);
        move || background(&shared)
    });
    let reader = thread::spawn({
        let shared = Arc::clone(&shared);
        move || reader(&shared)
    });
    let (cpu, io, wall) = (cpu_seconds(), written(), Instant::now());
    let stalls = write(&shared, &mut latest, revisions, knobs.get("rate", 0));
    let wrote = wall.elapsed();
    shared.stop.store(true, Ordering::SeqCst);
    worker.join().map_err(|_| "the background thread panicked")?;
    reader.join().map_err(|_| "the reader panicked")?;
    if let Some(error) = shared.error.lock().take() {
        return Err(error);
    }
    let cpu = cpu_seconds() - cpu;
    let micros = cpu * 1e6 / f64::from(revisions);
    println!(
        "wrote {:.0}k/s; CPU {micros:.2} us a record (with the making of it, flushes, compaction); {} MiB written",
        f64::from(revisions) / wrote.as_secs_f64() / 1e3,
        written() - io,
    );
    stalls.show("append stall");
    let sizes = shared.store.sizes().map_err(text)?;
    println!(
        "RSS {} MiB over base, peak {} (caches {cache}); total {} MiB, live {}, disk {}; chunks {}",
        memory("VmRSS").saturating_sub(base),
        memory("VmHWM").saturating_sub(base),
        sizes.total_bytes >> 20,
        sizes.live_bytes >> 20,
        sizes.disk_bytes >> 20,
        shared.store.chunks(),
    );
    random_gets(&shared, &latest)?;
    println!("RSS after gets {} MiB over base", memory("VmRSS").saturating_sub(base));
    drop(Arc::into_inner(shared));
    reopen(backend, dir, knobs, options)?;
    println!("RSS after reopening {} MiB over base", memory("VmRSS").saturating_sub(base));
    fs::remove_dir_all(dir).or_else(|error| match backend {
        "mem" => Ok(()),
        _ => Err(error.to_string()),
    })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn options(knobs: &Knobs) -> Options {
    Options {
        cache_bytes: (knobs.get("cache", 64) << 20) as u64,
        chunk_bytes: knobs.get("chunk", 32) << 10,
        batch_bytes: knobs.get("batch", 512) << 10,
        ..Options::default()
    }
}

fn value(rng: &mut SmallRng) -> [u8; 256] {
    let text = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default"}}"#;
    let mut value = [b' '; 256];
    value[..text.len()].copy_from_slice(text);
    rng.fill(&mut value[128..]);
    value
}

/// Appends runs; waits when the dirty buffer is over its limit. Returns how long appends waited.
fn write(shared: &Shared, latest: &mut [u32], revisions: u32, rate: usize) -> Times {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut stalls = Times::default();
    let mut dead = VecDeque::new();
    let mut at = 1;
    let start = Instant::now();
    while at <= revisions {
        let mut records = Vec::with_capacity(RUN);
        let until = (at + RUN as u32).min(revisions + 1);
        for main in at..until {
            let key = rng.random_range(0..latest.len());
            let old = std::mem::replace(&mut latest[key], main);
            if old > 0 {
                shared.next[old as usize].store(main, Ordering::Relaxed);
                dead.push_back((main, old));
            }
            let name = format!("/registry/configmaps/default/{key:08x}");
            records.push(record(main.into(), 0, name.as_bytes(), Some(&value(&mut rng))));
        }
        let since = Instant::now();
        while shared.store.is_over_dirty_limit() && shared.error.lock().is_none() {
            thread::sleep(Duration::from_micros(200));
        }
        shared.store.append(records, Vec::new(), Bytes::copy_from_slice(&until.to_be_bytes()));
        stalls.add(since);
        shared.last.store(until - 1, Ordering::SeqCst);
        if at / COMPACT_EVERY != until / COMPACT_EVERY && until > KEPT {
            compact(shared, &mut dead, until - KEPT);
        }
        at = until;
        if rate > 0 {
            let due = Duration::from_secs_f64(f64::from(at) / rate as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    stalls
}

fn compact(shared: &Shared, dead: &mut VecDeque<(u32, u32)>, floor: u32) {
    let mut gone = Vec::new();
    while let Some((_, old)) = dead.pop_front_if(|(by, _)| *by <= floor) {
        gone.push(Revision::new(old.into(), 0));
    }
    shared.floor.store(floor, Ordering::SeqCst);
    shared.store.remove(&gone);
    shared.compact.store(true, Ordering::SeqCst);
}

fn background(shared: &Shared) {
    if let Err(error) = try_background(shared) {
        *shared.error.lock() = Some(error.to_string());
    }
}

fn try_background(shared: &Shared) -> Result<(), keepstone_store::StoreError> {
    let store = &shared.store;
    let (mut checkpoints, mut flushes, mut rewrites) = (Times::default(), Times::default(), Times::default());
    let (mut unflushed, mut flushed) = (0, Instant::now());
    let (mut freed, mut rewriting) = (0, false);
    let is_live = |_: &[u8], at: Revision| {
        let next = shared.next[at.main as usize].load(Ordering::Relaxed);
        next == 0 || next > shared.floor.load(Ordering::SeqCst)
    };
    loop {
        let stop = shared.stop.load(Ordering::SeqCst);
        let dirty = store.dirty_bytes();
        if dirty >= CHECKPOINT_BYTES || (dirty > 0 && stop) || (dirty > 0 && flushed.elapsed() >= FLUSH_EVERY) {
            let since = Instant::now();
            store.checkpoint()?;
            checkpoints.add(since);
            unflushed += dirty;
        }
        if unflushed >= shared.flush_bytes || flushed.elapsed() >= FLUSH_EVERY {
            let since = Instant::now();
            store.flush()?;
            flushes.add(since);
            (unflushed, flushed) = (0, Instant::now());
        }
        rewriting |= shared.compact.swap(false, Ordering::SeqCst);
        if rewriting {
            let since = Instant::now();
            let did = store.rewrite(&is_live, 4 << 20)?;
            rewrites.add(since);
            freed += did.bytes_freed;
            unflushed += did.chunks_written * (64 << 10);
            rewriting = !did.done;
        }
        if stop && !rewriting {
            break;
        }
        if store.dirty_bytes() < CHECKPOINT_BYTES && !rewriting {
            thread::sleep(Duration::from_millis(1));
        }
    }
    store.checkpoint()?;
    store.flush()?;
    checkpoints.show("checkpoint");
    flushes.show("flush");
    rewrites.show("rewrite of 4 MiB");
    println!("compaction freed {} MiB", freed >> 20);
    Ok(())
}

/// Reads a random live record now and then while writes go on.
fn reader(shared: &Shared) {
    let mut rng = SmallRng::seed_from_u64(9);
    let mut times = Times::default();
    while !shared.stop.load(Ordering::SeqCst) && shared.error.lock().is_none() {
        thread::sleep(Duration::from_micros(500));
        let at = rng.random_range(1..=shared.last.load(Ordering::SeqCst));
        if shared.next[at as usize].load(Ordering::Relaxed) > 0 || at == 1 {
            continue;
        }
        let since = Instant::now();
        let found = shared.store.get(Revision::new(at.into(), 0));
        times.add(since);
        // It may have been replaced and compacted meanwhile.
        let replaced = shared.next[at as usize].load(Ordering::Relaxed) > 0;
        if let Err(error) = found
            && !replaced
        {
            *shared.error.lock() = Some(error.to_string());
        }
    }
    times.show("random get beside writes");
}

fn random_gets(shared: &Shared, latest: &[u32]) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(8);
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let mut times = Times::default();
    while wall.elapsed() < Duration::from_secs(10) && times.0.len() < 300_000 {
        let at = latest[rng.random_range(0..latest.len())];
        if at == 0 {
            continue;
        }
        let since = Instant::now();
        let kv = shared.store.get(Revision::new(at.into(), 0)).map_err(text)?;
        times.add(since);
        if kv.mod_revision() != i64::from(at) {
            return Err(format!("{at} gave {kv:?}"));
        }
    }
    let count = times.0.len() as f64;
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    println!("random gets: {:.1}k/s, CPU {:.1} us a get", count / wall / 1e3, cpu * 1e6 / count);
    times.show("random get");
    Ok(())
}

fn reopen(backend: &str, dir: &Path, knobs: &Knobs, options: Options) -> Result<(), String> {
    if backend == "mem" {
        return Ok(());
    }
    let since = Instant::now();
    let store = open(backend, dir, knobs).map_err(text)?;
    let opened = since.elapsed();
    let (records, _) = RecordStore::open(store, options).map_err(text)?;
    let listed = since.elapsed() - opened;
    let mut count = 0_u64;
    let everything = Revision::new(i64::MAX, 0);
    records
        .scan(Revision::default(), everything, &mut |record| {
            count += u64::from(!record.kv.key().is_empty());
            ControlFlow::Continue(())
        })
        .map_err(text)?;
    let scanned = since.elapsed() - opened - listed;
    println!("reopen: backend {opened:.2?}, directory {listed:.2?}, scan of {count} records {scanned:.2?}");
    Ok(())
}
