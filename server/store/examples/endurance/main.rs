//! Runs the record store over a backend until figures come out, or kills it until it loses something.
//!
//! ```text
//! endurance run  BACKEND REVISIONS DIR [chunk=KiB] [cache=MiB] [backend=MiB] [segment=KiB]
//!               [flush=MiB] [keys=N] [rate=N/s]
//! endurance kill BACKEND KILLS DIR
//! ```
//! BACKEND is `disk`, `sled` or `mem`. DIR is founded, and removed at the end.

#[path = "../../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

mod kill;
mod procfs;
mod run;

use std::{collections::HashMap, env, path::Path, process::ExitCode, sync::Arc};

use keepstone_store::{DiskOptions, DiskStore, SledOptions, SledStore, Store, StoreError, testing::MemStore};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `name=number` arguments.
pub struct Knobs(HashMap<String, usize>);

impl Knobs {
    fn parse(words: &[String]) -> Self {
        let pairs = words.iter().filter_map(|word| {
            let (name, number) = word.split_once('=')?;
            Some((name.to_owned(), number.parse().ok()?))
        });
        Self(pairs.collect())
    }

    pub fn get(&self, name: &str, default: usize) -> usize {
        self.0.get(name).copied().unwrap_or(default)
    }
}

pub fn open(backend: &str, path: &Path, knobs: &Knobs) -> Result<Arc<dyn Store>, StoreError> {
    let cache_bytes = knobs.get("backend", 16) << 20;
    Ok(match backend {
        "disk" => {
            let mut options = DiskOptions::default();
            options.sled.cache_bytes = (knobs.get("backend", 4) << 20) as u64;
            options.sled.segment_bytes = knobs.get("segment", 512) << 10;
            options.file_bytes = (knobs.get("file", 64 << 10) << 10) as u64;
            Arc::new(DiskStore::open(path, &options)?)
        }
        "sled" => {
            let options =
                SledOptions { cache_bytes: cache_bytes as u64, segment_bytes: knobs.get("segment", 8 << 10) << 10 };
            Arc::new(SledStore::open(path, &options)?)
        }
        _ => Arc::new(MemStore::new()),
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [mode, backend, count, dir, rest @ ..] = &words[..] else {
        eprintln!("endurance run|kill|child BACKEND COUNT DIR [name=number]…");
        return ExitCode::FAILURE;
    };
    let Ok(count) = count.parse() else {
        eprintln!("{count} is no number");
        return ExitCode::FAILURE;
    };
    let knobs = Knobs::parse(rest);
    let dir = Path::new(dir);
    let result = match &mode[..] {
        "run" => run::run(backend, count, dir, &knobs),
        "kill" => kill::parent(backend, count, dir),
        _ => kill::child(backend, count, dir, &knobs),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}
