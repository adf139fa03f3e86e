//! Power is lost at any moment, many times: what was answered is there, in order, and nothing is invented.

use std::sync::Arc;

use bytes::Bytes;
use keepstone_wal::testing::{Crash, Rng, SimDisk};
use keepstone_wal::{Entry, Wal};

use crate::beside::{Life, Model, dir, options};

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
    for seed in 0..1500 {
        let run = std::panic::catch_unwind(|| lives(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}

/// A torn group leaves a sector; the group that takes its number is torn in just that sector. The two together look
/// whole.
#[test]
fn a_torn_group_is_wiped_before_its_number_is_used_again() {
    let disk = SimDisk::new();
    let segment = dir().join("0000000000000001.wal");
    let wal = |disk: &SimDisk| Wal::open_inline(dir(), options(), Arc::new(disk.clone())).expect("opens").0;
    let first = wal(&disk);
    first.save_meta(Bytes::from_static(b"me"), Box::new(|_| {})).expect("taken");
    first.step().expect("writes");
    drop(first);
    // Written, not synced, twice; what came of the first try is sector 5 alone, of the second all but sector 5.
    let attempt = |disk: &SimDisk, byte: u8| {
        let wal = wal(disk);
        assert_eq!(wal.last(), None);
        disk.die_after(1);
        let entry = Entry { index: 1, term: 1, data: vec![byte; 4000].into() };
        wal.append([entry], Box::new(|result| assert!(result.is_err()))).expect("taken");
        wal.step().expect_err("dies before the sync");
        (disk.bytes(&segment).expect("there"), disk.crash(Crash::LoseAll))
    };
    let sector = 5 * 512..6 * 512;
    let (written, lost) = attempt(&disk, 0xaa);
    let mut bytes = lost.bytes(&segment).expect("there");
    bytes[sector.clone()].copy_from_slice(&written[sector.clone()]);
    lost.set_bytes(&segment, bytes);
    let (mut written, lost) = attempt(&lost, 0xbb);
    let before = lost.bytes(&segment).expect("there");
    written[sector.clone()].copy_from_slice(&before[sector]);
    lost.set_bytes(&segment, written);
    let wal = wal(&lost);
    assert_eq!(wal.last(), None);
    assert!(wal.recovered().cut.is_some());
}
