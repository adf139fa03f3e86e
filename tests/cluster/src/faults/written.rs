//! Data that a member has acknowledged, to be looked for later.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::client::{Client, revision};
use crate::member::{Member, PATIENCE, Setup};

/// What was acknowledged: keys with their values and revisions.
#[derive(Clone, Debug, Default)]
pub struct Written {
    rows: Vec<(String, String, i64)>,
}

impl Written {
    /// Puts `count` new keys.
    ///
    /// # Errors
    /// The first put that fails.
    pub async fn put(&mut self, client: &mut Client, count: usize, value_bytes: usize) -> Result<()> {
        for _ in 0..count {
            self.try_put(client, value_bytes).await?;
        }
        Ok(())
    }

    /// Puts one new key, remembered only if it is acknowledged.
    ///
    /// # Errors
    /// The member's.
    pub async fn try_put(&mut self, client: &mut Client, value_bytes: usize) -> Result<(), tonic::Status> {
        let n = self.rows.len();
        let (key, value) = (format!("row/{n:06}"), format!("{n} {}", "v".repeat(value_bytes)));
        let revision = client.put(&key, value.clone()).await?;
        self.rows.push((key, value, revision));
        Ok(())
    }

    /// All rows but the last `spare` are there exactly; at most `spare` more than they are.
    ///
    /// # Errors
    /// The first that is not.
    pub async fn check(&self, client: &mut Client, spare: usize) -> Result<()> {
        let listed = client.all(0).await?;
        let sure = &self.rows[..self.rows.len().saturating_sub(spare)];
        let mut found = listed.kvs.iter().filter(|kv| kv.key().starts_with(b"row/"));
        for (key, value, at) in sure {
            let kv = found.next().with_context(|| format!("LOST: {key}, acknowledged at {at}"))?;
            ensure!(kv.key() == key.as_bytes(), "LOST: {key}, acknowledged at {at}: {:?} is there", kv.key_bytes());
            ensure!(
                kv.value() == value.as_bytes() && kv.mod_revision() == *at,
                "{key} was acknowledged at {at}: {kv:?}"
            );
        }
        let now = revision(listed.header);
        let last = sure.last().map_or(1, |(_, _, at)| *at);
        ensure!(now >= last, "revision {last} was acknowledged, the member is at {now}");
        client.hash_kv(0).await.context("HashKV")?;
        Ok(())
    }

    /// Checks a member that is started for it, and that it still takes writes; stops it.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check_restarted(&self, setup: &Setup, spare: usize) -> Result<()> {
        let (mut member, mut client) = Member::start(setup).await?;
        self.check(&mut client, spare).await?;
        client.put("one more", "put").await.context("a put afterwards")?;
        member.stop().await
    }
}

/// A member that has written, its checkpoint flushed, and stopped; its log is whole.
///
/// # Errors
/// When that does not work without any fault.
pub async fn stopped(dir: &Path, count: usize) -> Result<(Setup, Written)> {
    let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    written.put(&mut client, count, 100).await?;
    member.stop().await?;
    Ok((setup, written))
}

/// A member that was killed right after its last acknowledgement.
///
/// # Errors
/// When that does not work without any fault.
pub async fn killed(dir: &Path, count: usize) -> Result<(Setup, Written)> {
    let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    written.put(&mut client, count, 100).await?;
    member.kill()?;
    Ok((setup, written))
}

/// A member whose log no longer begins at the beginning, stopped.
///
/// # Errors
/// When the log is not purged in time.
pub async fn purged(dir: &Path) -> Result<(Setup, Written)> {
    let mut setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    setup.args = ["--snapshot-count", "50", "--snapshot-catchup-entries", "5"].map(str::to_owned).to_vec();
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    let deadline = Instant::now() + PATIENCE;
    while !member.said().contains("saved snapshot") {
        ensure!(Instant::now() < deadline, "the log is not purged after {PATIENCE:?}");
        written.put(&mut client, 100, 100).await?;
        client.defragment().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is purged is purged by an entry of its own, after the line.
    written.put(&mut client, 100, 100).await?;
    client.defragment().await?;
    member.stop().await?;
    Ok((setup, written))
}
