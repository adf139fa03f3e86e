//! The stream of a member's snapshot: checked as it passes, never held.

use std::time::Duration;

use bytes::Bytes;
use keepstone_operator_plan::ids::Revision;
use keepstone_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Streaming};

use super::{CallError, Member};

/// Until the stream is there. A member gives away so many at once as it can bear; the others wait for their turn.
const OPEN: Duration = Duration::from_secs(300);
/// Until the first piece: ahead of it the member goes through all its data, to know the size.
const MEASURED: Duration = Duration::from_secs(300);
/// Between two pieces, each of which the member reads from its disk.
const PIECE: Duration = Duration::from_secs(60);
/// Says which revision the file holds.
const REVISION_HEADER: &str = "keepstone-revision";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the member does not say which revision its snapshot holds")]
    NoRevision,
    #[error("the stream ended before its checksum")]
    CutShort,
    #[error("the checksum at the stream's end is another's: it was damaged on its way")]
    Damaged,
}

/// Pieces of the file, in order. The last one is the checksum, as `etcdctl snapshot save` keeps it, too.
pub struct Snapshot {
    stream: Streaming<SnapshotResponse>,
    revision: Revision,
    /// Of all pieces so far, without the checksum.
    data: Sha256,
    begun: bool,
    /// Whether all but the checksum was seen.
    whole: bool,
    checked: bool,
}

impl Member {
    /// # Errors
    /// As all calls, and where the revision is not told.
    pub async fn snapshot(&mut self) -> Result<Snapshot, SnapshotError> {
        let asked = tokio::time::timeout(OPEN, self.maintenance.snapshot(SnapshotRequest {})).await;
        let silence = |_| CallError::Silence(format!("nothing was heard in {} s", OPEN.as_secs()));
        let answer = asked.map_err(silence)?.map_err(CallError::from)?;
        let told = answer.metadata().get(REVISION_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Snapshot {
            revision: Revision(told.ok_or(SnapshotError::NoRevision)?),
            stream: answer.into_inner(),
            data: Sha256::new(),
            begun: false,
            whole: false,
            checked: false,
        })
    }
}

impl Snapshot {
    /// What the file holds.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next piece; none after the last, which was compared with what came before it.
    ///
    /// # Errors
    /// The stream broke off, or is not what was sent: what was written of it so far is worth nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        let limit = if self.begun { PIECE } else { MEASURED };
        let heard = tokio::time::timeout(limit, self.stream.message()).await;
        let silence = |_| CallError::Silence(format!("nothing was heard in {} s", limit.as_secs()));
        let Some(piece) = heard.map_err(silence)?.map_err(broken)? else {
            return if self.checked { Ok(None) } else { Err(SnapshotError::CutShort) };
        };
        self.begun = true;
        if self.whole {
            let same = piece.blob.as_ref() == self.data.clone().finalize().as_slice();
            if self.checked || !same {
                return Err(SnapshotError::Damaged);
            }
            self.checked = true;
        } else {
            self.data.update(&piece.blob);
            self.whole = piece.remaining_bytes == 0;
        }
        Ok(Some(piece.blob))
    }
}

/// What breaks off in the middle is no answer, whatever the code.
fn broken(status: tonic::Status) -> CallError {
    match status.code() {
        Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => status.into(),
        _ => CallError::Silence(status.message().to_owned()),
    }
}
