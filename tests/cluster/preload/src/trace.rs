//! The trace: records of a fixed head and a payload, one after the other, little endian.
//!
//! Head: kind (1 byte), file descriptor (4), two numbers (8 each), length of the payload (4).

/// Bytes of a record's head.
pub const HEAD: usize = 25;

/// What happened. Recorded after it succeeded, except [`Kind::SyncBegin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A file or directory was opened: `a` is the flags, the payload its path.
    Open = 1,
    /// `a` is the new descriptor of the same file.
    Dup = 2,
    Close = 3,
    /// The payload was written at `a`.
    Write = 4,
    /// `b` zeros were written at `a`.
    Zero = 5,
    /// The length became `a`.
    Truncate = 6,
    /// Space from `a`, `b` bytes, was allocated: the file is at least that long now.
    Allocate = 7,
    /// Sync number `a` was asked for.
    SyncBegin = 8,
    /// Sync number `a` succeeded.
    SyncEnd = 9,
    /// From `a`, `b` bytes: sync_file_range, which makes nothing durable by its own manual.
    SyncRange = 10,
    /// The payload is the old path, a zero byte, the new path.
    Rename = 11,
    /// The payload is the path.
    Unlink = 12,
    /// The payload is the path.
    Mkdir = 13,
    /// The payload is the path.
    Rmdir = 14,
    /// A change that this trace can't express: the payload names it.
    Unsupported = 15,
    /// A process began: all descriptors are new.
    Process = 16,
}

impl Kind {
    /// The kind of this number.
    pub fn from_u8(kind: u8) -> Option<Self> {
        const ALL: [Kind; 16] = [
            Kind::Open,
            Kind::Dup,
            Kind::Close,
            Kind::Write,
            Kind::Zero,
            Kind::Truncate,
            Kind::Allocate,
            Kind::SyncBegin,
            Kind::SyncEnd,
            Kind::SyncRange,
            Kind::Rename,
            Kind::Unlink,
            Kind::Mkdir,
            Kind::Rmdir,
            Kind::Unsupported,
            Kind::Process,
        ];
        ALL.get((kind as usize).checked_sub(1)?).copied()
    }
}

/// A record without its payload.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub kind: Kind,
    pub fd: i32,
    pub a: u64,
    pub b: u64,
    pub payload: u32,
}

impl Head {
    pub fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[0] = self.kind as u8;
        out[1..5].copy_from_slice(&self.fd.to_le_bytes());
        out[5..13].copy_from_slice(&self.a.to_le_bytes());
        out[13..21].copy_from_slice(&self.b.to_le_bytes());
        out[21..].copy_from_slice(&self.payload.to_le_bytes());
        out
    }

    /// `None` where the kind is unknown.
    pub fn decode(bytes: &[u8; HEAD]) -> Option<Self> {
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Self {
            kind: Kind::from_u8(bytes[0])?,
            fd: i32::from_le_bytes(bytes[1..5].try_into().ok()?),
            a: number(5)?,
            b: number(13)?,
            payload: u32::from_le_bytes(bytes[21..].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_as_it_was_written() {
        for kind in (0..=u8::MAX).filter_map(Kind::from_u8) {
            let head = Head { kind, fd: -7, a: 1 << 40, b: u64::MAX, payload: 9 };
            let read = Head::decode(&head.encode()).expect("a known kind");
            assert_eq!((read.kind, read.fd, read.a, read.b, read.payload), (kind, -7, 1 << 40, u64::MAX, 9));
        }
        assert_eq!((0..=u8::MAX).filter_map(Kind::from_u8).count(), 16);
    }
}
