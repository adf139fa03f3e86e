//! Power is lost at any moment, many times: what was answered is there, in order, and nothing is invented.

use crate::beside::{Life, Model};
use keepstone_wal::testing::{Crash, Rng, SimDisk};

/// Several lives on one disk, each ended by a crash at a random call.
fn lives(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut disk = SimDisk::new();
    let mut model = Model::default();
    for _ in 0..4 {
        let dies_after = rng.below([20, 100, 500][rng.clone().below(3) as usize]);
        disk.die_after(dies_after);
        if let Some(mut life) = Life::open(&disk, &mut model) {
            while life.alive() {
                life.random_call(&mut rng);
            }
        }
        let how = match rng.below(10) {
            0 => Crash::Process,
            1 => Crash::LoseAll,
            _ => Crash::Random(rng.next_u64()),
        };
        disk = disk.crash(how);
    }
    disk.die_after(1_000_000);
    let life = Life::open(&disk, &mut model).expect("a live disk opens");
    life.compare();
}

#[test]
fn nothing_answered_is_lost_and_nothing_is_invented() {
    for seed in 0..4000 {
        let run = std::panic::catch_unwind(|| lives(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}
