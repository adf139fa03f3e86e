//! Directories and ports that are not the member's to use.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::refuses;
use super::written::{Written, stopped};
use crate::member::{self, Member, Setup, free_port};

/// A user without any rights, where the tests run as root.
const NOBODY: u32 = 65_534;

/// One member's store and another's log: refused, naming both, and both are whole afterwards.
pub async fn store_of_another_member(dir: &Path) -> Result<()> {
    let (one, two) = (dir.join("one"), dir.join("two"));
    fs::create_dir(&one)?;
    fs::create_dir(&two)?;
    let (first, first_rows) = stopped(&one, 20).await?;
    let (second, second_rows) = stopped(&two, 20).await?;
    let mut mixed = first.clone();
    let log = second.data_dir.join("log");
    mixed.args = vec!["--wal-dir".to_owned(), log.to_string_lossy().into_owned()];
    let store = first.data_dir.join("store");
    refuses(&mixed, &["another member", &store.to_string_lossy(), &log.to_string_lossy()]).await?;
    first_rows.check_restarted(&first, 0).await?;
    second_rows.check_restarted(&second, 0).await
}

/// What etcd left: refused, with the way to bring it over.
pub async fn directory_of_etcd(dir: &Path) -> Result<()> {
    let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    fs::create_dir_all(setup.data_dir.join("member").join("snap"))?;
    fs::create_dir_all(setup.data_dir.join("member").join("wal"))?;
    refuses(&setup, &["etcd", "keepstone restore"]).await
}

/// A directory that its user may not read.
pub async fn unreadable_directory(dir: &Path) -> Result<()> {
    let (mut setup, written) = stopped(dir, 20).await?;
    let data = setup.data_dir.clone();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000))?;
    let root = fs::read_dir(&data).is_ok();
    if root {
        // Root may read everything: somebody else starts the program, from where they can reach it.
        let program = dir.join("keepstone");
        fs::copy(member::binary()?, &program)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        (setup.program, setup.uid) = (Some(program), Some(NOBODY));
    }
    let refused = refuses(&setup, &[&*data.to_string_lossy(), "Permission denied"]).await;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    refused?;
    (setup.program, setup.uid) = (None, None);
    written.check_restarted(&setup, 0).await
}

/// A file where the directory should be.
pub async fn directory_is_a_file(dir: &Path) -> Result<()> {
    let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    fs::write(&setup.data_dir, b"not a directory")?;
    refuses(&setup, &[&*setup.data_dir.to_string_lossy()]).await?;
    ensure!(fs::read(&setup.data_dir)? == b"not a directory", "the file was changed");
    Ok(())
}

/// Somebody listens there: refused, naming the address, before any data is touched.
pub async fn port_in_use(dir: &Path) -> Result<()> {
    let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    for port in [setup.client_port, setup.peer_port] {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        refuses(&setup, &[&port.to_string(), "in use"]).await?;
        ensure!(!setup.data_dir.exists(), "a data directory was made although port {port} is in use");
        drop(listener);
    }
    Written::default().check_restarted(&setup, 0).await
}

/// A second member on a directory in use: refused; the first one does not notice.
pub async fn locked_by_a_running_member(dir: &Path) -> Result<()> {
    let setup = Setup::new(&dir.join("data"), &dir.join("member.log"))?;
    let (mut member, mut client) = Member::start(&setup).await?;
    let mut written = Written::default();
    written.put(&mut client, 20, 100).await?;
    let mut second = Setup { log: dir.join("second.log"), ..setup.clone() };
    (second.client_port, second.peer_port) = (free_port()?, free_port()?);
    refuses(&second, &["in use by another process", &*setup.data_dir.to_string_lossy()]).await?;
    written.put(&mut client, 20, 100).await?;
    written.check(&mut client, 0).await?;
    // One that comes while the first is about to end waits for that.
    let mut third = Member::spawn(&second)?;
    let waits = |third: &Member| third.said().contains("waiting for the data directory");
    while !waits(&third) {
        ensure!(third.runs()?, "it did not wait: {}", third.last_words());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    member.stop().await?;
    let mut client = third.ready().await?;
    written.check(&mut client, 0).await?;
    third.stop().await
}
