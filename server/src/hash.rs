//! etcd's HashKV over this member's store. Reads everything the hash covers: callers bound how many run at once.

use std::ops::ControlFlow;
use std::sync::Arc;

use keepstone_state::{Error, HashKv, HashPlan, Revision};
use keepstone_store::StoreError;

use crate::core::Core;
use crate::host;

/// What was hashed, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    pub hash: u32,
    /// The last revision covered.
    pub revision: i64,
    /// -1 if there is none. Hashes are comparable where it is the same.
    pub compact_revision: i64,
}

/// The hash of the keys that a plan covers. The caller holds a pin at the plan's floor. Blocks.
///
/// # Errors
/// The store's.
pub fn scan(core: &Core, plan: HashPlan) -> Result<u32, StoreError> {
    let mut hash = HashKv::new(plan);
    core.records.scan(Revision::default(), Revision::new(plan.revision, i64::MAX), &mut |record| {
        hash.record(record, |record| core.state.read().keeps(record.kv.key(), record.at, plan.keep_at));
        ControlFlow::Continue(())
    })?;
    Ok(hash.finish())
}

/// The hash at a revision; 0 is the current one. Blocks.
///
/// # Errors
/// The outer error is the store's; the inner one says that there is no hash at the revision.
pub fn at(core: &Core, revision: i64) -> Result<Result<Hashed, Error>, StoreError> {
    loop {
        let epoch = core.epoch();
        let (plan, _pin) = {
            let state = core.state.read();
            match state.hash_plan(revision) {
                Ok(plan) => (plan, core.pins.pin(plan.floor)),
                Err(error) => return Ok(Err(error)),
            }
        };
        let hash = scan(core, plan)?;
        // Of a state that a snapshot replaced meanwhile, the history may have been gone in the middle.
        if core.epoch() == epoch {
            return Ok(Ok(Hashed { hash, revision: plan.revision, compact_revision: plan.floor }));
        }
    }
}

/// As [`at`], on a thread that may wait. A store that fails ends the member.
///
/// # Errors
/// There is no hash at the revision, or the member stops.
pub async fn of(core: &Arc<Core>, revision: i64) -> Result<Hashed, Error> {
    let reading = core.clone();
    match host::spawn_blocking(move || at(&reading, revision)).await {
        Ok(Ok(hashed)) => hashed,
        Ok(Err(error)) => {
            core.fail(&error.to_string());
            Err(Error::Stopped)
        }
        Err(_) => Err(Error::Stopped),
    }
}
