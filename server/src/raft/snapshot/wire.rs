//! The bytes of a snapshot on its way: the header, the pieces, the answers. `docs/format-transfer.md` is the reference.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use keepstone_state::Revision;

use super::content::{Cursor, DIGEST_BYTES, Total};
use crate::raft::codec::{self, Applied};
use crate::raft::types::{LogId, Vote};

const FORMAT: u8 = 1;
/// Bytes of a piece at most.
pub const PIECE_BYTES: usize = 1 << 20;
/// Bytes of elements past which a unit ends. One large record makes a larger unit, which travels in several pieces.
pub const UNIT_BYTES: usize = PIECE_BYTES - 64;
/// A unit that would take more memory than this is refused.
const MAX_UNIT_BYTES: usize = 1 << 30;

const LAST: u8 = 0;
const MORE: u8 = 1;
const ELEMENTS: u8 = 1;
const END: u8 = 2;

/// What names a snapshot: the log ID of the last entry in it.
pub type Id = [u8; 16];

pub fn id_of(last: &LogId) -> Id {
    codec::encode_log_id(last)
}

/// What a message that can't be read is refused with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot's {part} can't be read: {why}")]
pub struct Malformed {
    pub part: &'static str,
    pub why: &'static str,
}

/// What goes ahead of the pieces.
#[derive(Clone, Debug)]
pub struct Header {
    pub vote: Vote,
    /// The last entry in it and the membership in force there.
    pub applied: Applied,
    pub revision: i64,
    /// The compaction revision.
    pub floor: i64,
    /// The receiver has everything up to here.
    pub from: Cursor,
}

fn put_cursor(out: &mut Vec<u8>, cursor: &Cursor) {
    out.put_u64_le(cursor.rows);
    out.put_i64_le(cursor.at.main);
    out.put_i64_le(cursor.at.sub);
}

fn take_cursor(b: &mut &[u8]) -> Option<Cursor> {
    let rows = b.try_get_u64_le().ok()?;
    let main = b.try_get_i64_le().ok()?;
    Some(Cursor { rows, at: Revision::new(main, b.try_get_i64_le().ok()?) })
}

impl Header {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(128);
        out.put_u8(FORMAT);
        out.put_slice(&codec::encode_vote(&self.vote));
        out.put_i64_le(self.revision);
        out.put_i64_le(self.floor);
        put_cursor(&mut out, &self.from);
        out.put_slice(&codec::encode_applied(&self.applied));
        out.into()
    }

    /// # Errors
    /// When the bytes are none of ours.
    pub fn decode(mut b: &[u8]) -> Result<Self, Malformed> {
        let bad = |why| Malformed { part: "header", why };
        if b.try_get_u8() != Ok(FORMAT) {
            return Err(bad("it has another format"));
        }
        let short = || bad("it is cut short");
        let (vote, rest) = b.split_at_checked(17).ok_or_else(short)?;
        let vote = codec::decode_vote(vote).map_err(|_| bad("its vote"))?;
        b = rest;
        let revision = b.try_get_i64_le().map_err(|_| short())?;
        let floor = b.try_get_i64_le().map_err(|_| short())?;
        let from = take_cursor(&mut b).ok_or_else(short)?;
        let applied = codec::decode_applied(b).map_err(|_| bad("its log ID or membership"))?;
        Ok(Self { vote, applied, revision, floor, from })
    }
}

/// A unit: elements, or the end with what they all come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Unit {
    Elements(Bytes),
    End(Total),
}

/// Makes a unit of encoded elements.
pub fn elements_unit(elements: &[u8]) -> Vec<u8> {
    unit(ELEMENTS, elements)
}

/// Makes the last unit.
pub fn end_unit(total: &Total) -> Vec<u8> {
    let mut body = Vec::with_capacity(24 + DIGEST_BYTES);
    body.put_u64_le(total.rows);
    body.put_u64_le(total.records);
    body.put_u64_le(total.bytes);
    body.put_slice(&total.digest);
    unit(END, &body)
}

fn unit(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    out.put_u32_le(crc32c::crc32c_append(crc32c::crc32c(&[kind]), body));
    out.put_u8(kind);
    out.put_slice(body);
    out
}

/// Cuts a unit into pieces, each with a byte that says whether more of it follow.
pub fn pieces(unit: &[u8]) -> impl Iterator<Item = Bytes> + use<'_> {
    let count = unit.chunks(PIECE_BYTES - 1).count();
    unit.chunks(PIECE_BYTES - 1).enumerate().map(move |(number, part)| {
        let mut piece = Vec::with_capacity(1 + part.len());
        piece.put_u8(if number + 1 == count { LAST } else { MORE });
        piece.put_slice(part);
        piece.into()
    })
}

/// Puts pieces together again.
#[derive(Default)]
pub struct Joiner {
    parts: BytesMut,
}

impl Joiner {
    /// The unit that `piece` completes, if it does.
    ///
    /// # Errors
    /// When the unit fails its check or is too large.
    pub fn add(&mut self, mut piece: Bytes) -> Result<Option<Unit>, Malformed> {
        let bad = |why| Malformed { part: "piece", why };
        let more = match piece.try_get_u8() {
            Ok(LAST) => false,
            Ok(MORE) => true,
            _ => return Err(bad("it does not say whether more follow")),
        };
        if self.parts.len() + piece.len() > MAX_UNIT_BYTES {
            return Err(bad("it is too large"));
        }
        if !more && self.parts.is_empty() {
            return parse_unit(piece).map(Some);
        }
        self.parts.extend_from_slice(&piece);
        if more { Ok(None) } else { parse_unit(std::mem::take(&mut self.parts).freeze()).map(Some) }
    }
}

fn parse_unit(mut unit: Bytes) -> Result<Unit, Malformed> {
    let bad = |why| Malformed { part: "piece", why };
    let crc = unit.try_get_u32_le().map_err(|_| bad("it is cut short"))?;
    if crc32c::crc32c(&unit) != crc {
        return Err(bad("it fails its checksum"));
    }
    match unit.try_get_u8() {
        Ok(ELEMENTS) => Ok(Unit::Elements(unit)),
        Ok(END) => {
            let (Ok(rows), Ok(records), Ok(bytes)) =
                (unit.try_get_u64_le(), unit.try_get_u64_le(), unit.try_get_u64_le())
            else {
                return Err(bad("it is cut short"));
            };
            let digest = unit[..].try_into().map_err(|_| bad("its digest has another length"))?;
            Ok(Unit::End(Total { rows, records, bytes, digest }))
        }
        _ => Err(bad("it is of an unknown kind")),
    }
}

/// What a receiver has of a snapshot, as it says so; empty is nothing.
pub fn encode_progress(cursor: Option<Cursor>) -> Bytes {
    let mut out = Vec::new();
    if let Some(cursor) = cursor {
        put_cursor(&mut out, &cursor);
    }
    out.into()
}

/// # Errors
/// When the bytes are none of ours.
pub fn decode_progress(mut b: &[u8]) -> Result<Option<Cursor>, Malformed> {
    if b.is_empty() {
        return Ok(None);
    }
    let bad = Malformed { part: "progress", why: "it is cut short" };
    take_cursor(&mut b).filter(|_| b.is_empty()).map(Some).ok_or(bad)
}

const PROGRESS_MARK: &[u8] = b"incoming1";

/// What a store that is being received has for a mark: the snapshot and how far it has got.
pub fn progress_mark(id: &Id, cursor: &Cursor) -> Bytes {
    let mut out = Vec::with_capacity(64);
    out.put_slice(PROGRESS_MARK);
    out.put_slice(id);
    put_cursor(&mut out, cursor);
    out.into()
}

/// Reads such a mark; none if it is of another kind.
pub fn read_progress_mark(mark: &[u8]) -> Option<(Id, Cursor)> {
    let (id, mut rest) = mark.strip_prefix(PROGRESS_MARK)?.split_first_chunk::<16>()?;
    Some((*id, take_cursor(&mut rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total() -> Total {
        Total { rows: 1, records: 2, bytes: 3, digest: [7; DIGEST_BYTES] }
    }

    #[test]
    fn headers_and_progress_read_as_they_were_written() {
        let from = Cursor { rows: 4, at: Revision::new(9, 1) };
        let applied = Applied { log_id: Some(codec::log_id(3, 8)), ..Applied::default() };
        let header = Header { vote: Vote::new_committed(3, 7), applied, revision: 11, floor: 5, from };
        let bytes = header.encode();
        let back = Header::decode(&bytes).expect("a header");
        assert_eq!((back.vote, back.revision, back.floor, back.from), (header.vote, 11, 5, from));
        assert_eq!(back.applied.log_id, header.applied.log_id);
        for len in 0..bytes.len() {
            assert!(Header::decode(&bytes[..len]).is_err());
        }
        for cursor in [None, Some(from)] {
            assert_eq!(decode_progress(&encode_progress(cursor)), Ok(cursor));
        }
        assert_eq!(read_progress_mark(&progress_mark(&[3; 16], &from)), Some(([3; 16], from)));
        assert_eq!(read_progress_mark(&codec::encode_applied(&Applied::default())), None);
    }

    #[test]
    fn a_unit_survives_being_cut_into_pieces() {
        for len in [0, 1, PIECE_BYTES - 6, PIECE_BYTES - 5, 3 * PIECE_BYTES] {
            let elements = vec![5; len];
            let mut joiner = Joiner::default();
            let mut found = None;
            for piece in pieces(&elements_unit(&elements)) {
                assert!(piece.len() <= PIECE_BYTES && found.is_none());
                found = joiner.add(piece).expect("a piece");
            }
            assert_eq!(found, Some(Unit::Elements(elements.into())));
        }
        let end = end_unit(&total());
        let piece = pieces(&end).next().expect("a piece");
        assert_eq!(Joiner::default().add(piece), Ok(Some(Unit::End(total()))));
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let unit = elements_unit(&[1, 2, 3]);
        let piece = pieces(&unit).next().expect("a piece");
        for at in 0..piece.len() * 8 {
            let mut damaged = piece.to_vec();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(!matches!(Joiner::default().add(damaged.into()), Ok(Some(_))), "bit {at}");
        }
    }
}
