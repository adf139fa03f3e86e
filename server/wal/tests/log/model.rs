//! Any sequence of calls, with reopenings between them, leaves what a plain model of the log leaves.

use keepstone_wal::testing::SimDisk;
use proptest::prelude::*;

use crate::beside::{Call, Life, Model};

fn call() -> impl Strategy<Value = Call> {
    let size = prop_oneof![8 => 0..300usize, 3 => 0..2000usize, 1 => Just(9000usize)];
    prop_oneof![
        1 => any::<u64>().prop_map(Call::Vote),
        1 => Just(Call::Committed),
        6 => prop::collection::vec(size, 1..5).prop_map(Call::Append),
        1 => (0..10usize).prop_map(Call::Truncate),
        1 => (0..60usize, 0..3u64).prop_map(|(count, above)| Call::Purge(count, above)),
        1 => Just(Call::Sync),
        4 => Just(Call::Step),
        2 => (0..50usize, 0..20usize, 0..5000usize).prop_map(|(skip, count, max)| Call::Read(skip, count, max)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_is_what_its_calls_say(lives in prop::collection::vec(prop::collection::vec(call(), 0..80), 1..4)) {
        let disk = SimDisk::new();
        let mut model = Model::default();
        for calls in &lives {
            let mut life = Life::open(&disk, &mut model).expect("opens");
            for call in calls {
                life.call(call);
            }
            life.finish();
        }
        Life::open(&disk, &mut model).expect("opens").compare();
    }
}
