//! Files that are not as the member left them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keepstone_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

use super::refuses;
use super::written::{Written, killed, purged, stopped};
use crate::client::Client;
use crate::member::{Member, Setup};

const SECTOR: u64 = 512;

/// The newest segment of the log, and where its last written sector begins.
fn log_end(setup: &Setup) -> Result<(PathBuf, u64)> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(setup.data_dir.join("log"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            segments.push(path);
        }
    }
    segments.sort_unstable();
    let segment = segments.pop().context("the log has no segment")?;
    let bytes = fs::read(&segment)?;
    let last = bytes.iter().rposition(|byte| *byte != 0).context("the log is empty")? as u64;
    Ok((segment, last / SECTOR * SECTOR))
}

fn open(path: &Path) -> Result<File> {
    Ok(File::options().read(true).write(true).open(path)?)
}

/// The last sector was never written: the write it belongs to is cut, all before it is there.
pub async fn torn_log_tail(dir: &Path) -> Result<()> {
    let (setup, written) = killed(dir, 100).await?;
    let (segment, last) = log_end(&setup)?;
    open(&segment)?.write_all_at(&[0; SECTOR as usize], last)?;
    written.check_restarted(&setup, 1).await
}

/// Bytes that never were the log's, where nothing has been written yet.
pub async fn garbage_past_the_log(dir: &Path) -> Result<()> {
    let (setup, written) = killed(dir, 100).await?;
    let (segment, last) = log_end(&setup)?;
    open(&segment)?.write_all_at(&[0xa5; 3 * SECTOR as usize], last + 10 * SECTOR)?;
    written.check_restarted(&setup, 0).await
}

/// A segment that ends where its last group does: no crash shortens a file that was filled and synced, so that it is
/// damage like any other.
pub async fn short_log_segment(dir: &Path) -> Result<()> {
    let (setup, written) = killed(dir, 100).await?;
    let (segment, last) = log_end(&setup)?;
    let (file, len) = (open(&segment)?, fs::metadata(&segment)?.len());
    file.set_len(last + SECTOR)?;
    refuses(&setup, &["damaged", "restore from a backup"]).await?;
    file.set_len(len)?;
    written.check_restarted(&setup, 0).await.context("with the segment as long as it was")
}

/// One byte of what was synced is another: refused, with the file and the way out; nothing is changed by it.
pub async fn flipped_byte_in_the_log(dir: &Path) -> Result<()> {
    let (setup, written) = killed(dir, 100).await?;
    let (segment, last) = log_end(&setup)?;
    let (file, at) = (open(&segment)?, last / 2);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    let name = segment.file_name().context("a file name")?.to_string_lossy().into_owned();
    let words = [&*name, "damaged", "restore from a backup"];
    refuses(&setup, &words).await?;
    refuses(&setup, &words).await.context("the second time")?;
    file.write_all_at(&byte, at)?;
    written.check_restarted(&setup, 0).await.context("with the byte as it was")
}

/// The store without its log: never an empty member.
pub async fn log_deleted(dir: &Path) -> Result<()> {
    let (setup, _) = stopped(dir, 100).await?;
    fs::remove_dir_all(setup.data_dir.join("log"))?;
    refuses(&setup, &["log", "store"]).await?;
    refuses(&setup, &["log", "store"]).await.context("the second time")
}

fn spoil(dir: &Path) -> Result<usize> {
    let mut spoiled = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            spoiled += spoil(&entry.path())?;
        } else if found.len() > 0 {
            open(&entry.path())?.write_all_at(&vec![0xa5; found.len() as usize], 0)?;
            spoiled += 1;
        }
    }
    Ok(spoiled)
}

fn spoil_store(setup: &Setup) -> Result<()> {
    ensure!(spoil(&setup.data_dir.join("store"))? > 0, "the store has no files");
    Ok(())
}

/// Set aside, rebuilt from the log, told by a CORRUPT alarm.
pub async fn store_garbage_with_whole_log(dir: &Path) -> Result<()> {
    let (setup, written) = stopped(dir, 100).await?;
    spoil_store(&setup)?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let member_id = client.status().await?.header.context("a header")?.member_id;
    ensure!(corrupt(&mut client).await? == [member_id], "no CORRUPT alarm of this member was raised");
    disarm(&mut client, member_id).await?;
    written.check(&mut client, 0).await?;
    let aside = fs::read_dir(&setup.data_dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let aside: Vec<String> = aside.filter(|name| name.starts_with("store") && name != "store").collect();
    ensure!(!aside.is_empty(), "the damaged store was not set aside but thrown away");
    member.stop().await?;
    written.check_restarted(&setup, 0).await.context("and started again")
}

/// Nothing is left to rebuild from: refused, with the way back, and never started empty.
pub async fn store_garbage_with_purged_log(dir: &Path) -> Result<()> {
    let (setup, _) = purged(dir).await?;
    spoil_store(&setup)?;
    refuses(&setup, &["store", "restore from a backup"]).await?;
    refuses(&setup, &["store", "restore from a backup"]).await.context("the second time")
}

/// The log has everything.
pub async fn store_deleted_with_whole_log(dir: &Path) -> Result<()> {
    let (setup, written) = stopped(dir, 100).await?;
    fs::remove_dir_all(setup.data_dir.join("store"))?;
    written.check_restarted(&setup, 0).await
}

/// As with garbage.
pub async fn store_deleted_with_purged_log(dir: &Path) -> Result<()> {
    let (setup, written): (Setup, Written) = purged(dir).await?;
    let (store, kept) = (setup.data_dir.join("store"), dir.join("kept"));
    fs::rename(&store, &kept)?;
    refuses(&setup, &["store", "restore from a backup"]).await?;
    refuses(&setup, &["store", "restore from a backup"]).await.context("the second time")?;
    if store.exists() {
        fs::remove_dir_all(&store)?;
    }
    fs::rename(&kept, &store)?;
    written.check_restarted(&setup, 0).await.context("with the store back in its place")
}

/// The members with a CORRUPT alarm.
async fn corrupt(client: &mut Client) -> Result<Vec<u64>> {
    let get = AlarmRequest { action: AlarmAction::Get as i32, member_id: 0, alarm: AlarmType::Corrupt as i32 };
    let answer = client.maintenance.alarm(get).await?.into_inner();
    Ok(answer
        .alarms
        .iter()
        .filter(|alarm| alarm.alarm == AlarmType::Corrupt as i32)
        .map(|alarm| alarm.member_id)
        .collect())
}

async fn disarm(client: &mut Client, member_id: u64) -> Result<()> {
    let alarm = AlarmType::Corrupt as i32;
    client.maintenance.alarm(AlarmRequest { action: AlarmAction::Deactivate as i32, member_id, alarm }).await?;
    Ok(())
}
