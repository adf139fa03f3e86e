//! The backup: opened, checked, and refused where this version could not serve it as it was meant.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use keepstone_snapshot::bolt::ReadAt;
use keepstone_snapshot::etcd::{self, Snapshot, TRAILER_BYTES, Tables};

use super::RestoreError;
use crate::version;

/// The file, or as much of its front as counts.
pub struct Front {
    file: File,
    bytes: u64,
}

impl ReadAt for Front {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        ReadAt::read_exact_at(&self.file, buf, at)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }
}

/// A backup that may be restored.
pub struct Source {
    pub path: PathBuf,
    pub snapshot: Snapshot<Front>,
    pub tables: Tables,
    /// The revision a member started from it is at.
    pub revision: i64,
}

impl Source {
    /// Opens and checks the file: its checksum, or with `skip_hash_check` the structure of all its pages.
    ///
    /// # Errors
    /// [`RestoreError::Snapshot`], [`RestoreError::NoHash`], [`RestoreError::Auth`], [`RestoreError::Newer`].
    pub fn open(path: &Path, skip_hash_check: bool) -> Result<Self, RestoreError> {
        let damaged = |source| RestoreError::Snapshot { path: path.to_path_buf(), source };
        let unread = |source| RestoreError::File { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(unread)?;
        let mut bytes = file.length().map_err(unread)?;
        let has_hash = bytes % 512 == TRAILER_BYTES as u64;
        if skip_hash_check && has_hash {
            bytes -= TRAILER_BYTES as u64;
        }
        if !skip_hash_check && !has_hash {
            return Err(RestoreError::NoHash { path: path.to_path_buf() });
        }
        let snapshot = Snapshot::new(Front { file, bytes }).map_err(damaged)?;
        if !snapshot.verified() {
            snapshot.check().map_err(damaged)?;
        }
        let tables = snapshot.tables().map_err(damaged)?;
        if tables.auth.enabled == Some(true) {
            return Err(RestoreError::Auth { path: path.to_path_buf() });
        }
        for found in [&tables.cluster_version, &tables.meta.storage_version].into_iter().flatten() {
            if minor(found) > minor(version::ETCD_CLUSTER) {
                return Err(RestoreError::Newer { path: path.to_path_buf(), found: found.clone() });
            }
        }
        let revision = snapshot.current_revision().map_err(damaged)?;
        Ok(Self { path: path.to_path_buf(), snapshot, tables, revision })
    }

    /// Names the file in what its rows are refused for.
    pub fn damaged(&self, source: etcd::Error) -> RestoreError {
        RestoreError::Snapshot { path: self.path.clone(), source }
    }

    /// Names the file and the record.
    pub fn bad_record(&self, at: etcd::Revision, why: impl ToString) -> RestoreError {
        RestoreError::Record { path: self.path.clone(), main: at.main, sub: at.sub, why: why.to_string() }
    }
}

/// Major and minor part of a version; `None` of what is no version.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.').map_while(|part| part.parse().ok());
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(minor("3.10.0") > minor("3.6.0"));
        assert!(minor("3.5.0") < minor(version::ETCD_CLUSTER));
        assert_eq!(minor("3.6.0-alpha"), minor("3.6.16"));
        assert_eq!(minor("x"), None);
    }
}
