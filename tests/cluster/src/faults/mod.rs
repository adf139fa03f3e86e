//! Disks that fill and fail, files that are damaged, directories that are not the member's: what the member must say,
//! how it must end, and that nothing acknowledged is lost by it. The cases hold the design's promises, not what the
//! server happens to do.

mod damage;
mod disk;
mod foreign;
mod written;

use std::path::Path;
use std::pin::Pin;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::member::{Member, Setup};

type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
type Case = (&'static str, fn(&Path) -> Running<'_>);

macro_rules! cases {
    ($($module:ident :: $case:ident),* $(,)?) => {
        &[$((stringify!($case), |dir| Box::pin($module::$case(dir)))),*]
    };
}

const CASES: &[Case] = cases![
    disk::full,
    disk::log_sync_fails,
    disk::log_write_fails,
    disk::store_sync_fails,
    damage::torn_log_tail,
    damage::garbage_past_the_log,
    damage::short_log_segment,
    damage::flipped_byte_in_the_log,
    damage::log_deleted,
    damage::store_garbage_with_whole_log,
    damage::store_garbage_with_purged_log,
    damage::store_deleted_with_whole_log,
    damage::store_deleted_with_purged_log,
    foreign::store_of_another_member,
    foreign::directory_of_etcd,
    foreign::unreadable_directory,
    foreign::directory_is_a_file,
    foreign::port_in_use,
    foreign::locked_by_a_running_member,
];

/// Runs every case whose name contains `only`; answers the line to print.
///
/// # Errors
/// All cases that are wrong, each with what it saw.
pub async fn run(only: &str) -> Result<String> {
    let began = Instant::now();
    let (mut count, mut wrong) = (0, Vec::new());
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(only)) {
        let dir = tempfile::Builder::new().prefix("keepstone-faults-").tempdir()?;
        count += 1;
        if let Err(error) = case(&dir.path().canonicalize()?).await {
            wrong.push(format!("{name}: {error:#}\n  kept {}", dir.keep().display()));
        }
    }
    ensure!(count > 0, "no case is called {only}");
    ensure!(wrong.is_empty(), "{} of {count} cases are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(format!("{count} cases, {:.1} s: all as designed", began.elapsed().as_secs_f64()))
}

/// Starts a member that must refuse: see [`ends`].
async fn refuses(setup: &Setup, words: &[&str]) -> Result<()> {
    let mut member = Member::spawn(setup)?;
    ends(&mut member, words).await
}

/// The member must end by itself with code 1, without a panic, and say all of `words`.
async fn ends(member: &mut Member, words: &[&str]) -> Result<()> {
    let status = member.ended().await.context("it should have ended")?;
    ensure!(status.code() == Some(1), "it ended with {status}, not with code 1; it said:\n{}", member.last_words());
    let said = member.said();
    for word in words {
        ensure!(said.contains(word), "it does not say {word:?}; it said:\n{}", member.last_words());
    }
    ensure!(!said.contains("panicked at"), "it panicked:\n{}", member.last_words());
    Ok(())
}
