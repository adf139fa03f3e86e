//! The memory that answers of many keys may take, all together.
//!
//! An answer of up to [`SMALL_BYTES`] is made at once. A larger one first takes [`CALL_BYTES`] of the allowance: up to
//! [`KEPT_BYTES`] of values are read once and sent from memory, of anything longer the rest is read in passes and sent
//! piece by piece. One that has to be sorted, and is longer than that, takes [`SORT_BYTES`] more. Who waits for the
//! allowance holds nothing, neither values nor a revision.

use std::sync::Arc;

use keepstone_state::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::api::error::status;

/// Bytes of key-values that are answered without asking for an allowance.
pub const SMALL_BYTES: usize = 256 << 10;
/// Bytes of key-values that one answer keeps in memory.
pub const KEPT_BYTES: usize = 4 << 20;
/// Bytes that one answer of any length takes: the values it keeps, a step of values just read, and the pieces between
/// the reader and the client's window. The largest single value comes on top.
pub const CALL_BYTES: usize = KEPT_BYTES + (2 << 20);
/// Bytes that the order of one answer takes while it is sorted: about 32 bytes a key, with the values if it is by value.
pub const SORT_BYTES: usize = 96 << 20;
/// Bytes of all answers over [`SMALL_BYTES`] together: 32 of them, or 2 long sorted ones and some others.
pub const ALL_BYTES: usize = 32 * CALL_BYTES;

/// Bytes of a permit.
const UNIT: usize = 1 << 10;

/// See the module's head. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Semaphore>);

/// Bytes taken from the allowance until it is dropped.
#[derive(Debug)]
pub struct Share {
    _permit: OwnedSemaphorePermit,
}

impl Default for Allowance {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_BYTES / UNIT)))
    }
}

impl Allowance {
    /// Takes the bytes if they are there.
    pub fn try_take(&self, bytes: usize) -> Option<Share> {
        self.0.clone().try_acquire_many_owned(units(bytes)).ok().map(|permit| Share { _permit: permit })
    }

    /// Waits for the bytes, first come first served.
    ///
    /// # Errors
    /// The member stops.
    pub async fn take(&self, bytes: usize) -> Result<Share, Status> {
        let permit = self.0.clone().acquire_many_owned(units(bytes)).await.map_err(|_| status(&Error::Stopped))?;
        Ok(Share { _permit: permit })
    }
}

#[cfg(test)]
impl Allowance {
    /// Whether nothing is taken.
    pub fn is_whole(&self) -> bool {
        self.0.available_permits() == ALL_BYTES / UNIT
    }
}

/// No call asks for more than there is: it would wait for ever.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.min(ALL_BYTES).div_ceil(UNIT)).expect("no answer takes terabytes")
}
