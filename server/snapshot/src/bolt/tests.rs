//! Files built by hand with valid checksums, as only a broken writer or an attacker makes them, and
//! forms of sound files our own writer never produces.

#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain fails, as it should")]

use super::format::{
    ELEMENT_BUCKET, FLAG_BRANCH, FLAG_FREELIST, FLAG_LEAF, Meta, NO_FREELIST, PAGE_HEADER_BYTES, PageHeader, Pgid,
};
use super::{ReadError, Reader};

const PAGE: usize = 1024;

/// A page body with the elements' headers (four words each) and then their data, `at` filled in.
fn body(branch: bool, elements: &[(u64, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut heads = Vec::new();
    let mut data = Vec::new();
    for (index, (word, key, value)) in elements.iter().enumerate() {
        let pos = ((elements.len() - index) * 16 + data.len()) as u32;
        let key_bytes = key.len() as u32;
        if branch {
            heads.extend([pos, key_bytes].iter().flat_map(|w| w.to_le_bytes()));
            heads.extend(word.to_le_bytes());
        } else {
            let words = [*word as u32, pos, key_bytes, value.len() as u32];
            heads.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        }
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    heads.extend(data);
    heads
}

fn page(id: Pgid, flags: u16, count: usize, overflow: u32, body: &[u8]) -> Vec<u8> {
    let header = PageHeader { id, flags, count: count as u16, overflow };
    let mut page = header.encode().to_vec();
    page.extend_from_slice(body);
    page.resize((overflow as usize + 1) * PAGE, 0);
    page
}

fn leaf(id: Pgid, elements: &[(u64, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    page(id, FLAG_LEAF, elements.len(), 0, &body(false, elements))
}

fn branch(id: Pgid, children: &[(&[u8], Pgid)]) -> Vec<u8> {
    let elements: Vec<_> = children.iter().map(|(key, child)| (*child, key.to_vec(), Vec::new())).collect();
    page(id, FLAG_BRANCH, children.len(), 0, &body(true, &elements))
}

/// The root leaf with one bucket `b` rooted at page `at`.
fn root(id: Pgid, at: Pgid) -> Vec<u8> {
    let header = [at.to_le_bytes(), [0; 8]].concat();
    leaf(id, &[(u64::from(ELEMENT_BUCKET), b"b".to_vec(), header)])
}

fn plain(key: &[u8]) -> (u64, Vec<u8>, Vec<u8>) {
    (0, key.to_vec(), b"value".to_vec())
}

/// Metas in front of `pages`, which start at page 2.
fn file(freelist: Pgid, pages: &[Vec<u8>]) -> Vec<u8> {
    let data = pages.concat();
    let meta = Meta { page_bytes: PAGE as u32, root: 2, freelist, high_water: 2 + (data.len() / PAGE) as u64, txid: 5 };
    with_meta(meta, &data)
}

fn with_meta(meta: Meta, data: &[u8]) -> Vec<u8> {
    let mut file = meta.encode_page(0).to_vec();
    file.resize(PAGE, 0);
    let older = Meta { txid: meta.txid - 1, ..meta };
    file.extend(older.encode_page(1));
    file.resize(2 * PAGE, 0);
    file.extend_from_slice(data);
    file
}

/// What walking bucket `b` ends with, and what the check says.
fn outcome(file: &[u8]) -> (Result<usize, String>, Result<u64, String>) {
    let reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(error) => return (Err(error.to_string()), Err(error.to_string())),
    };
    let walked = reader
        .bucket("b")
        .and_then(|cursor| cursor.expect("bucket b is there").try_fold(0, |count, entry| entry.map(|_| count + 1)));
    let checked = reader.check().map(|report| report.free_pages);
    (walked.map_err(|e: ReadError| e.to_string()), checked.map_err(|e| e.to_string()))
}

#[test]
fn inline_buckets_other_page_sizes_and_both_freelists_are_read() {
    let inner = leaf(0, &[plain(b"x"), plain(b"y")]);
    let mut value = vec![0; 16];
    value.extend_from_slice(&inner[..PAGE_HEADER_BYTES + 2 * 16 + 2 * 6]);
    let inline = leaf(2, &[(1, b"b".to_vec(), value)]);
    let rubbish = vec![0xee; PAGE];

    let kept_nowhere = file(NO_FREELIST, &[inline.clone(), rubbish.clone()]);
    assert_eq!(outcome(&kept_nowhere), (Ok(2), Ok(1)));
    let reader = Reader::open(&kept_nowhere).unwrap();
    assert!(reader.buckets().unwrap()[0].inline);

    let ids: Vec<u8> = [3_u64, 5].iter().flat_map(|id| id.to_le_bytes()).collect();
    let list = page(4, FLAG_FREELIST, 2, 0, &ids);
    let kept = file(4, &[inline.clone(), rubbish.clone(), list, rubbish]);
    assert_eq!(outcome(&kept), (Ok(2), Ok(2)));

    // Past 65,534 ids the count moves into the first slot.
    let ids: Vec<u8> = [1_u64, 4].iter().flat_map(|id| id.to_le_bytes()).collect();
    let list = page(3, FLAG_FREELIST, 0xffff, 0, &ids);
    let kept = file(3, &[inline, list, vec![0; PAGE]]);
    assert_eq!(outcome(&kept), (Ok(2), Ok(1)));
}

#[test]
fn a_broken_freelist_is_named() {
    let ids = |ids: &[u64]| -> Vec<u8> { ids.iter().flat_map(|id| id.to_le_bytes()).collect() };
    for (count, slots, fault) in [
        (1, ids(&[9]), "page 4: free page 9 is outside the file"),
        (1, ids(&[3]), "page 3: used more than once"),
        (200, ids(&[]), "page 4: 200 free ids do not fit"),
        (0xffff, ids(&[u64::MAX]), "page 4: 18446744073709551615 free ids do not fit"),
        (0, ids(&[]), "page 5: neither reachable nor free"),
    ] {
        let list = page(4, FLAG_FREELIST, count, 0, &slots);
        let pages = [root(2, 3), leaf(3, &[plain(b"k")]), list, vec![0; PAGE]];
        assert_eq!(outcome(&file(4, &pages)), (Ok(1), Err(fault.to_owned())));
    }
    let pages = [root(2, 3), leaf(3, &[plain(b"k")])];
    let (_, checked) = outcome(&file(3, &pages));
    assert_eq!(checked.unwrap_err(), "page 3: not a freelist, flags 0x0002");
}

#[test]
fn metas_that_point_outside_are_refused() {
    let data = [root(2, 3), leaf(3, &[plain(b"k")])].concat();
    let sound = Meta { page_bytes: PAGE as u32, root: 2, freelist: NO_FREELIST, high_water: 4, txid: 5 };
    let opened = |meta| Reader::open(with_meta(meta, &data)).map(drop);
    assert!(opened(sound).is_ok());
    for meta in [
        Meta { root: 0, ..sound },
        Meta { root: 4, ..sound },
        Meta { freelist: 1, ..sound },
        Meta { freelist: 4, ..sound },
    ] {
        assert!(matches!(opened(meta), Err(ReadError::Corrupt { page: 0, .. })), "{meta:?}");
    }
    for high_water in [5, u64::MAX] {
        let meta = Meta { high_water, ..sound };
        assert!(matches!(opened(meta), Err(ReadError::Truncated { .. })));
    }
}

#[test]
fn circles_end() {
    // A branch that is its own child.
    let own = [root(2, 3), branch(3, &[(b"a", 3), (b"b", 3)])];
    let (walked, checked) = outcome(&file(NO_FREELIST, &own));
    assert_eq!(walked.unwrap_err(), "page 3: the tree runs in a circle");
    assert_eq!(checked.unwrap_err(), "page 3: used more than once");

    // Forty levels that each name the next one twice: 2^40 paths to an empty leaf.
    let mut pages = vec![root(2, 3)];
    for id in 3..43 {
        pages.push(branch(id, &[(b"a", id + 1), (b"b", id + 1)]));
    }
    pages.push(leaf(43, &[]));
    let doubled = file(NO_FREELIST, &pages);
    let (walked, checked) = outcome(&doubled);
    assert!(walked.unwrap_err().ends_with("the tree runs in a circle"));
    assert!(checked.unwrap_err().ends_with("key out of order"));
    let reader = Reader::open(&doubled).unwrap();
    assert!(reader.bucket("b").unwrap().unwrap().last_entry().is_err());

    // A bucket inside the root whose root is the root.
    let (_, checked) = outcome(&file(NO_FREELIST, &[root(2, 2)]));
    assert_eq!(checked.unwrap_err(), "page 2: used more than once");
}

#[test]
fn pages_that_lie_are_named() {
    let k = || leaf(3, &[plain(b"k")]);
    let with = |third: Vec<u8>| outcome(&file(NO_FREELIST, &[root(2, 3), third])).0;
    let edited = |at: usize, value: &[u8]| {
        let mut third = k();
        third[at..at + value.len()].copy_from_slice(value);
        with(third).unwrap_err()
    };
    assert_eq!(with(k()), Ok(1));
    assert_eq!(edited(0, &[9]), "page 3: calls itself page 9");
    assert_eq!(edited(8, &[4]), "page 3: neither branch nor leaf, flags 0x0004");
    assert_eq!(edited(10, &[0xff, 0xff]), "page 3: 65535 elements do not fit 1024 bytes");
    assert_eq!(edited(12, &[1]), "page 3: overflow runs past the file");
    assert_eq!(edited(12, &[0xff; 4]), "page 3: overflow runs past the file");
    // The element's own words: position, key size, value size.
    assert_eq!(edited(20, &[0xff; 4]), "page 3: element 0: data runs past the page");
    assert_eq!(edited(20, &[0; 4]), "page 3: element 0: data overlaps the element headers");
    assert_eq!(edited(24, &[0; 4]), "page 3: element 0: empty key");
    assert_eq!(edited(24, &[0xff; 8]), "page 3: element 0: data runs past the page");
    assert_eq!(with(branch(3, &[])).unwrap_err(), "page 3: branch without children");
    assert_eq!(with(branch(3, &[(b"a", 77)])).unwrap_err(), "page 77: referenced, but outside the file");
    assert_eq!(with(leaf(3, &[plain(b"k"), plain(b"k")])).unwrap_err(), "page 3: element 1: key out of order");
}

#[test]
fn a_branch_that_misplaces_a_key_is_found_by_the_check() {
    let pages =
        [root(2, 3), branch(3, &[(b"a", 4), (b"m", 5)]), leaf(4, &[plain(b"a"), plain(b"n")]), leaf(5, &[plain(b"o")])];
    let (walked, checked) = outcome(&file(NO_FREELIST, &pages));
    assert_eq!(walked, Ok(3), "in order, so a walk cannot tell");
    assert_eq!(checked.unwrap_err(), "page 4: element 1: key out of order");
}

#[test]
fn the_last_entry_is_found_past_an_empty_leaf() {
    let pages = [
        root(2, 3),
        branch(3, &[(b"a", 4), (b"m", 5), (b"x", 6)]),
        leaf(4, &[plain(b"a"), plain(b"b")]),
        leaf(5, &[]),
        leaf(6, &[]),
    ];
    let file = file(NO_FREELIST, &pages);
    let reader = Reader::open(&file).unwrap();
    let last = reader.bucket("b").unwrap().unwrap().last_entry().unwrap();
    assert_eq!(last.unwrap().key, "b");
}
