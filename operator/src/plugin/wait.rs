//! Waits until an order or a backup is over.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::controller::api::{Api as _, ApiError, text};
use crate::controller::kind::{Kind, Name};
use crate::controller::live::Live;

/// Between two looks.
const PACE: Duration = Duration::from_millis(500);

/// The object, once its phase is one that it keeps.
///
/// # Errors
/// It is not over in time, or was deleted meanwhile, or the API server won't say. No answer is none.
pub async fn end(live: &Live, kind: Kind, name: &Name, limit: Duration) -> anyhow::Result<Value> {
    let mut last = String::new();
    let looks = async {
        loop {
            match live.get(kind, name).await {
                Ok(Some(object)) if over(&object) => return Ok(object),
                Ok(Some(object)) => text(&object, "/status/phase").clone_into(&mut last),
                Ok(None) => bail!("{kind} {name} was deleted before it was over"),
                Err(ApiError::Silence(why)) => last = why,
                Err(why) => return Err(why).with_context(|| format!("{kind} {name}")),
            }
            tokio::time::sleep(PACE).await;
        }
    };
    match tokio::time::timeout(limit, looks).await {
        Ok(ended) => ended,
        Err(_) => {
            let last = if last.is_empty() { "the operator has not taken it up" } else { &last };
            bail!("{kind} {name} is not over after {} s ({last}); it goes on by itself", limit.as_secs())
        }
    }
}

fn over(object: &Value) -> bool {
    matches!(text(object, "/status/phase"), "Succeeded" | "Completed" | "Failed" | "Rejected")
}

/// Whether one that is over came out as it was meant.
#[must_use]
pub fn well(object: &Value) -> bool {
    matches!(text(object, "/status/phase"), "Succeeded" | "Completed")
}
