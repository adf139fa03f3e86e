//! What a snapshot holds, in its one order: the rows of the small tables by key, then the records by revision. The same
//! on every member that has applied the same entry, so its log ID names a snapshot, and one hash stands for it.

use bytes::{Buf, BufMut, Bytes};
use keepstone_proto::KeyValue;
use keepstone_state::{Record, Revision, TableWrite};
use sha2::{Digest, Sha256};

/// Bytes of an element beside its key, value or record.
const ROW: u8 = 1;
const RECORD: u8 = 2;
pub const DIGEST_BYTES: usize = 32;

/// How far into a snapshot somebody is: elements up to here, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Rows passed.
    pub rows: u64,
    /// The last record passed; before the first there is none with this revision.
    pub at: Revision,
}

impl Cursor {
    pub const START: Self = Self { rows: 0, at: Revision::new(0, -1) };

    /// The first revision that a record after this one can have.
    pub fn next_record(&self) -> Revision {
        Revision::new(self.at.main, self.at.sub + 1)
    }
}

/// A snapshot's hash and counts up to some element.
#[derive(Clone, Default)]
pub struct Tally {
    sha: Sha256,
    pub rows: u64,
    pub records: u64,
    /// Bytes of all elements.
    pub bytes: u64,
}

/// What a whole snapshot comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub rows: u64,
    pub records: u64,
    pub bytes: u64,
    pub digest: [u8; DIGEST_BYTES],
}

impl Tally {
    /// Takes in elements as they are encoded.
    pub fn add(&mut self, elements: &[u8], rows: u64, records: u64) {
        self.sha.update(elements);
        self.rows += rows;
        self.records += records;
        self.bytes += elements.len() as u64;
    }

    pub fn total(&self) -> Total {
        let digest = self.sha.clone().finalize().into();
        Total { rows: self.rows, records: self.records, bytes: self.bytes, digest }
    }
}

pub fn put_row(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.put_u8(ROW);
    out.put_u32_le(key.len() as u32);
    out.put_u32_le(value.len() as u32);
    out.put_slice(key);
    out.put_slice(value);
}

pub fn put_record(out: &mut Vec<u8>, record: &Record) {
    let raw = record.kv.raw();
    out.put_u8(RECORD);
    out.put_i64_le(record.at.main);
    out.put_i64_le(record.at.sub);
    out.put_u8(u8::from(record.tombstone));
    out.put_u32_le(raw.len() as u32);
    out.put_slice(raw);
}

/// Elements of one piece.
#[derive(Debug, Default, PartialEq)]
pub struct Elements {
    pub rows: Vec<TableWrite>,
    pub records: Vec<Record>,
}

/// Reads a piece's elements, which go on from `after`. Returns where they end.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut bytes: Bytes, after: Cursor) -> Result<(Elements, Cursor), &'static str> {
    let mut elements = Elements::default();
    let mut cursor = after;
    while bytes.has_remaining() {
        match bytes.get_u8() {
            ROW => {
                if cursor.at != Cursor::START.at {
                    return Err("a row comes after a record");
                }
                let (key, value) = (take_u32(&mut bytes)?, take_u32(&mut bytes)?);
                let (key, value) = (take(&mut bytes, key)?.to_vec(), take(&mut bytes, value)?.to_vec());
                elements.rows.push(TableWrite { key, value: Some(value) });
                cursor.rows += 1;
            }
            RECORD => {
                let record = parse_record(&mut bytes)?;
                if record.at <= cursor.at {
                    return Err("a record is out of order");
                }
                cursor.at = record.at;
                elements.records.push(record);
            }
            _ => return Err("an element of unknown kind"),
        }
    }
    Ok((elements, cursor))
}

fn parse_record(bytes: &mut Bytes) -> Result<Record, &'static str> {
    const SHORT: &str = "a record is cut short";
    let main = bytes.try_get_i64_le().map_err(|_| SHORT)?;
    let sub = bytes.try_get_i64_le().map_err(|_| SHORT)?;
    let tombstone = match bytes.try_get_u8().map_err(|_| SHORT)? {
        0 => false,
        1 => true,
        _ => return Err("a record's flag is neither set nor not"),
    };
    if main < 0 || !(0..1 << 31).contains(&sub) {
        return Err("a record's revision is impossible");
    }
    let len = take_u32(bytes)?;
    let kv = KeyValue::from_canonical(take(bytes, len)?).map_err(|_| "a record is no KeyValue")?;
    Ok(Record { at: Revision::new(main, sub), tombstone, prev: None, kv })
}

fn take_u32(bytes: &mut Bytes) -> Result<usize, &'static str> {
    bytes.try_get_u32_le().map(|n| n as usize).map_err(|_| "an element is cut short")
}

fn take(bytes: &mut Bytes, len: usize) -> Result<Bytes, &'static str> {
    if len > bytes.len() {
        return Err("an element is cut short");
    }
    Ok(bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use keepstone_proto::KeyValueParts;

    use super::*;

    fn record(main: i64, sub: i64, tombstone: bool) -> Record {
        let kv = KeyValue::new(&KeyValueParts { key: b"k", value: b"v", ..KeyValueParts::default() });
        Record { at: Revision::new(main, sub), tombstone, prev: None, kv }
    }

    #[test]
    fn elements_read_as_they_were_written() {
        let mut bytes = Vec::new();
        put_row(&mut bytes, b"a", b"");
        put_row(&mut bytes, b"b", b"value");
        put_record(&mut bytes, &record(2, 0, false));
        put_record(&mut bytes, &record(2, 1, true));
        let (elements, end) = parse(bytes.clone().into(), Cursor::START).expect("elements");
        assert_eq!(elements.rows.len(), 2);
        assert_eq!(elements.records, [record(2, 0, false), record(2, 1, true)]);
        assert_eq!(end, Cursor { rows: 2, at: Revision::new(2, 1) });
        for len in 1..bytes.len() {
            // Cut at an element's edge it is a shorter piece, and the total tells.
            if let Ok((part, _)) = parse(Bytes::copy_from_slice(&bytes[..len]), Cursor::START) {
                assert!(part.rows.len() + part.records.len() < 4);
            }
        }
    }

    #[test]
    fn rows_after_records_and_records_out_of_order_are_refused() {
        let mut bytes = Vec::new();
        put_record(&mut bytes, &record(3, 0, false));
        let at = |main| Cursor { rows: 0, at: Revision::new(main, 0) };
        assert!(parse(bytes.clone().into(), at(3)).is_err());
        assert!(parse(bytes.into(), at(2)).is_ok());
        let mut row = Vec::new();
        put_row(&mut row, b"a", b"b");
        assert!(parse(row.into(), at(2)).is_err());
    }
}
