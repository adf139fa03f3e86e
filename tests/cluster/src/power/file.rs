//! A file as a disk has it: what was synced, and what may or may not have got there since.
//!
//! A disk writes sectors whole, and the kernel writes pages as they are: of the unsynced writes to one sector, a first
//! part is there and the rest is not. Different sectors are independent.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::Result;
use rand::Rng as _;
use rand::rngs::StdRng;

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

/// A change of a file's bytes or length.
#[derive(Clone, Debug)]
pub enum Change {
    Write {
        at: u64,
        bytes: Vec<u8>,
    },
    Zero {
        at: u64,
        len: u64,
    },
    Truncate {
        len: u64,
    },
    /// At least this long.
    Extend {
        len: u64,
    },
}

/// What happens to unsynced changes, in a crash state.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// The chance of a change to be dropped as a whole.
    pub drop: f64,
    /// The chance of a change that is not dropped to be torn.
    pub tear: f64,
}

/// A file's content.
#[derive(Debug, Default)]
pub struct Content {
    /// Pages with anything but zeros.
    pages: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// By when they were made.
    pending: Vec<(u64, Change)>,
}

impl Content {
    /// A change that is not synced yet.
    pub fn change(&mut self, when: u64, change: Change) {
        self.pending.push((when, change));
    }

    /// Everything before `when` is durable.
    pub fn synced(&mut self, when: u64) {
        let later = self.pending.partition_point(|(made, _)| *made < when);
        for (_, change) in self.pending.drain(..later).collect::<Vec<_>>() {
            match change {
                Change::Write { at, bytes } => self.write(at, &bytes),
                Change::Zero { at, len } => self.zero(at, len),
                Change::Truncate { len } => {
                    if len < self.len {
                        self.zero(len, self.len - len);
                    }
                    self.len = len;
                }
                Change::Extend { len } => self.len = self.len.max(len),
            }
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let offset = at + done as u64;
            let inside = (offset % PAGE) as usize;
            let len = (PAGE as usize - inside).min(bytes.len() - done);
            let page = self.pages.entry(offset / PAGE).or_insert_with(|| vec![0; PAGE as usize].into());
            page[inside..inside + len].copy_from_slice(&bytes[done..done + len]);
            done += len;
        }
        self.len = self.len.max(at + bytes.len() as u64);
    }

    fn zero(&mut self, at: u64, len: u64) {
        let end = at + len;
        let touched: Vec<u64> = self.pages.range(at / PAGE..end.div_ceil(PAGE)).map(|(page, _)| *page).collect();
        for number in touched {
            let (from, to) = (number * PAGE, (number + 1) * PAGE);
            if at <= from && to <= end {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                page[(at.max(from) - from) as usize..(end.min(to) - from) as usize].fill(0);
            }
        }
        self.len = self.len.max(end);
    }

    /// Writes the file as a loss of power may leave it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn rebuild(&self, path: &Path, fate: Fate, rng: &mut StdRng) -> Result<()> {
        let file = File::create(path)?;
        file.set_len(self.len)?;
        for (number, page) in &self.pages {
            let at = number * PAGE;
            let len = PAGE.min(self.len.saturating_sub(at));
            file.write_all_at(&page[..len as usize], at)?;
        }
        let mut len = self.len;
        let mut closed = HashSet::new();
        for (_, change) in &self.pending {
            let dropped = rng.random_bool(fate.drop);
            let torn = !dropped && rng.random_bool(fate.tear);
            let zeros;
            let (at, bytes): (u64, &[u8]) = match change {
                Change::Write { at, bytes } => (*at, bytes),
                Change::Zero { at, len } => {
                    zeros = vec![0; *len as usize];
                    (*at, &zeros)
                }
                Change::Truncate { .. } | Change::Extend { .. } if dropped => continue,
                Change::Truncate { len: to } => {
                    file.set_len(*to)?;
                    len = *to;
                    continue;
                }
                Change::Extend { len: to } => {
                    len = len.max(*to);
                    file.set_len(len)?;
                    continue;
                }
            };
            let end = at + bytes.len() as u64;
            let mut from = at;
            while from < end {
                let sector = from / SECTOR;
                let to = end.min((sector + 1) * SECTOR);
                let lost = dropped || (torn && rng.random());
                if lost {
                    closed.insert(sector);
                } else if !closed.contains(&sector) {
                    file.write_all_at(&bytes[(from - at) as usize..(to - at) as usize], from)?;
                    len = len.max(to);
                }
                from = to;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn built(content: &Content, fate: Fate, seed: u64) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        content.rebuild(&path, fate, &mut StdRng::seed_from_u64(seed)).expect("a file");
        std::fs::read(path).expect("its bytes")
    }

    #[test]
    fn synced_bytes_stay_and_unsynced_ones_go() {
        let mut content = Content::default();
        content.change(1, Change::Write { at: 100, bytes: vec![1; 1000] });
        content.change(2, Change::Write { at: 5000, bytes: vec![2; 5000] });
        content.change(3, Change::Zero { at: 4096, len: 4096 });
        content.synced(3);
        let gone = built(&content, Fate { drop: 1.0, tear: 0.0 }, 1);
        assert_eq!((gone.len(), gone[100], gone[1099], gone[5000]), (10_000, 1, 1, 2));
        let kept = built(&content, Fate { drop: 0.0, tear: 0.0 }, 1);
        assert_eq!((kept.len(), kept[5000], kept[8191], kept[8192]), (10_000, 0, 0, 2));
    }

    #[test]
    fn a_tear_is_at_a_sector_and_a_later_write_needs_the_earlier_one_of_its_sector() {
        let mut content = Content::default();
        content.change(1, Change::Write { at: 0, bytes: vec![1; 2048] });
        content.change(2, Change::Write { at: 100, bytes: vec![2; 10] });
        let mut torn = 0;
        for seed in 0..50 {
            let mut bytes = built(&content, Fate { drop: 0.0, tear: 1.0 }, seed);
            bytes.resize(2048, 0);
            for sector in bytes.chunks(512) {
                let first = sector[0];
                assert!(
                    sector
                        .iter()
                        .enumerate()
                        .all(|(i, byte)| *byte == first || (*byte == 2 && (100..110).contains(&i)))
                );
                assert!(first == 1 || sector.iter().all(|byte| *byte == 0));
            }
            torn += usize::from(bytes[0] != bytes[1024]);
        }
        assert!(torn > 5, "only {torn} of 50 are torn");
    }
}
