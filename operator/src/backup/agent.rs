//! What runs in a Job. Memory is bounded by a few pieces of an upload, whatever the size of the store. A backup is there when
//! all of it was written and its checksum was right; until then there is nothing under its name.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use keepstone_operator_api::Reason;
use keepstone_operator_api::backup::Artifact;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, WriteMultipart};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::copy;
use super::store::{self, Mounts, StoreError};
use super::task::{Location, Report, Task};
use crate::controller::members::Credentials;
use crate::members::{BadCredentials, CallError, Dialer, Member, Snapshot, SnapshotError};

/// Bytes of one part of an upload. A bucket takes 10,000 of them, and a quota is at most 100 GiB in practice.
const PART: usize = 16 << 20;
/// Parts that are on their way at once.
const PARTS: usize = 2;
/// Beside the backups: the UID of the cluster they are of.
const OWNER: &str = "keepstone-owner";

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the member: {0}")]
    Member(#[from] CallError),
    #[error("the member: {0}")]
    Snapshot(#[from] SnapshotError),
    #[error("the member's credentials: {0}")]
    Credentials(#[from] BadCredentials),
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error("the store: {0}")]
    Object(#[from] object_store::Error),
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("{0:?} is no name for a file in a store")]
    Key(String),
    #[error("backups of another cluster lie in the same place ({0}): give each a prefix of its own")]
    Foreign(String),
    #[error("the file has the hash {found}, and not {expected} as when it was written")]
    Damaged { found: String, expected: String },
    #[error("nothing of {0} is there to be copied")]
    Nothing(String),
    #[error("it was told to stop")]
    Stopped,
}

impl AgentError {
    fn reason(&self) -> Reason {
        use object_store::Error;
        match self {
            Self::Member(_) | Self::Snapshot(SnapshotError::Call(_) | SnapshotError::CutShort) | Self::Stopped => {
                Reason::Interrupted
            }
            Self::Snapshot(SnapshotError::Damaged) | Self::Damaged { .. } => Reason::HashMismatch,
            Self::Object(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) | Self::Foreign(_) => {
                Reason::StoreDenied
            }
            Self::Object(Error::NotFound { .. }) => Reason::BackupNotFound,
            Self::Object(_) => Reason::StoreUnreachable,
            _ => Reason::StepFailed,
        }
    }
}

/// Carries the task out, until `stop` comes. There is always something to report.
pub async fn run(task: &Task, mounts: &Mounts, stop: impl Future<Output = ()>) -> Report {
    let done = match task {
        Task::Take { endpoint, to, owner } => take(endpoint, to, owner, mounts, stop).await.map(Report::Taken),
        Task::Fetch { from, sha256, into } => {
            fetch(from, sha256.as_deref(), Path::new(into), mounts).await.map(|()| Report::Done)
        }
        Task::Discard { at } => discard(at, mounts).await.map(|()| Report::Done),
        Task::Copy { from, into } => copy_all(from, into).await.map(|()| Report::Done),
    };
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "not done");
        Report::failed(error.reason(), &error.to_string())
    })
}

async fn take(
    endpoint: &str,
    to: &Location,
    owner: &str,
    mounts: &Mounts,
    stop: impl Future<Output = ()>,
) -> Result<Artifact, AgentError> {
    let store = store::open(&to.store, mounts)?;
    let key = key(&to.key)?;
    claim(store.as_ref(), &key, owner).await?;
    let mut member = Member::new(endpoint, &dialer(endpoint, mounts)?)?;
    let status = member.status().await?;
    let mut snapshot = member.snapshot().await?;
    tracing::info!(%endpoint, revision = snapshot.revision().0, "reading a snapshot");
    let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&key).await?, PART);
    let sent = tokio::select! {
        sent = send(&mut snapshot, &mut upload) => sent,
        () = stop => Err(AgentError::Stopped),
    };
    let (size, sha256) = match sent {
        Ok(sent) => sent,
        Err(error) => {
            // What is left of an upload costs, and shows in no list. That it can't be taken back is the lesser news.
            let _ = upload.abort().await;
            return Err(error);
        }
    };
    tracing::info!(bytes = size, "the snapshot is whole, its last part is on its way");
    upload.finish().await?;
    let uri = store::uri(&to.store, &to.key);
    tracing::info!(%uri, "it is there");
    Ok(Artifact {
        uri,
        size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        sha256,
        revision: snapshot.revision().0,
        cluster_id: status.cluster_id.to_string(),
        member_id: status.member_id.to_string(),
        server_version: status.version,
    })
}

/// Bytes and hash of what was sent.
async fn send(snapshot: &mut Snapshot, upload: &mut WriteMultipart) -> Result<(u64, String), AgentError> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    while let Some(piece) = snapshot.next().await? {
        hash.update(&piece);
        size += piece.len() as u64;
        upload.wait_for_capacity(PARTS).await?;
        upload.put(piece);
    }
    Ok((size, hex(&hash.finalize())))
}

/// The first cluster to write to a place has it; retention of two in one place would remove each other's.
async fn claim(store: &dyn ObjectStore, key: &Key, owner: &str) -> Result<(), AgentError> {
    let mut parts: Vec<_> = key.parts().collect();
    parts.pop();
    let mark = Key::from_iter(parts.into_iter().chain([OWNER.into()]));
    if let Some(found) = read_owner(store, &mark).await? {
        return if found == owner { Ok(()) } else { Err(AgentError::Foreign(found)) };
    }
    let text = || PutPayload::from(owner.as_bytes().to_vec());
    match store.put_opts(&mark, text(), PutMode::Create.into()).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            let found = read_owner(store, &mark).await?.unwrap_or_default();
            if found == owner { Ok(()) } else { Err(AgentError::Foreign(found)) }
        }
        // Of two clusters that begin in the same moment the second is found out by its next backup.
        Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
            store.put(&mark, text()).await?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn read_owner(store: &dyn ObjectStore, mark: &Key) -> Result<Option<String>, AgentError> {
    match store.get(mark).await {
        Ok(found) => {
            let bytes = found.bytes().await?;
            Ok(Some(String::from_utf8_lossy(&bytes).chars().take(64).collect()))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn fetch(from: &Location, sha256: Option<&str>, into: &Path, mounts: &Mounts) -> Result<(), AgentError> {
    let store = store::open(&from.store, mounts)?;
    let wrap = |source| AgentError::File { path: into.display().to_string(), source };
    let mut pieces = store.get(&key(&from.key)?).await?.into_stream();
    let mut file = tokio::fs::File::create(into).await.map_err(wrap)?;
    let mut hash = Sha256::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        hash.update(&piece);
        file.write_all(&piece).await.map_err(wrap)?;
    }
    file.sync_all().await.map_err(wrap)?;
    let found = hex(&hash.finalize());
    match sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => {
            Err(AgentError::Damaged { found, expected: expected.to_owned() })
        }
        _ => Ok(()),
    }
}

async fn discard(at: &Location, mounts: &Mounts) -> Result<(), AgentError> {
    let store: Arc<dyn ObjectStore> = store::open(&at.store, mounts)?;
    match store.delete(&key(&at.key)?).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn copy_all(from: &[String], into: &str) -> Result<(), AgentError> {
    let (from, into) = (from.to_vec(), into.to_owned());
    let copied = tokio::task::spawn_blocking(move || copy::all(&from, Path::new(&into)));
    let wrap = |source: std::io::Error| AgentError::File { path: "the copy".to_owned(), source };
    let copied = copied.await.map_err(|error| wrap(std::io::Error::other(error)))?;
    copied
        .map_err(|error| AgentError::File { path: error.path.display().to_string(), source: error.source })?
        .then_some(())
        .ok_or_else(|| AgentError::Nothing("the data directory".to_owned()))
}

fn key(text: &str) -> Result<Key, AgentError> {
    Key::parse(text).map_err(|_| AgentError::Key(text.to_owned()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn dialer(endpoint: &str, mounts: &Mounts) -> Result<Dialer, AgentError> {
    if !endpoint.starts_with("https://") {
        return Ok(Dialer::plain());
    }
    let read = |dir: &Path, name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|source| AgentError::File { path: path.display().to_string(), source })
    };
    let credentials = Credentials {
        certificate: read(&mounts.tls, "tls.crt")?,
        key: read(&mounts.tls, "tls.key")?,
        ca: read(&mounts.ca, "ca.crt")?,
    };
    Ok(Dialer::encrypted(&credentials)?)
}
