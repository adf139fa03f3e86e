//! Reads an etcd database: a data directory's `member/snap/db`, or a saved snapshot with or without
//! its digest.
//!
//! Tables are read when asked for; records and leases are iterators. Nothing is repaired or guessed:
//! a row etcd would refuse is an error that names bucket and page.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use serde::de::DeserializeOwned;

use super::codec::{decode_member, decode_revision, decode_u64, encode_revision};
use super::error::Error;
use super::names;
use super::tables::{Alarm, AuthTable, Lease, Member, MetaTable, Record, Revision, Tables};
use super::trailer::{self, TRAILER_BYTES};
use crate::bolt::{CheckReport, Cursor, Entry, ReadAt, Reader};

/// An opened etcd database.
#[derive(Debug)]
pub struct Snapshot<R> {
    db: Reader<R>,
    verified: bool,
}

impl Snapshot<File> {
    /// Opens a file; see [`Snapshot::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(File::open(path)?)
    }
}

impl<R: ReadAt> Snapshot<R> {
    /// If the length says there is a SHA-256 at the end, reads the whole file and verifies it.
    /// A database without `key` and `meta` buckets is not etcd's.
    pub fn new(file: R) -> Result<Self, Error> {
        let bytes = file.length()?;
        let has_trailer = trailer::has_trailer(bytes);
        let db = if has_trailer {
            if !trailer::verify(&file, bytes)? {
                return Err(Error::Digest);
            }
            Reader::open_prefix(file, bytes - TRAILER_BYTES as u64)?
        } else {
            Reader::open_prefix(file, bytes)?
        };
        let snapshot = Self { db, verified: has_trailer };
        for name in [names::KEY, names::META] {
            if snapshot.db.bucket(name)?.is_none() {
                return Err(Error::MissingBucket(name));
            }
        }
        Ok(snapshot)
    }

    /// Whether a digest was there (and matched: otherwise the snapshot would not have opened).
    pub fn verified(&self) -> bool {
        self.verified
    }

    /// The whole-file structure check, as `etcdutl snapshot status` does it first.
    pub fn check(&self) -> Result<CheckReport, Error> {
        Ok(self.db.check()?)
    }

    /// Every table but records and leases. Absent buckets (older etcds) are empty tables.
    pub fn tables(&self) -> Result<Tables, Error> {
        let cluster = Rows::read(self, names::CLUSTER)?;
        Ok(Tables {
            alarms: self.alarms()?,
            auth: self.auth()?,
            cluster_version: cluster.get(names::CLUSTER_VERSION, text)?,
            downgrade: cluster.get(names::DOWNGRADE, json)?,
            members: self.members()?,
            removed_members: Rows::read(self, names::MEMBERS_REMOVED)?
                .map(|key, _| decode_member(key).ok_or_else(|| "not a member id".to_owned()))?,
            meta: self.meta()?,
        })
    }

    /// The `meta` bucket.
    pub fn meta(&self) -> Result<MetaTable, Error> {
        let rows = Rows::read(self, names::META)?;
        Ok(MetaTable {
            conf_state: rows.get(names::CONF_STATE, json)?,
            consistent_index: rows.get(names::CONSISTENT_INDEX, number)?.unwrap_or(0),
            term: rows.get(names::TERM, number)?.unwrap_or(0),
            finished_compact: rows.get(names::FINISHED_COMPACT, main_revision)?.unwrap_or(0),
            scheduled_compact: rows.get(names::SCHEDULED_COMPACT, main_revision)?.unwrap_or(0),
            // etcd takes the field without a version in it for none.
            storage_version: rows.get(names::STORAGE_VERSION, text)?.filter(|version| !version.is_empty()),
        })
    }

    /// The revision a member started from this file is at: that of the last record, or of the last
    /// compaction if that removed it. At least 1.
    pub fn current_revision(&self) -> Result<i64, Error> {
        let meta = self.meta()?;
        let last = match self.cursor(names::KEY)? {
            Some(cursor) => cursor.last_entry()?,
            None => None,
        };
        let last = match last {
            Some(entry) => record(entry)?.revision.main,
            None => 0,
        };
        Ok(last.max(meta.finished_compact).max(meta.scheduled_compact).max(1))
    }

    /// All records in revision order.
    pub fn records(&self) -> Result<Records<'_, R>, Error> {
        Ok(Records { cursor: self.cursor(names::KEY)? })
    }

    /// Records from `from` on, in revision order.
    pub fn records_from(&self, from: Revision) -> Result<Records<'_, R>, Error> {
        let mut cursor = self.cursor(names::KEY)?;
        if let Some(cursor) = &mut cursor {
            let (key, len) = encode_revision(from, false);
            cursor.seek(&key[..len])?;
        }
        Ok(Records { cursor })
    }

    /// All leases by id, ascending as unsigned numbers.
    pub fn leases(&self) -> Result<Leases<'_, R>, Error> {
        Ok(Leases { cursor: self.cursor(names::LEASE)? })
    }

    fn alarms(&self) -> Result<Vec<Alarm>, Error> {
        Rows::read(self, names::ALARM)?.map(|key, _| Alarm::decode(key).map_err(|error| error.to_string()))
    }

    fn auth(&self) -> Result<AuthTable, Error> {
        let rows = Rows::read(self, names::AUTH)?;
        Ok(AuthTable {
            enabled: rows.get(names::AUTH_ENABLED, |value| Ok(value == [1]))?,
            revision: rows.get(names::AUTH_REVISION, number)?.unwrap_or(0),
            users: Rows::read(self, names::AUTH_USERS)?.copied(),
            roles: Rows::read(self, names::AUTH_ROLES)?.copied(),
        })
    }

    fn members(&self) -> Result<Vec<Member>, Error> {
        Rows::read(self, names::MEMBERS)?.map(|key, value| {
            let id = decode_member(key).ok_or("not a member id")?;
            let member: Member = json(value)?;
            if member.id != id {
                return Err(format!("member {:x} under the key of {id:x}", member.id));
            }
            Ok(member)
        })
    }

    fn cursor(&self, bucket: &'static str) -> Result<Option<Cursor<'_, R>>, Error> {
        Ok(self.db.bucket(bucket)?)
    }
}

/// Records in revision order; after an error it ends.
pub struct Records<'s, R> {
    cursor: Option<Cursor<'s, R>>,
}

impl<R: ReadAt> Iterator for Records<'_, R> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.cursor.as_mut()?.next()? {
            Ok(entry) => record(entry),
            Err(error) => Err(error.into()),
        };
        if item.is_err() {
            self.cursor = None;
        }
        Some(item)
    }
}

/// Leases in id order; after an error it ends.
pub struct Leases<'s, R> {
    cursor: Option<Cursor<'s, R>>,
}

impl<R: ReadAt> Iterator for Leases<'_, R> {
    type Item = Result<Lease, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.cursor.as_mut()?.next()? {
            Ok(entry) => lease(&entry),
            Err(error) => Err(error.into()),
        };
        if item.is_err() {
            self.cursor = None;
        }
        Some(item)
    }
}

fn record(entry: Entry) -> Result<Record, Error> {
    match decode_revision(&entry.key) {
        Some((revision, tombstone)) if !entry.is_bucket => Ok(Record { revision, tombstone, value: entry.value }),
        _ => Err(bad_row(names::KEY, &entry, "not a revision".to_owned())),
    }
}

fn lease(entry: &Entry) -> Result<Lease, Error> {
    let id = decode_u64(&entry.key).filter(|_| !entry.is_bucket);
    match Lease::decode(&entry.value[..]) {
        Ok(lease) if id == Some(lease.id as u64) => Ok(lease),
        Ok(_) => Err(bad_row(names::LEASE, entry, "key and id differ".to_owned())),
        Err(error) => Err(bad_row(names::LEASE, entry, error.to_string())),
    }
}

/// A small bucket, read whole.
struct Rows {
    bucket: &'static str,
    entries: Vec<Entry>,
}

impl Rows {
    fn read<R: ReadAt>(snapshot: &Snapshot<R>, bucket: &'static str) -> Result<Self, Error> {
        let mut entries = Vec::new();
        if let Some(cursor) = snapshot.cursor(bucket)? {
            for entry in cursor {
                let entry = entry?;
                if entry.is_bucket {
                    return Err(bad_row(bucket, &entry, "a nested bucket".to_owned()));
                }
                entries.push(entry);
            }
        }
        Ok(Self { bucket, entries })
    }

    /// The row `key`, parsed.
    fn get<T>(&self, key: &str, parse: impl Fn(&[u8]) -> Result<T, String>) -> Result<Option<T>, Error> {
        let Some(entry) = self.entries.iter().find(|entry| entry.key == key) else {
            return Ok(None);
        };
        match parse(&entry.value) {
            Ok(value) => Ok(Some(value)),
            Err(what) => Err(bad_row(self.bucket, entry, format!("{key}: {what}"))),
        }
    }

    /// Every row, parsed.
    fn map<T>(&self, parse: impl Fn(&[u8], &[u8]) -> Result<T, String>) -> Result<Vec<T>, Error> {
        let parse = |entry: &Entry| parse(&entry.key, &entry.value).map_err(|what| bad_row(self.bucket, entry, what));
        self.entries.iter().map(parse).collect()
    }

    /// Every row, freed from the pages it was on.
    fn copied(&self) -> Vec<(Bytes, Bytes)> {
        let copy = |entry: &Entry| (Bytes::copy_from_slice(&entry.key), Bytes::copy_from_slice(&entry.value));
        self.entries.iter().map(copy).collect()
    }
}

fn bad_row(bucket: &'static str, entry: &Entry, what: String) -> Error {
    Error::Row { bucket, page: entry.page, what }
}

fn number(value: &[u8]) -> Result<u64, String> {
    decode_u64(value).ok_or_else(|| format!("{} bytes instead of 8", value.len()))
}

fn main_revision(value: &[u8]) -> Result<i64, String> {
    match decode_revision(value) {
        Some((revision, _)) => Ok(revision.main),
        None => Err("not a revision".to_owned()),
    }
}

fn text(value: &[u8]) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|error| error.to_string())
}

fn json<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}
