//! SIGKILL: a child writes and flushes until it is killed; the next child checks what is left and writes on.

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    io::{BufRead, BufReader, Write},
    ops::ControlFlow,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use keepstone_state::{Record, Revision, TableWrite};
use keepstone_store::{Options, RecordStore};
use rand::Rng;

use crate::{Knobs, open, support::records::record};

const RUN: u64 = 100;
const KEYS: u64 = 3000;
const COMPACT_EVERY: u64 = 25;
const KEPT: u64 = 4000;
/// A fresh directory after so many kills, so that checks stay quick.
const KILLS_A_DIRECTORY: u64 = 25;

fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 32)
}

/// The record of a revision is known from its number alone.
fn made(main: u64) -> Record {
    let key = (mix(main) % KEYS).to_be_bytes();
    let len = (mix(main + 1) % 600) as usize;
    let value = mix(main + 2).to_le_bytes().repeat(len / 8 + 1);
    let put = !mix(main + 3).is_multiple_of(16);
    record(main as i64, 0, &key, put.then_some(&value[..]))
}

/// The last revision of a run, and the compaction floor after it.
fn last_of(run: u64) -> u64 {
    run * RUN
}

fn floor_of(run: u64) -> u64 {
    last_of(run / COMPACT_EVERY * COMPACT_EVERY).saturating_sub(KEPT)
}

/// Revisions up to `last` that are dead under `floor`.
fn dead_under(floor: u64) -> HashSet<u64> {
    let mut newest: HashMap<u64, u64> = HashMap::new();
    let mut dead = HashSet::new();
    for main in 1..=floor {
        dead.extend(newest.insert(mix(main) % KEYS, main));
    }
    dead.extend(newest.into_values().filter(|main| mix(main + 3).is_multiple_of(16)));
    dead
}

pub fn parent(backend: &str, kills: u64, dir: &Path) -> Result<(), String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut rng = rand::rng();
    let (mut durable, mut longest) = (0, Duration::ZERO);
    for kill in 0..kills {
        if kill % KILLS_A_DIRECTORY == 0 {
            let _ = fs::remove_dir_all(dir);
            durable = 0;
        }
        let mut child = Command::new(&program)
            .args(["child", backend, &durable.to_string()])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let since = Instant::now();
        let mut lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
        let ready = lines.next().and_then(Result::ok).ok_or(format!("kill {kill}: no check"))?;
        longest = longest.max(since.elapsed());
        let wait = Duration::from_millis(rng.random_range(1..400));
        let killer = thread::spawn(move || {
            thread::sleep(wait);
            let killed = child.kill();
            (killed, child.wait())
        });
        // A torn last line says nothing: every line ends with a dot.
        let told = lines.map_while(Result::ok).filter_map(|line| line.strip_suffix('.')?.parse().ok());
        durable = told.last().unwrap_or(durable).max(durable);
        let (_, status) = killer.join().map_err(|_| "the killer panicked")?;
        if status.is_ok_and(|status| status.code().is_some()) {
            return Err(format!("kill {kill}: the child ended by itself after {ready}"));
        }
        if kill % 20 == 19 {
            println!("{} kills; {ready}; durable run {durable}", kill + 1);
        }
    }
    let _ = fs::remove_dir_all(dir);
    println!("{backend}: {kills} kills, nothing lost; longest start with check {longest:.2?}");
    Ok(())
}

/// Checks what the killed one left, says so, and writes until it is killed too.
pub fn child(backend: &str, durable: u64, dir: &Path, knobs: &Knobs) -> Result<(), String> {
    let store = open(backend, dir, knobs).map_err(|error| error.to_string())?;
    let options = Options { cache_bytes: 1 << 20, chunk_bytes: 16 << 10, batch_bytes: 64 << 10, ..Options::default() };
    let (store, opened) = RecordStore::open(store, options).map_err(|error| error.to_string())?;
    let run = match &opened.applied {
        None => 0,
        Some(mark) => u64::from_be_bytes(mark[..].try_into().map_err(|_| "a bad mark")?),
    };
    if run < durable {
        return Err(format!("run {durable} was flushed, the store is at {run}"));
    }
    check(&store, run, &opened.tables)?;
    println!("checked run {run}");
    write(&store, run)
}

fn check(store: &RecordStore, run: u64, tables: &[(Vec<u8>, Vec<u8>)]) -> Result<(), String> {
    let wanted: Vec<(Vec<u8>, Vec<u8>)> =
        (run > 0).then(|| (b"floor".to_vec(), floor_of(run).to_be_bytes().to_vec())).into_iter().collect();
    if tables != wanted {
        return Err(format!("run {run} has the tables {tables:?}"));
    }
    let dead = dead_under(floor_of(run));
    let mut expected = 1;
    let mut wrong = None;
    store
        .scan(Revision::default(), Revision::new(i64::MAX, 0), &mut |found| {
            let main = found.at.main as u64;
            let lost = (expected..main).find(|main| !dead.contains(main));
            if lost.is_some() || main > last_of(run) || *found != made(main) {
                wrong = Some(format!("lost {lost:?} before, or bad: {found:?}"));
                return ControlFlow::Break(());
            }
            expected = main + 1;
            ControlFlow::Continue(())
        })
        .map_err(|error| error.to_string())?;
    let lost = (expected..=last_of(run)).find(|main| !dead.contains(main));
    if let Some(wrong) = wrong.or(lost.map(|lost| format!("lost {lost} at the end"))) {
        return Err(format!("run {run}: {wrong}"));
    }
    let dead: Vec<_> = dead.into_iter().map(|at| Revision::new(at as i64, 0)).collect();
    store.remove(&dead);
    Ok(())
}

fn write(store: &Arc<RecordStore>, run: u64) -> Result<(), String> {
    let current = Arc::new(AtomicU64::new(run));
    let background = thread::spawn({
        let (store, current) = (Arc::clone(store), Arc::clone(&current));
        move || -> Result<(), String> {
            let mut out = std::io::stdout();
            loop {
                store.checkpoint().map_err(|error| error.to_string())?;
                // Never ahead of what was appended: `current` is raised after the append.
                let floor = floor_of(current.load(Ordering::SeqCst));
                let dead = dead_under(floor);
                let is_live = |_: &[u8], at: Revision| !dead.contains(&(at.main as u64));
                store.rewrite(&is_live, 1 << 20).map_err(|error| error.to_string())?;
                let mark = store.flush().map_err(|error| error.to_string())?;
                let bytes = mark.as_deref().and_then(|mark| mark.try_into().ok());
                let run = bytes.map_or(0, u64::from_be_bytes);
                writeln!(out, "{run}.").map_err(|error| error.to_string())?;
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let mut run = run;
    while !background.is_finished() {
        run += 1;
        let first = last_of(run - 1) + 1;
        let records = (first..=last_of(run)).map(made).collect();
        let floor = floor_of(run);
        let tables = vec![TableWrite { key: b"floor".to_vec(), value: Some(floor.to_be_bytes().to_vec()) }];
        store.append(records, tables, Bytes::copy_from_slice(&run.to_be_bytes()));
        current.store(run, Ordering::SeqCst);
        if floor_of(run - 1) != floor {
            let before = dead_under(floor_of(run - 1));
            let dead = dead_under(floor);
            let new: Vec<_> = dead.difference(&before).map(|at| Revision::new(*at as i64, 0)).collect();
            store.remove(&new);
        }
        thread::sleep(Duration::from_micros(300));
    }
    background.join().map_err(|_| "the background thread panicked")?
}
