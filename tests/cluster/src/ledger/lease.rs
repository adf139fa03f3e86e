//! What is known of leases. Every deletion of keys that hang on one is its end: no call deletes such keys otherwise.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;

use super::{Ledger, brief};
use crate::load::Outcome;
use crate::watcher::Revision;

/// A shorter time to live than this, in seconds, may run out while a test goes on.
pub const LASTING: i64 = 600;

/// A lease that somebody asked for.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// In seconds, as asked for.
    pub ttl: i64,
    pub granted: bool,
    /// The revocation, of which there is one at most.
    pub revoke: Option<Outcome>,
    /// The calls' places in the ledger.
    pub(super) grant_at: usize,
    pub(super) revoke_at: Option<usize>,
}

impl Lease {
    /// Whether it was revoked, and the caller knows.
    pub fn revoked(&self) -> bool {
        matches!(self.revoke, Some(Outcome::Acked { .. }))
    }

    /// Whether it must be there.
    pub fn lasts(&self) -> bool {
        self.granted && self.revoke.is_none() && self.ttl >= LASTING
    }
}

impl Ledger {
    /// The stamp since which a lease may have ended, which is what deleted `keys` at this revision.
    pub(super) fn explain_end(&mut self, id: i64, keys: &[Bytes], next: &Revision) -> Result<u64> {
        let lease = self.leases.get(&id).with_context(|| format!("nobody asked for lease {id}"))?;
        let hanging = self.keys.attached(id);
        ensure!(hanging == keys, "lease {id} has {hanging:?}, and {keys:?} are deleted");
        let runs_out = lease.ttl < LASTING;
        let Some(at) = lease.revoke_at else {
            ensure!(runs_out, "lease {id} lasts, and nobody revoked it");
            return Ok(self.calls[lease.grant_at].begun);
        };
        let call = &self.calls[at];
        match call.outcome {
            Outcome::Acked { revision, .. } => {
                ensure!(revision == next.revision, "{} was acknowledged at {revision}", brief(call));
                self.seen[at] = Some(revision);
                Ok(call.begun)
            }
            // Whichever was first.
            _ if runs_out => Ok(self.calls[lease.grant_at].begun),
            Outcome::Unknown => {
                self.seen[at] = Some(next.revision);
                Ok(call.begun)
            }
            _ => bail!("{} ended the lease", brief(call)),
        }
    }

    /// No key hangs on a lease whose revocation was acknowledged.
    pub(super) fn no_key_outlives_its_lease(&self) -> Result<()> {
        for kv in self.keys.keys.values().filter(|kv| kv.lease() != 0) {
            let lease = self.leases.get(&kv.lease()).with_context(|| format!("{kv:?}: nobody asked for its lease"))?;
            ensure!(!lease.revoked(), "{kv:?} is there, though its lease was revoked");
        }
        Ok(())
    }
}
