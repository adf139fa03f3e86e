//! What the bbolt writer writes, the reader reads back, whatever the sizes.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use std::collections::BTreeMap;
use std::io::Cursor;

use keepstone_snapshot::bolt::{PAGE_BYTES, Reader, WriteError, Writer};
use proptest::prelude::*;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<String, Rows>;

/// A bucket by shape, so that thousands of keys do not need thousands of generated values.
#[derive(Clone, Debug)]
struct Shape {
    keys: u32,
    key_bytes: usize,
    value_bytes: usize,
    /// Every so many keys, one value is this many times as long.
    big_every: u32,
    big_times: usize,
}

fn shape() -> impl Strategy<Value = Shape> {
    let keys = prop_oneof![0..4_u32, 4..300_u32, 300..6000_u32];
    let key_bytes = prop_oneof![4..24_usize, 24..700_usize];
    let value_bytes = prop_oneof![Just(0_usize), 1..64_usize, 64..1024_usize];
    (keys, key_bytes, value_bytes, 50..400_u32, 1..100_usize).prop_map(
        |(keys, key_bytes, value_bytes, big_every, big_times)| Shape {
            // Keeps a file below some 4 MiB.
            keys: keys.min(4_000_000 / (key_bytes + value_bytes) as u32),
            key_bytes,
            value_bytes,
            big_every,
            big_times,
        },
    )
}

fn rows(shape: &Shape) -> Rows {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..shape.keys)
        .map(|number| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut key = number.to_be_bytes().to_vec();
            key.resize(4 + (state >> 33) as usize % (shape.key_bytes - 3), b'k');
            let times = match number % shape.big_every {
                7 => shape.big_times,
                _ => 1,
            };
            let size = (state >> 17) as usize % (shape.value_bytes + 1) * times;
            (key, vec![number as u8; size])
        })
        .collect()
}

fn fill<W: std::io::Write>(writer: &mut Writer<W>, buckets: &Buckets) {
    for (name, rows) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in rows {
            writer.put(key, value).unwrap();
        }
    }
}

fn write(buckets: &Buckets) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    fill(&mut writer, buckets);
    writer.finish().unwrap().into_inner()
}

fn assert_holds(file: Vec<u8>, buckets: &Buckets) {
    assert_eq!(file.len() % PAGE_BYTES, 0);
    let reader = Reader::open(file).unwrap();
    let report = reader.check().unwrap();
    assert_eq!(report.free_pages, 0);
    assert_eq!(report.buckets, buckets.len() as u64);
    let names: Vec<_> = reader.buckets().unwrap();
    assert!(names.iter().map(|b| &b.name[..]).eq(buckets.keys().map(String::as_bytes)));
    for (name, rows) in buckets {
        let read = reader.bucket(name).unwrap().expect("the bucket is there");
        let read: Vec<_> = read.map(|entry| entry.unwrap()).collect();
        assert_eq!(read.len(), rows.len());
        for (entry, (key, value)) in read.iter().zip(rows) {
            assert!(entry.key == key[..] && entry.value == value[..] && !entry.is_bucket);
        }
        let last = reader.bucket(name).unwrap().unwrap().last_entry().unwrap();
        assert_eq!(last.as_ref(), read.last());
    }
    assert!(reader.bucket("no such bucket").unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reads_back_what_was_written(shapes in prop::collection::vec(shape(), 0..5)) {
        let buckets: Buckets = shapes
            .iter()
            .enumerate()
            .map(|(number, shape)| (format!("bucket{number}"), rows(shape)))
            .collect();
        let file = write(&buckets);

        let mut measured = Writer::measure();
        fill(&mut measured, &buckets);
        let layout = measured.finish_layout().unwrap();
        prop_assert_eq!(layout.file_bytes(), file.len() as u64);
        let mut streamed = Writer::with_layout(Vec::new(), layout).unwrap();
        fill(&mut streamed, &buckets);
        prop_assert!(streamed.finish_with(layout).unwrap() == file);

        assert_holds(file, &buckets);
    }

    #[test]
    fn seek_finds_the_first_key_at_or_after(
        keys in prop::collection::btree_set(0..20_000_u32, 1..3000),
        wanted in prop::collection::vec(0..20_001_u32, 20),
    ) {
        let rows: Rows = keys.iter().map(|k| (k.to_be_bytes().to_vec(), vec![1; 40])).collect();
        let file = write(&Buckets::from([("b".to_owned(), rows)]));
        let reader = Reader::open(file).unwrap();
        for from in wanted {
            let mut cursor = reader.bucket("b").unwrap().unwrap();
            cursor.seek(&from.to_be_bytes()).unwrap();
            let read = cursor.map(|e| e.unwrap().key);
            let expected = keys.range(from..).map(|k| k.to_be_bytes().to_vec());
            prop_assert!(read.eq(expected));
        }
    }
}

#[test]
fn deep_trees_and_huge_entries() {
    // Long keys make wide branches: 5 children a page.
    let rows: Rows = (0..2000_u32)
        .map(|n| {
            let mut key = n.to_be_bytes().to_vec();
            key.resize(700, b'-');
            (key, vec![b'v'; n as usize * 50])
        })
        .collect();
    let keys: Rows = (0..20_u32)
        .map(|n| {
            let mut key = n.to_be_bytes().to_vec();
            key.resize(32_768, b'-');
            (key, Vec::new())
        })
        .collect();
    let buckets =
        Buckets::from([("empty".to_owned(), Rows::new()), ("keys".to_owned(), keys), ("values".to_owned(), rows)]);
    assert_holds(write(&buckets), &buckets);
    assert_holds(write(&Buckets::new()), &Buckets::new());
}

#[test]
fn many_buckets_make_the_root_a_tree() {
    let buckets: Buckets = (0..1000)
        .map(|n| {
            let rows = Rows::from([(vec![1], vec![n as u8])]);
            (format!("bucket-{n:05}"), rows)
        })
        .collect();
    assert_holds(write(&buckets), &buckets);
}

#[test]
fn order_and_sizes_are_held_to() {
    let mut writer = Writer::measure();
    assert!(matches!(writer.put(b"k", b""), Err(WriteError::NoBucket)));
    writer.bucket("b").unwrap();
    writer.put(b"k", b"").unwrap();
    assert!(matches!(writer.put(b"k", b""), Err(WriteError::KeyOrder { .. })));
    assert!(matches!(writer.put(b"j", b""), Err(WriteError::KeyOrder { .. })));
    assert!(matches!(writer.put(b"", b""), Err(WriteError::KeySize(0))));
    let long = vec![0xff; 32_769];
    assert!(matches!(writer.put(&long, b""), Err(WriteError::KeySize(32_769))));
    assert!(matches!(writer.bucket("a"), Err(WriteError::BucketOrder { .. })));
}

#[test]
fn a_second_pass_with_other_data_is_refused() {
    let mut measured = Writer::measure();
    measured.bucket("b").unwrap();
    let layout = measured.finish_layout().unwrap();
    let mut streamed = Writer::with_layout(Vec::new(), layout).unwrap();
    streamed.bucket("b").unwrap();
    streamed.put(b"k", &[0; 5000]).unwrap();
    let refused = streamed.finish_with(layout);
    assert!(matches!(refused, Err(WriteError::LayoutMismatch)));
}
