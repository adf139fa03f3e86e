//! The records of the stream: `len u32, kind u8, payload`, little-endian, `len` counting the payload alone.
//!
//! No checksum of their own: every sector they lie in has one.

use bytes::Bytes;

/// `len` and `kind`.
pub(crate) const HEADER: usize = 5;
/// What an entry's record adds to its payload: header, index, term.
pub(crate) const ENTRY_OVERHEAD: usize = HEADER + 16;
/// The largest meta, vote or committed blob, bytes.
pub(crate) const MAX_BLOB: usize = 2048;
/// The most that the state restated at the head of a segment takes.
pub(crate) const MAX_RESTATED: usize = 3 * (HEADER + MAX_BLOB) + HEADER + 16;

const META: u8 = 1;
const VOTE: u8 = 2;
const ENTRY: u8 = 3;
const COMMITTED: u8 = 4;
const TRUNCATE: u8 = 5;
const PURGE: u8 = 6;

/// A place in the Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPos {
    /// The leader's term.
    pub term: u64,
    /// The log index.
    pub index: u64,
}

/// An entry of the Raft log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The log index; indexes have no gaps.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// Opaque. Kept in memory as handed in while it is in the cache, so it should not be a slice of something larger.
    pub data: Bytes,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Meta(Bytes),
    Vote(Bytes),
    Entry(Entry),
    Committed(Bytes),
    /// Entries above this index are gone; all of them with `None`.
    Truncate(Option<u64>),
    /// Entries up to and with this one are gone.
    Purge(LogPos),
}

impl Record {
    /// Bytes in the stream.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.payload_len()
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Meta(b) | Self::Vote(b) | Self::Committed(b) => b.len(),
            Self::Entry(e) => 16 + e.data.len(),
            Self::Truncate(None) => 0,
            Self::Truncate(Some(_)) => 8,
            Self::Purge(_) => 16,
        }
    }

    /// Hands the record's bytes to `put`, in order.
    pub(crate) fn encode(&self, mut put: impl FnMut(&[u8])) {
        let kind = match self {
            Self::Meta(_) => META,
            Self::Vote(_) => VOTE,
            Self::Entry(_) => ENTRY,
            Self::Committed(_) => COMMITTED,
            Self::Truncate(_) => TRUNCATE,
            Self::Purge(_) => PURGE,
        };
        let len = u32::try_from(self.payload_len()).expect("a record fits a segment");
        let mut head = [0u8; HEADER];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4] = kind;
        put(&head);
        match self {
            Self::Meta(b) | Self::Vote(b) | Self::Committed(b) => put(b),
            Self::Entry(e) => {
                put(&e.index.to_le_bytes());
                put(&e.term.to_le_bytes());
                put(&e.data);
            }
            Self::Truncate(None) => {}
            Self::Truncate(Some(index)) => put(&index.to_le_bytes()),
            Self::Purge(pos) => {
                put(&pos.index.to_le_bytes());
                put(&pos.term.to_le_bytes());
            }
        }
    }
}

/// Takes the record at the front of `bytes`; answers it and what follows. Blobs are copied out. The error says what is
/// wrong.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Record, &[u8]), String> {
    let Some((head, rest)) = bytes.split_at_checked(HEADER) else {
        return Err(format!("{} bytes left where a record begins", bytes.len()));
    };
    let len = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
    let Some((payload, rest)) = rest.split_at_checked(len) else {
        return Err(format!("a record of {len} bytes where {} are left", rest.len()));
    };
    let wrong = || format!("a record of kind {} with {len} bytes", head[4]);
    let blob = || Bytes::copy_from_slice(payload);
    let record = match head[4] {
        META => Record::Meta(blob()),
        VOTE => Record::Vote(blob()),
        COMMITTED => Record::Committed(blob()),
        ENTRY => {
            let (fixed, data) = payload.split_at_checked(16).ok_or_else(wrong)?;
            Record::Entry(Entry { index: u64_at(fixed, 0), term: u64_at(fixed, 8), data: Bytes::copy_from_slice(data) })
        }
        TRUNCATE if len == 0 => Record::Truncate(None),
        TRUNCATE if len == 8 => Record::Truncate(Some(u64_at(payload, 0))),
        PURGE if len == 16 => Record::Purge(LogPos { index: u64_at(payload, 0), term: u64_at(payload, 8) }),
        TRUNCATE | PURGE => return Err(wrong()),
        kind => return Err(format!("a record of unknown kind {kind}")),
    };
    Ok((record, rest))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let records = [
            Record::Meta(Bytes::from_static(b"me")),
            Record::Vote(Bytes::new()),
            Record::Entry(Entry { index: 3, term: 2, data: Bytes::from_static(b"put") }),
            Record::Committed(Bytes::from_static(b"3")),
            Record::Truncate(None),
            Record::Truncate(Some(9)),
            Record::Purge(LogPos { term: 2, index: 3 }),
        ];
        let mut bytes = Vec::new();
        for record in &records {
            let before = bytes.len();
            record.encode(|b| bytes.extend_from_slice(b));
            assert_eq!(bytes.len() - before, record.len());
        }
        let mut rest = &bytes[..];
        for record in &records {
            let (found, after) = decode(rest).expect("decodes");
            assert_eq!(&found, record);
            rest = after;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(decode(&[1, 0, 0]).is_err());
        assert!(decode(&[1, 0, 0, 0, META]).is_err());
        assert!(decode(&[1, 0, 0, 0, PURGE, 0]).is_err());
        assert!(decode(&[0, 0, 0, 0, 77]).is_err());
        assert!(decode(&[3, 0, 0, 0, ENTRY, 0, 0, 0]).is_err());
    }
}
