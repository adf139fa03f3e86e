//! Opening what a crash may have left: finds the end of the stream, and tells a torn tail from damage.
//!
//! The rules, each from how groups are written (one after the other, each synced before the next begins):
//!
//! * An intact sector of group n+1 proves that group n was synced. If n is not whole now, it is damage.
//! * Only the group after the last whole one can be torn. Its sectors are then either its own or what was there before:
//!   zeros, or intact sectors of earlier groups. One that is neither is damage, not a tear.
//! * A torn group was never answered. Its sectors are wiped and synced before anything is written, so that they are never
//!   taken for sectors of the group that takes its number.
//!
//! What is damage is refused, with the file and the offset; nothing is cut on a guess.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, File};
use crate::error::WalError;
use crate::group::{self, Head, VERSION};
use crate::options::Options;
use crate::record::LogPos;
use crate::replay::Replay;
use crate::sector::{self, DATA, SECTOR, STAMP, Stamp};
use crate::segment::{self, Name};
use crate::writer::{Segment, Tail};

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The identity the log was begun with; `None` for a new log.
    pub meta: Option<Bytes>,
    /// The last vote saved.
    pub vote: Option<Bytes>,
    /// The last committed position that happened to be synced.
    pub committed: Option<Bytes>,
    /// The last entry purged.
    pub purged: Option<LogPos>,
    /// The index of the first entry here.
    pub first_index: Option<u64>,
    /// The last entry, or with none left the last purged one.
    pub last: Option<LogPos>,
    /// What an interrupted write left behind and was cut.
    pub cut: Option<Cut>,
}

/// A torn tail. Nothing in it was ever acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Where the stream ends now, bytes.
    pub offset: u64,
    /// Sectors wiped.
    pub sectors: usize,
}

/// Everything needed to go on.
pub(crate) struct Recovery {
    pub(crate) tail: Tail,
    pub(crate) replay: Replay,
    pub(crate) cut: Option<Cut>,
}

/// Reads every segment in `dir`, cuts a torn tail and makes the rest durable.
pub(crate) fn recover(disk: &dyn Disk, dir: &Path, options: &Options) -> Result<Recovery, WalError> {
    let mut files = Vec::new();
    for number in numbers(disk, dir)? {
        files.push(SegmentFile::open(disk, dir, number)?);
    }
    let mut scan = Scan { replay: Replay::new(options.cache_bytes), seq: 0, chain: Some(0), last: None };
    let mut cut = None;
    let mut position = 0;
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let count = files.len();
    for i in 0..count {
        let (before, at) = files.split_at_mut(i);
        let (this, after) = at.split_first_mut().expect("i is below the count");
        if i == 0 && this.number > 1 {
            let first = this.must_be_begun("and the segments before it are gone")?;
            (scan.seq, scan.chain) = (first - 1, None);
        }
        let max_index;
        (position, max_index) = scan.segment(this)?;
        if let Some(next) = after.first_mut() {
            // A later segment that begins where this one stopped proves the end. The last one may not have begun.
            if let Begun::Yes(first) = next.begun
                && first != scan.seq + 1
            {
                return Err(this.lost(position, scan.seq + 1, first));
            }
            if next.begun == Begun::No && count > i + 2 {
                next.must_be_begun("but a later segment is there")?;
            }
        }
        let last = i + 1 == count;
        if last {
            let torn = this.judge_tail(position, scan.seq)?;
            if !torn.is_empty() {
                cut = Some(Cut { file: this.path.clone(), offset: at_byte(position), sectors: torn.len() });
            }
            if position == 0 {
                // It never held a group. The one before goes on, if its own tail is clean.
                if let Some(previous) = before.last_mut() {
                    position = previous.end;
                    if !previous.judge_tail(position, scan.seq)?.is_empty() {
                        let detail = "a torn group is here, but the next segment was begun";
                        return Err(WalError::corrupt(&previous.path, at_byte(position), detail));
                    }
                }
                disk.remove(&this.path).map_err(|e| WalError::io("remove", &this.path, e))?;
                break;
            }
            this.wipe(&torn)?;
        }
        this.end = position;
        segments.push_back(this.segment(max_index));
    }
    scan.replay.end().map_err(|detail| {
        let file = files.first().map_or(dir, |file| &file.path);
        WalError::corrupt(file, 0, detail)
    })?;
    if let Some(cut) = &cut {
        tracing::warn!(
            file = %cut.file.display(), offset = cut.offset, sectors = cut.sectors,
            "cut the torn tail of the log: a write that was interrupted and never acknowledged"
        );
    }
    if options.fsync {
        scan.make_durable(disk, dir, segments.back())?;
    }
    let Scan { replay, seq, chain, .. } = scan;
    let tail = Tail { segments, position, seq, chain: chain.unwrap_or(0), restated: replay.restated.clone() };
    Ok(Recovery { tail, replay, cut })
}

impl Recovery {
    pub(crate) fn recovered(&self) -> Recovered {
        let state = &self.replay.restated;
        Recovered {
            meta: state.meta.clone(),
            vote: state.vote.clone(),
            committed: state.committed.clone(),
            purged: self.replay.index.purged(),
            first_index: self.replay.index.first(),
            last: self.replay.index.last(),
            cut: self.cut.clone(),
        }
    }
}

/// The numbers of the segments in `dir`, which must have no gap.
fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, WalError> {
    let names = disk.list(dir).map_err(|e| WalError::io("list", dir, e))?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| match Name::parse(name) {
            Name::Segment(number) => Some(number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            let missing = segment::path(dir, pair[0] + 1);
            return Err(WalError::corrupt(&missing, 0, "the segment is missing, and later ones are there"));
        }
    }
    Ok(numbers)
}

fn at_byte(position: u32) -> u64 {
    u64::from(position) * SECTOR as u64
}

/// Whether a group was ever written to a segment under its present name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// With this sequence number in its first sector.
    Yes(u64),
    No,
}

struct SegmentFile {
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    sectors: u32,
    begun: Begun,
    /// The sector after the last whole group.
    end: u32,
    window: Vec<u8>,
    window_at: u32,
}

impl SegmentFile {
    fn open(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Self, WalError> {
        let path = segment::path(dir, number);
        let file = disk.open(&path).map_err(|e| WalError::io("open", &path, e))?;
        let len = file.len().map_err(|e| WalError::io("stat", &path, e))?;
        if len == 0 || !len.is_multiple_of(SECTOR as u64) || len > 1 << 30 || number >= u64::from(u32::MAX) {
            return Err(WalError::corrupt(&path, 0, format!("a segment cannot have {len} bytes")));
        }
        let sectors = (len / SECTOR as u64) as u32;
        let mut this = Self { number, path, file, sectors, begun: Begun::No, end: 0, window: Vec::new(), window_at: 0 };
        this.begun = this.read_begun()?;
        Ok(this)
    }

    fn read_begun(&mut self) -> Result<Begun, WalError> {
        let Stamp::Seq(seq) = self.stamp(0)? else {
            return Ok(Begun::No);
        };
        let Some(Head { segment: Some(head), .. }) = Head::read(self.data(0)?, true) else {
            return Ok(Begun::No);
        };
        if head.number != self.number {
            return Ok(Begun::No);
        }
        if head.version != VERSION {
            return Err(WalError::Version { file: self.path.clone(), found: head.version, supported: VERSION });
        }
        if head.sectors != self.sectors {
            let detail = format!("the file has {} sectors; it was made with {}", self.sectors, head.sectors);
            return Err(WalError::corrupt(&self.path, 0, detail));
        }
        Ok(Begun::Yes(seq))
    }

    fn must_be_begun(&self, but: &str) -> Result<u64, WalError> {
        match self.begun {
            Begun::Yes(seq) => Ok(seq),
            Begun::No => Err(WalError::corrupt(&self.path, 0, format!("the segment's header does not verify, {but}"))),
        }
    }

    fn lost(&self, position: u32, seq: u64, later: u64) -> WalError {
        let detail = format!("group {seq} was synced once and does not verify, while group {later} does");
        WalError::corrupt(&self.path, at_byte(position), detail)
    }

    fn segment(&self, max_index: Option<u64>) -> Segment {
        Segment { number: self.number, file: Arc::clone(&self.file), sectors: self.sectors, max_index }
    }

    fn sector(&mut self, position: u32) -> Result<&[u8], WalError> {
        let held = (self.window.len() / SECTOR) as u32;
        if position < self.window_at || position >= self.window_at + held {
            let at = at_byte(position);
            let len = (at_byte(self.sectors) - at).min(WINDOW as u64) as usize;
            self.window.resize(len, 0);
            let n = self.file.pread(&mut self.window, at).map_err(|e| WalError::io("read", &self.path, e))?;
            if n < len {
                self.window.clear();
                return Err(WalError::corrupt(&self.path, at + n as u64, "the file became shorter"));
            }
            self.window_at = position;
        }
        let at = (position - self.window_at) as usize * SECTOR;
        Ok(&self.window[at..at + SECTOR])
    }

    fn stamp(&mut self, position: u32) -> Result<Stamp, WalError> {
        Ok(sector::stamp(self.sector(position)?, position))
    }

    fn data(&mut self, position: u32) -> Result<&[u8], WalError> {
        Ok(&self.sector(position)?[STAMP..])
    }

    /// The head of group `seq` if its first sector is at `position`. An intact sector that cannot be one is damage.
    fn head(&mut self, position: u32, seq: u64) -> Result<Option<Head>, WalError> {
        if position >= self.sectors || self.stamp(position)? != Stamp::Seq(seq) {
            return Ok(None);
        }
        let left = self.sectors - position;
        let head = Head::read(self.data(position)?, position == 0);
        match head.filter(|head| head.fits(left)) {
            Some(head) if position > 0 || self.begun == Begun::Yes(seq) => Ok(Some(head)),
            _ => Err(WalError::corrupt(&self.path, at_byte(position), format!("group {seq} has an impossible head"))),
        }
    }

    /// After the last whole group `seq`, which ends at `position`: which sectors are of an interrupted write.
    fn judge_tail(&mut self, position: u32, seq: u64) -> Result<Vec<u32>, WalError> {
        let (mut torn, mut damaged) = (Vec::new(), Vec::new());
        for at in position..self.sectors {
            match self.stamp(at)? {
                Stamp::Zero => {}
                Stamp::Seq(found) if found <= seq => {}
                Stamp::Seq(found) if found == seq + 1 => torn.push(at),
                Stamp::Seq(found) => return Err(self.lost(position, seq + 1, found)),
                Stamp::Damaged => damaged.push(at),
            }
        }
        // Damage outside the group hits bytes that hold nothing. Where the group's first sector was never written, the
        // group was not synced, and no other sector of it can have been answered.
        let extent: Range<u32> = match self.head(position, seq + 1)? {
            Some(head) => position..position + head.sectors,
            None => position..position + 1,
        };
        if let Some(at) = damaged.iter().find(|at| extent.contains(at)) {
            let detail = format!("a sector of group {} is neither what was written nor what was there before", seq + 1);
            return Err(WalError::corrupt(&self.path, at_byte(*at), detail));
        }
        torn.append(&mut damaged);
        torn.sort_unstable();
        Ok(torn)
    }

    fn wipe(&mut self, positions: &[u32]) -> Result<(), WalError> {
        for at in positions {
            let wiped = self.file.pwrite(&[0; SECTOR], at_byte(*at));
            wiped.map_err(|e| WalError::io("wipe the torn tail of", &self.path, e))?;
        }
        self.window.clear();
        Ok(())
    }
}

struct Scan {
    replay: Replay,
    seq: u64,
    /// `None` until the first group of the oldest segment says what went before.
    chain: Option<u32>,
    /// The last whole group: its segment, first sector and sectors.
    last: Option<(u64, u32, u32)>,
}

impl Scan {
    /// Reads a segment's whole groups; answers the sector after them and the highest index of their entries.
    fn segment(&mut self, file: &mut SegmentFile) -> Result<(u32, Option<u64>), WalError> {
        let (mut position, mut max_index) = (0, None);
        while let Some(head) = file.head(position, self.seq + 1)? {
            let Some((data, chain)) = self.whole_group(file, position, &head)? else {
                break;
            };
            let corrupt = |detail| WalError::corrupt(&file.path, at_byte(position), detail);
            if self.chain.is_some_and(|chain| chain != head.chain) {
                return Err(corrupt(format!("group {} does not continue the groups before it", self.seq + 1)));
            }
            let max = self.replay.group(file.number, position, &head, &data).map_err(corrupt)?;
            max_index = max_index.max(max);
            self.seq += 1;
            self.chain = Some(chain);
            self.last = Some((file.number, position, head.sectors));
            position += head.sectors;
        }
        Ok((position, max_index))
    }

    /// The group's data bytes and the chain after it, if every sector is there.
    fn whole_group(
        &self,
        file: &mut SegmentFile,
        position: u32,
        head: &Head,
    ) -> Result<Option<(Vec<u8>, u32)>, WalError> {
        let mut data = Vec::with_capacity(head.sectors as usize * DATA);
        let mut chain = head.chain;
        for at in position..position + head.sectors {
            let bytes = file.sector(at)?;
            if sector::stamp(bytes, at) != Stamp::Seq(self.seq + 1) {
                return Ok(None);
            }
            chain = group::link(chain, sector::crc_of(bytes));
            data.extend_from_slice(&bytes[STAMP..]);
        }
        Ok(Some((data, chain)))
    }

    /// Writes the last group once more and syncs: a sync that failed in an earlier process can leave pages that read
    /// well, count as clean, and are not on the disk. Earlier groups were synced before this one was written.
    fn make_durable(&self, disk: &dyn Disk, dir: &Path, segment: Option<&Segment>) -> Result<(), WalError> {
        disk.sync_dir(dir).map_err(|e| WalError::io("sync directory", dir, e))?;
        let (Some(segment), Some((number, position, sectors))) = (segment, self.last) else {
            return Ok(());
        };
        debug_assert_eq!(segment.number, number);
        let path = segment::path(dir, number);
        let io = |what| move |e| WalError::io(what, &path, e);
        let mut bytes = vec![0; sectors as usize * SECTOR];
        segment.file.pread(&mut bytes, at_byte(position)).map_err(io.clone()("read"))?;
        segment.file.pwrite(&bytes, at_byte(position)).map_err(io.clone()("write"))?;
        segment.file.fdatasync().map_err(io("fdatasync"))
    }
}
