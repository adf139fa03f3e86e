//! Writes a bbolt database front to back from sorted buckets and keys.
//!
//! The meta pages stand at the front but name the root page at the back. [`Writer::new`] therefore
//! seeks back once at the end. A destination that cannot seek (an RPC stream) is served in two
//! passes over the same data: [`Writer::measure`] counts pages, [`Writer::with_layout`] then writes
//! the metas first. The writer never reads back, syncs or truncates: that is for the caller.

use std::io::{self, Seek, SeekFrom, Write};

use super::error::WriteError;
use super::format::{
    BUCKET_HEADER_BYTES, ELEMENT_BUCKET, FLAG_FREELIST, MAX_KEY_BYTES, MAX_VALUE_BYTES, Meta, PAGE_BYTES, Pgid,
};
use super::tree::{PageSink, Tree, frame};

const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// Where root and freelist of a finished database lie, and how many pages it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    root: Pgid,
    freelist: Pgid,
    pages: u64,
}

impl Layout {
    /// Size of the whole file, a multiple of [`PAGE_BYTES`].
    pub fn file_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// A database being written. Buckets in ascending name order, keys ascending within each.
///
/// Memory: one page per tree level and the largest single value, twice.
pub struct Writer<W> {
    out: Pages<W>,
    /// The tree of buckets.
    root: Tree,
    bucket: Option<OpenBucket>,
}

struct OpenBucket {
    name: Vec<u8>,
    last_key: Vec<u8>,
    tree: Tree,
}

struct Pages<W> {
    out: W,
    next: Pgid,
}

impl<W: Write> PageSink for Pages<W> {
    fn page(&mut self, flags: u16, count: u16, body: &[&[u8]]) -> Result<Pgid, WriteError> {
        let id = self.next;
        let body_bytes = body.iter().map(|part| part.len()).sum();
        let (header, pages, padding) = frame(id, flags, count, body_bytes);
        self.out.write_all(&header.encode())?;
        for part in body {
            self.out.write_all(part)?;
        }
        self.out.write_all(&ZEROS[..padding])?;
        self.next += pages;
        Ok(id)
    }
}

impl Writer<io::Sink> {
    /// A first pass that writes nothing; [`Writer::finish_layout`] ends it.
    pub fn measure() -> Self {
        Self::starting(io::sink())
    }

    /// Ends a measuring pass.
    pub fn finish_layout(mut self) -> Result<Layout, WriteError> {
        self.close()
    }
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a database at offset 0 of `out`. Wrap a file in a `BufWriter`.
    pub fn new(mut out: W) -> Result<Self, WriteError> {
        out.seek(SeekFrom::Start(0))?;
        // Until `finish`, the file has no valid meta page and no reader will take it for one.
        out.write_all(&ZEROS)?;
        out.write_all(&ZEROS)?;
        Ok(Self::starting(out))
    }

    /// Completes the file and leaves `out` flushed (not synced), positioned at its end.
    pub fn finish(mut self) -> Result<W, WriteError> {
        let layout = self.close()?;
        let mut out = self.out.out;
        out.seek(SeekFrom::Start(0))?;
        write_metas(&mut out, layout)?;
        out.seek(SeekFrom::Start(layout.file_bytes()))?;
        out.flush()?;
        Ok(out)
    }
}

impl<W: Write> Writer<W> {
    /// Second pass: writes the same data as the pass that measured `layout`, without seeking.
    pub fn with_layout(mut out: W, layout: Layout) -> Result<Self, WriteError> {
        write_metas(&mut out, layout)?;
        Ok(Self::starting(out))
    }

    /// Ends a second pass. Errors if the data differed from the measured data in shape; the
    /// receiver then holds a broken file and must be told so.
    pub fn finish_with(mut self, layout: Layout) -> Result<W, WriteError> {
        if self.close()? != layout {
            return Err(WriteError::LayoutMismatch);
        }
        let mut out = self.out.out;
        out.flush()?;
        Ok(out)
    }

    /// Closes the bucket before, if any, and opens `name`. A bucket may stay empty.
    pub fn bucket(&mut self, name: &str) -> Result<(), WriteError> {
        check_key(name.as_bytes())?;
        if let Some(last) = self.close_bucket()?
            && last.as_slice() >= name.as_bytes()
        {
            return Err(WriteError::BucketOrder {
                last: String::from_utf8_lossy(&last).into_owned(),
                next: name.to_owned(),
            });
        }
        self.bucket = Some(OpenBucket { name: name.as_bytes().to_vec(), last_key: Vec::new(), tree: Tree::default() });
        Ok(())
    }

    /// Adds an entry to the open bucket. Keys ascend strictly; limits are [`MAX_KEY_BYTES`] and
    /// [`MAX_VALUE_BYTES`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        check_key(key)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(WriteError::ValueSize(value.len()));
        }
        let bucket = self.bucket.as_mut().ok_or(WriteError::NoBucket)?;
        // The empty key is never valid, so an empty `last_key` means there was none.
        if key <= bucket.last_key.as_slice() {
            return Err(WriteError::KeyOrder { bucket: String::from_utf8_lossy(&bucket.name).into_owned() });
        }
        bucket.last_key.clear();
        bucket.last_key.extend_from_slice(key);
        bucket.tree.push(&mut self.out, 0, key, value)
    }

    fn starting(out: W) -> Self {
        Self { out: Pages { out, next: 2 }, root: Tree::default(), bucket: None }
    }

    fn close_bucket(&mut self) -> Result<Option<Vec<u8>>, WriteError> {
        let Some(bucket) = self.bucket.take() else {
            return Ok(None);
        };
        let root = bucket.tree.finish(&mut self.out)?;
        let mut header = [0; BUCKET_HEADER_BYTES];
        header[..8].copy_from_slice(&root.to_le_bytes());
        self.root.push(&mut self.out, ELEMENT_BUCKET, &bucket.name, &header)?;
        Ok(Some(bucket.name))
    }

    fn close(&mut self) -> Result<Layout, WriteError> {
        self.close_bucket()?;
        let root = std::mem::take(&mut self.root).finish(&mut self.out)?;
        let freelist = self.out.page(FLAG_FREELIST, 0, &[])?;
        Ok(Layout { root, freelist, pages: self.out.next })
    }
}

/// Two metas of the same content: bbolt takes either if the other is damaged.
fn write_metas(out: &mut impl Write, layout: Layout) -> Result<(), WriteError> {
    for (id, txid) in [(0, 2), (1, 1)] {
        let meta = Meta {
            page_bytes: PAGE_BYTES as u32,
            root: layout.root,
            freelist: layout.freelist,
            high_water: layout.pages,
            txid,
        };
        let page = meta.encode_page(id);
        out.write_all(&page)?;
        out.write_all(&ZEROS[page.len()..])?;
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), WriteError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(WriteError::KeySize(key.len()));
    }
    Ok(())
}
