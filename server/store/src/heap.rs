//! Large values in append-only files. An entry is written once and never changed; where it is, others remember.
//!
//! An entry, integers little-endian: CRC-32C of all that follows (4 bytes), length of the value (4), length of the key
//! (2), the key, the value. The key is there so that a file can be gone through without anybody's memory of it.
//!
//! A file is appended to by the process that made it only; a restart begins a new one. What a crash leaves after the
//! last entry that anybody remembers is never read.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;
use rustix::io::{ReadWriteFlags, preadv2};

const HEAD: usize = 10;
pub(crate) const POINTER_BYTES: usize = 16;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub file: u32,
    pub offset: u64,
    /// Of the whole entry.
    pub len: u32,
}

impl Pointer {
    pub fn encode(&self) -> [u8; POINTER_BYTES] {
        let mut bytes = [0; POINTER_BYTES];
        bytes[..4].copy_from_slice(&self.file.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_le_bytes());
        bytes[12..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (file, rest) = bytes.split_first_chunk::<4>()?;
        let (offset, len) = rest.split_first_chunk::<8>()?;
        Some(Self {
            file: u32::from_le_bytes(*file),
            offset: u64::from_le_bytes(*offset),
            len: u32::from_le_bytes(len.try_into().ok()?),
        })
    }
}

struct HeapFile {
    file: File,
    path: PathBuf,
}

/// What the one writer keeps about a file.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Bytes that were appended, or were there when it was opened.
    size: u64,
    /// Bytes of entries that are still remembered.
    live: u64,
    /// Was gone through once to move what is alive: what is left can't be read, and going again changes nothing.
    relocated: bool,
}

/// The files of a directory. Reading is for any thread; everything that takes `&mut Writer` for the one that has it.
pub(crate) struct Heap {
    dir: PathBuf,
    files: RwLock<BTreeMap<u32, Arc<HeapFile>>>,
}

/// The right to append, and the books.
pub(crate) struct Writer {
    usage: BTreeMap<u32, Usage>,
    /// The file that is appended to; `None` until the first append.
    active: Option<u32>,
    next: u32,
    file_bytes: u64,
    /// Files with entries that no sync has covered.
    unsynced: Vec<u32>,
    /// Whether a file came or went since the directory was synced.
    unsynced_dir: bool,
}

/// An entry as it was read back.
pub(crate) struct Entry {
    bytes: Bytes,
    key_len: usize,
}

impl Entry {
    pub fn key(&self) -> &[u8] {
        &self.bytes[HEAD..HEAD + self.key_len]
    }

    pub fn value(&self) -> Bytes {
        self.bytes.slice(HEAD + self.key_len..)
    }

    fn parse(bytes: Bytes) -> Option<Self> {
        let crc = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let value_len = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
        let key_len = usize::from(u16::from_le_bytes(bytes.get(8..HEAD)?.try_into().ok()?));
        let fits = bytes.len() == HEAD + key_len + value_len;
        (fits && crc32c::crc32c(&bytes[4..]) == crc).then_some(Self { bytes, key_len })
    }
}

/// Appends an entry's bytes to `out`. Returns its length.
fn put_entry(out: &mut Vec<u8>, key: &[u8], value: &[u8]) -> io::Result<u32> {
    let too_large = |_| io::Error::other("an entry of 4 GiB, or a key of 64 KiB");
    let key_len = u16::try_from(key.len()).map_err(too_large)?;
    let value_len = u32::try_from(value.len()).map_err(too_large)?;
    let len = u32::try_from(HEAD + key.len() + value.len()).map_err(too_large)?;
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&value_len.to_le_bytes());
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(len)
}

impl Heap {
    /// Opens all files of the directory, or founds it. A file is full, and the next one begun, at `file_bytes`.
    pub fn open(dir: &Path, file_bytes: u64) -> io::Result<(Self, Writer)> {
        fs::create_dir_all(dir)?;
        let (mut files, mut usage) = (BTreeMap::new(), BTreeMap::new());
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(number) = name.and_then(|name| u32::from_str_radix(name, 16).ok()) else {
                continue;
            };
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            usage.insert(number, Usage { size, ..Usage::default() });
            files.insert(number, Arc::new(HeapFile { file, path }));
        }
        let writer = Writer {
            next: files.last_key_value().map_or(0, |(last, _)| last + 1),
            usage,
            active: None,
            file_bytes,
            unsynced: Vec::new(),
            unsynced_dir: true,
        };
        let heap = Self { dir: dir.to_owned(), files: RwLock::new(files) };
        Ok((heap, writer))
    }

    /// Reads an entry. `Ok(None)` when its file is gone: it was moved, and whoever remembers it knows where.
    pub fn read(&self, at: Pointer) -> io::Result<Option<Entry>> {
        let whole = |file: &File, bytes: &mut [u8]| file.read_exact_at(bytes, at.offset).map(|()| true);
        Ok(self.entry(at, whole)?.flatten())
    }

    /// Reads an entry if the system has it in memory; `Ok(None)` if not, or if its file is gone.
    pub fn read_near(&self, at: Pointer) -> io::Result<Option<Entry>> {
        let without_waiting = |file: &File, bytes: &mut [u8]| {
            let len = bytes.len();
            // It fails where a read would have to wait, and on file systems that can't say.
            let read = preadv2(file, &mut [IoSliceMut::new(bytes)], at.offset, ReadWriteFlags::NOWAIT);
            Ok(read.is_ok_and(|read| read == len))
        };
        Ok(self.entry(at, without_waiting)?.flatten())
    }

    /// The entry that `fill` reads: `None` when its file is gone, `Some(None)` when `fill` says that it did not.
    fn entry(
        &self,
        at: Pointer,
        fill: impl FnOnce(&File, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<Option<Option<Entry>>> {
        let Some(file) = self.files.read().get(&at.file).cloned() else {
            return Ok(None);
        };
        let mut bytes = vec![0; at.len as usize];
        let damaged = |why: String| {
            let place = format!("{} at {}: {why}", file.path.display(), at.offset);
            io::Error::new(io::ErrorKind::InvalidData, place)
        };
        if !fill(&file.file, &mut bytes).map_err(|error| damaged(error.to_string()))? {
            return Ok(Some(None));
        }
        Entry::parse(bytes.into())
            .map(|entry| Some(Some(entry)))
            .ok_or_else(|| damaged("the entry fails its check".to_owned()))
    }

    /// Appends entries, all in one file and by one write. Returns where they are.
    pub fn append(&self, writer: &mut Writer, entries: &[(&[u8], &[u8])]) -> io::Result<Vec<Pointer>> {
        let size = entries.iter().map(|(key, value)| HEAD + key.len() + value.len()).sum();
        let mut bytes = Vec::with_capacity(size);
        let number = self.active(writer)?;
        let usage = writer.usage.entry(number).or_default();
        let start = usage.size;
        let mut pointers = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let offset = start + bytes.len() as u64;
            let len = put_entry(&mut bytes, key, value)?;
            pointers.push(Pointer { file: number, offset, len });
        }
        let file = self.files.read().get(&number).cloned();
        let file = file.ok_or_else(|| io::Error::other("the active file is gone"))?;
        file.file.write_all_at(&bytes, start)?;
        usage.size += bytes.len() as u64;
        usage.live += bytes.len() as u64;
        if writer.unsynced.last() != Some(&number) {
            writer.unsynced.push(number);
        }
        Ok(pointers)
    }

    /// The file to append to.
    fn active(&self, writer: &mut Writer) -> io::Result<u32> {
        let has_room = |number: &u32| writer.usage[number].size < writer.file_bytes;
        if let Some(number) = writer.active.filter(has_room) {
            return Ok(number);
        }
        let number = writer.next;
        let path = self.dir.join(format!("{number:08x}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        self.files.write().insert(number, Arc::new(HeapFile { file, path }));
        writer.usage.insert(number, Usage::default());
        writer.next += 1;
        writer.active = Some(number);
        writer.unsynced_dir = true;
        Ok(number)
    }

    /// Makes all entries durable. After an error nothing is known about them.
    pub fn sync(&self, writer: &mut Writer) -> io::Result<()> {
        for number in writer.unsynced.drain(..) {
            let file = self.files.read().get(&number).cloned();
            if let Some(file) = file {
                file.file.sync_data()?;
            }
        }
        if std::mem::take(&mut writer.unsynced_dir) {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Deletes the files that nobody remembers an entry of.
    pub fn drop_dead(&self, writer: &mut Writer) -> io::Result<()> {
        let active = writer.active;
        let is_dead = |(number, usage): (&u32, &Usage)| (usage.live == 0 && Some(*number) != active).then_some(*number);
        let dead: Vec<u32> = writer.usage.iter().filter_map(is_dead).collect();
        for number in dead {
            writer.usage.remove(&number);
            writer.unsynced.retain(|unsynced| *unsynced != number);
            writer.unsynced_dir = true;
            let file = self.files.write().remove(&number);
            if let Some(file) = file {
                fs::remove_file(&file.path)?;
            }
        }
        Ok(())
    }

    /// Visits the entries of a file, but for those that fail their check.
    pub fn entries(&self, number: u32, visit: &mut dyn FnMut(Pointer, Entry) -> io::Result<()>) -> io::Result<()> {
        let Some(file) = self.files.read().get(&number).cloned() else {
            return Ok(());
        };
        let size = file.file.metadata()?.len();
        let mut offset = 0;
        let mut head = [0; HEAD];
        while offset + HEAD as u64 <= size {
            file.file.read_exact_at(&mut head, offset)?;
            let value_len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let key_len = u16::from_le_bytes([head[8], head[9]]);
            let len = HEAD as u64 + u64::from(key_len) + u64::from(value_len);
            let Some(len) = u32::try_from(len).ok().filter(|_| offset + len <= size) else {
                break;
            };
            let at = Pointer { file: number, offset, len };
            if let Ok(Some(entry)) = self.read(at) {
                visit(at, entry)?;
            }
            offset += u64::from(len);
        }
        Ok(())
    }
}

impl Writer {
    /// Counts an entry that was there when the heap was opened.
    ///
    /// # Errors
    /// What is wrong when the file does not reach that far.
    pub fn found(&mut self, at: Pointer) -> Result<(), String> {
        let end = at.offset.checked_add(u64::from(at.len));
        match self.usage.get_mut(&at.file) {
            Some(usage) if end.is_some_and(|end| end <= usage.size) => {
                usage.live += u64::from(at.len);
                Ok(())
            }
            Some(usage) => Err(format!(
                "heap file {:08x} has {} bytes, an entry of {} is at {}",
                at.file, usage.size, at.len, at.offset
            )),
            None => Err(format!("heap file {:08x} is missing", at.file)),
        }
    }

    /// Nobody remembers this entry any more.
    pub fn forgotten(&mut self, at: Pointer) {
        if let Some(usage) = self.usage.get_mut(&at.file) {
            usage.live = usage.live.saturating_sub(u64::from(at.len));
        }
    }

    /// What could be moved out of this file has been.
    pub fn relocated(&mut self, file: u32) {
        if let Some(usage) = self.usage.get_mut(&file) {
            usage.relocated = true;
        }
    }

    /// The file that wastes most, if it wastes more than half of itself and is not being appended to.
    pub fn most_wasteful(&self) -> Option<u32> {
        let files = self
            .usage
            .iter()
            .filter(|(number, usage)| Some(**number) != self.active && usage.live > 0 && usage.live * 2 < usage.size);
        files.max_by_key(|(_, usage)| usage.size - usage.live).map(|(number, _)| *number)
    }
}
