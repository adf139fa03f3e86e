//! Opens a bbolt file read-only and loads its pages one by one (pread, never mmap: a file that
//! changes or breaks under us gives an error, not a signal).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::cursor::Cursor;
use super::error::ReadError;
use super::format::{
    MAX_PAGE_BYTES, META_PAGE_BYTES, MIN_PAGE_BYTES, Meta, NO_FREELIST, PAGE_HEADER_BYTES, PageHeader, Pgid,
};
use super::page::{BucketRoot, Node};

/// Largest branch or leaf page (with its overflow) that is read, in bytes. One leaf holds a few
/// values at most when they are big, and etcd's default request limit is 1.5 MiB.
pub const MAX_NODE_BYTES: u64 = 256 << 20;

/// Where the bytes come from.
pub trait ReadAt {
    /// Fills `buf` from byte `at` on, or errors.
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, at)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at)
            .ok()
            .and_then(|at| self.get(at..)?.get(..buf.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, at)
    }

    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, at)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }
}

/// An opened database. Reading takes `&self`; nothing is cached.
#[derive(Debug)]
pub struct Reader<R> {
    file: R,
    pub(super) meta: Meta,
}

/// A bucket of the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    pub name: Bytes,
    /// Whether its entries are inlined in the root's leaf.
    pub inline: bool,
}

impl<R: ReadAt> Reader<R> {
    /// Opens all of `file` as a database.
    pub fn open(file: R) -> Result<Self, ReadError> {
        let bytes = file.length().map_err(|source| ReadError::Io { page: 0, source })?;
        Self::open_prefix(file, bytes)
    }

    /// Opens the first `bytes` of `file`: what follows (a digest) is not the database's.
    pub fn open_prefix(file: R, bytes: u64) -> Result<Self, ReadError> {
        let (meta_page, meta) = newest_meta(&file, bytes)?;
        let want = u64::from(meta.page_bytes).saturating_mul(meta.high_water);
        if bytes < want {
            return Err(ReadError::Truncated { have: bytes, want });
        }
        let outside = |id: Pgid| id < 2 || id >= meta.high_water;
        if outside(meta.root) {
            let what = format!("root page {} is outside the file", meta.root);
            return Err(ReadError::corrupt(meta_page, what));
        }
        if meta.freelist != NO_FREELIST && outside(meta.freelist) {
            let what = format!("freelist page {} is outside the file", meta.freelist);
            return Err(ReadError::corrupt(meta_page, what));
        }
        Ok(Self { file, meta })
    }

    /// Page size of this file, in bytes.
    pub fn page_bytes(&self) -> u32 {
        self.meta.page_bytes
    }

    /// Pages in use or once used, the metas included.
    pub fn pages(&self) -> u64 {
        self.meta.high_water
    }

    /// The root's buckets in name order.
    pub fn buckets(&self) -> Result<Vec<BucketInfo>, ReadError> {
        let mut found = Vec::new();
        let mut cursor = self.root()?;
        while let Some(entry) = cursor.next_entry()? {
            if !entry.is_bucket {
                return Err(ReadError::corrupt(entry.page, "a plain entry in the root"));
            }
            let root = BucketRoot::parse(entry.page, &entry.value)?;
            found.push(BucketInfo { name: entry.key, inline: matches!(root, BucketRoot::Inline(_)) });
        }
        Ok(found)
    }

    /// A cursor before the first entry of bucket `name`, `None` if there is no such bucket.
    pub fn bucket(&self, name: &str) -> Result<Option<Cursor<'_, R>>, ReadError> {
        let mut root = self.root()?;
        root.seek(name.as_bytes())?;
        let Some(entry) = root.next_entry()? else {
            return Ok(None);
        };
        if entry.key != name.as_bytes() {
            return Ok(None);
        }
        if !entry.is_bucket {
            return Err(ReadError::corrupt(entry.page, "a plain entry in the root"));
        }
        let node = match BucketRoot::parse(entry.page, &entry.value)? {
            BucketRoot::Inline(node) => node,
            BucketRoot::Page(id) => self.load(id)?,
        };
        Ok(Some(Cursor::new(self, node)))
    }

    fn root(&self) -> Result<Cursor<'_, R>, ReadError> {
        Ok(Cursor::new(self, self.load(self.meta.root)?))
    }

    /// Reads branch or leaf page `id` with its overflow.
    pub(super) fn load(&self, id: Pgid) -> Result<Node, ReadError> {
        self.in_range(id)?;
        let first = self.meta.page_bytes as usize;
        let mut raw = vec![0; first];
        self.read(id, 0, &mut raw)?;
        let header = self.parse_header(id, raw.first_chunk().expect("a page is 1 KiB or more"))?;
        let bytes = (u64::from(header.overflow) + 1) * u64::from(self.meta.page_bytes);
        if bytes > MAX_NODE_BYTES {
            let what = format!("a node of {bytes} bytes is over the limit");
            return Err(ReadError::corrupt(id, what));
        }
        if header.overflow > 0 {
            raw.resize(usize::try_from(bytes).expect("at most MAX_NODE_BYTES"), 0);
            self.read(id, first as u64, &mut raw[first..])?;
        }
        Node::parse(id, header, Bytes::from(raw))
    }

    /// Reads and checks the header of page `id`: in range, its own id, overflow within the file.
    pub(super) fn header(&self, id: Pgid) -> Result<PageHeader, ReadError> {
        self.in_range(id)?;
        let mut raw = [0; PAGE_HEADER_BYTES];
        self.read(id, 0, &mut raw)?;
        self.parse_header(id, &raw)
    }

    fn in_range(&self, id: Pgid) -> Result<(), ReadError> {
        if id < 2 || id >= self.meta.high_water {
            return Err(ReadError::corrupt(id, "referenced, but outside the file"));
        }
        Ok(())
    }

    fn parse_header(&self, id: Pgid, raw: &[u8; PAGE_HEADER_BYTES]) -> Result<PageHeader, ReadError> {
        let header = PageHeader::decode(raw);
        if header.id != id {
            let what = format!("calls itself page {}", header.id);
            return Err(ReadError::corrupt(id, what));
        }
        if u64::from(header.overflow) >= self.meta.high_water - id {
            return Err(ReadError::corrupt(id, "overflow runs past the file"));
        }
        Ok(header)
    }

    /// Reads from byte `offset` of page `id`; the caller keeps it within the page's overflow.
    pub(super) fn read(&self, id: Pgid, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let at = id * u64::from(self.meta.page_bytes) + offset;
        self.file.read_exact_at(buf, at).map_err(|source| ReadError::Io { page: id, source })
    }
}

/// The valid meta with the higher transaction id, and its page.
fn newest_meta(file: &impl ReadAt, bytes: u64) -> Result<(Pgid, Meta), ReadError> {
    let read = |page: Pgid, at: u64| -> Result<Option<Meta>, ReadError> {
        if at.saturating_add(META_PAGE_BYTES as u64) > bytes {
            return Ok(None);
        }
        let mut raw = [0; META_PAGE_BYTES];
        file.read_exact_at(&mut raw, at).map_err(|source| ReadError::Io { page, source })?;
        Ok(Meta::decode_page(&raw))
    };
    if let Some(first) = read(0, 0)? {
        let second = read(1, u64::from(first.page_bytes))?
            .filter(|meta| meta.page_bytes == first.page_bytes && meta.txid > first.txid);
        return Ok(second.map_or((0, first), |meta| (1, meta)));
    }
    // Without the first meta the page size is unknown; the second lies at exactly one page size.
    let mut at = MIN_PAGE_BYTES;
    while at <= MAX_PAGE_BYTES {
        if let Some(meta) = read(1, at)?
            && u64::from(meta.page_bytes) == at
        {
            return Ok((1, meta));
        }
        at *= 2;
    }
    Err(ReadError::NotBolt)
}
