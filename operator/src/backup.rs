//! Backups: a Job with the operator's own image streams a member's snapshot into a store, checks it, and tells what it wrote
//! in its termination message. Others fetch one again, for a cluster that is founded from it, remove one, or copy a data
//! directory before it is given up.
//!
//! [`job`] makes the Jobs, as pure as all objects; [`agent`] is what runs in them. An agent knows no API server: it has no
//! token, and no more secrets than the store's and those that members ask for.

pub mod agent;
mod copy;
pub mod job;
pub mod store;
pub mod task;

use std::path::Path;

use anyhow::Context as _;
pub use task::{Location, Report, Task};

/// What the process that runs in a Job does: its task comes in the environment, its report goes to a file.
///
/// # Errors
/// The task can't be read, the report not be written, or the task failed; the report says why.
pub async fn run(report: &Path, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let text = std::env::var(task::TASK_VARIABLE).context(task::TASK_VARIABLE)?;
    let task: Task = serde_json::from_str(&text).context(task::TASK_VARIABLE)?;
    let said = agent::run(&task, &job::mounts(), stop).await;
    std::fs::write(report, said.write()).with_context(|| report.display().to_string())?;
    match said {
        Report::Failed { why, .. } => anyhow::bail!(why),
        Report::Taken(_) | Report::Done => Ok(()),
    }
}
