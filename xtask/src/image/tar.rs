//! Tar archives (ustar) that depend on nothing but what is put in: no times, no names of this machine, sorted.

use std::collections::BTreeMap;

const BLOCK: usize = 512;

pub struct Entry {
    /// Absolute, or below nothing; the archive's is without the slash.
    pub path: String,
    /// User and group.
    pub owner: u32,
    pub what: What,
}

pub enum What {
    Directory(u32),
    Program(Vec<u8>),
    /// For everybody to read.
    File(Vec<u8>),
    /// To a name in the same directory.
    Link(String),
}

/// The archive, with every directory above an entry in it.
pub fn write(entries: Vec<Entry>) -> Vec<u8> {
    let mut all: BTreeMap<String, (u32, What)> = BTreeMap::new();
    for entry in entries {
        let path = entry.path.trim_matches('/').to_owned();
        for (at, _) in path.match_indices('/') {
            all.entry(format!("{}/", &path[..at])).or_insert((0, What::Directory(0o755)));
        }
        let path = if matches!(entry.what, What::Directory(_)) { path + "/" } else { path };
        all.insert(path, (entry.owner, entry.what));
    }
    let mut out = Vec::new();
    for (path, (owner, what)) in all {
        let (kind, mode, link, bytes) = match what {
            What::Directory(mode) => (b'5', mode, String::new(), Vec::new()),
            What::Program(bytes) => (b'0', 0o755, String::new(), bytes),
            What::File(bytes) => (b'0', 0o644, String::new(), bytes),
            What::Link(to) => (b'2', 0o777, to, Vec::new()),
        };
        out.extend(header(&path, mode, owner, bytes.len(), kind, &link));
        out.extend(&bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks are the end.
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn header(path: &str, mode: u32, owner: u32, bytes: usize, kind: u8, link: &str) -> [u8; BLOCK] {
    assert!(path.len() <= 100 && link.len() <= 100, "{path}: no image has longer names");
    assert!(bytes < 1 << 33, "{path}: no program is as large");
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, &format!("{owner:07o}"));
    put(116, &format!("{owner:07o}"));
    put(124, &format!("{bytes:011o}"));
    put(136, "00000000000");
    // The sum counts its own field as blanks.
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
