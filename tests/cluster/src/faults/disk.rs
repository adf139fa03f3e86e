//! A disk that is full, and one that fails.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use keepstone_preload::{ARM_VAR, FAULT_PATH_VAR, FAULT_VAR, ROOT_VAR};

use super::ends;
use super::written::Written;
use crate::member::{self, Member, PATIENCE, Setup};

/// Bytes of writes after which a disk that takes no more must have shown.
const ENOUGH: usize = 512 << 20;

/// A member on a disk that will fail once the file at the second place is made.
fn failing(dir: &Path, fault: &str, part: &str) -> Result<(Setup, PathBuf)> {
    let root = dir.join("root");
    std::fs::create_dir(&root)?;
    let (mut setup, arm) = (Setup::new(&root.join("data"), &dir.join("member.log"))?, dir.join("arm"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    setup.env = vec![
        ("LD_PRELOAD".to_owned(), text(&member::preload()?)),
        (ROOT_VAR.to_owned(), text(&root)),
        (ARM_VAR.to_owned(), text(&arm)),
        (FAULT_VAR.to_owned(), fault.to_owned()),
        (FAULT_PATH_VAR.to_owned(), part.to_owned()),
    ];
    Ok((setup, arm))
}

/// A good disk again: nothing acknowledged is lost.
async fn recovered(setup: &Setup, written: &Written) -> Result<()> {
    let setup = Setup { env: Vec::new(), ..setup.clone() };
    written.check_restarted(&setup, 0).await.context("on a good disk again")
}

/// No file grows any more. The member may go on without writing, or end; it says why, and loses nothing.
pub async fn full(dir: &Path) -> Result<()> {
    let (setup, arm) = failing(dir, "enospc", "")?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    written.put(&mut client, 50, 100).await?;
    std::fs::write(&arm, b"")?;
    let mut bytes = 0;
    while written.try_put(&mut client, 500_000).await.is_ok() {
        bytes += 500_000;
        ensure!(bytes < ENOUGH, "{bytes} bytes were acknowledged on a full disk");
    }
    // It may still be on its way out when it is asked: only one that goes on is held to its answers.
    let serving = member.runs()? && client.status().await.is_ok();
    let checked = if serving { Some(written.check(&mut client, 0).await) } else { None };
    match checked {
        Some(Ok(())) => member.kill()?,
        Some(Err(error)) if client.status().await.is_ok() => return Err(error.context("while the disk is full")),
        _ => ends(&mut member, &["No space left on device"]).await?,
    }
    recovered(&setup, &written).await
}

/// The log's next sync fails once: the member must not carry on.
pub async fn log_sync_fails(dir: &Path) -> Result<()> {
    ends_in_a_put(dir, "sync", &["fdatasync", ".wal", "Input/output error"]).await
}

/// The log's next write fails once.
pub async fn log_write_fails(dir: &Path) -> Result<()> {
    ends_in_a_put(dir, "write", &[".wal", "Input/output error"]).await
}

async fn ends_in_a_put(dir: &Path, fault: &str, words: &[&str]) -> Result<()> {
    let (setup, arm) = failing(dir, fault, "/log/")?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    written.put(&mut client, 50, 100).await?;
    std::fs::write(&arm, b"")?;
    let put = written.try_put(&mut client, 100).await;
    ensure!(put.is_err(), "a put was acknowledged although the log's {fault} failed");
    ends(&mut member, words).await?;
    recovered(&setup, &written).await
}

/// The store's next sync fails once: a checkpoint that may not be on disk must not let the log go.
pub async fn store_sync_fails(dir: &Path) -> Result<()> {
    let (setup, arm) = failing(dir, "sync", "/store/")?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    written.put(&mut client, 50, 100).await?;
    std::fs::write(&arm, b"")?;
    let deadline = Instant::now() + PATIENCE;
    while member.runs()? && written.try_put(&mut client, 10_000).await.is_ok() {
        drop(client.defragment().await);
        ensure!(Instant::now() < deadline, "the member goes on although its store's sync failed");
    }
    ends(&mut member, &["store", "Input/output error"]).await?;
    recovered(&setup, &written).await
}
