//! A fence: a file with names of members that must not start, one a line. For whoever starts all members alike and has
//! given some of them up: those whose directories would make the old cluster whole again beside the new one.
//!
//! A member that is fenced waits. It opens no directory and no port, so that nobody takes it for one that serves. Two things
//! let it go on: that the fence is lifted, or a permit to go on alone that names it. With the second a directory that
//! somebody has filled is never opened but under a cluster ID of its own. A fence never stops a member that runs.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::permit;
use crate::config::Config;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Every so many looks it is said what is waited for.
const TELL_EVERY: u32 = 25;
/// Bytes of a file that is taken for a fence: a thousand names.
const MAX_FILE: u64 = 256 << 10;

/// Waits until no fence names this member, or a permit does.
pub async fn lifted(config: &Config) {
    let Some(path) = &config.fence_file else { return };
    let mut told = 0_u32;
    while let Some(why) = held(path, &config.name) {
        if permit::goes_on_alone(config) {
            tracing::info!(fence = %path.display(), "fenced, and permitted to go on alone");
            return;
        }
        if told.is_multiple_of(TELL_EVERY) {
            tracing::warn!(fence = %path.display(), why, "this member must not start: waiting");
        }
        told = told.wrapping_add(1);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Why the member must not start; none where it may. A fence that can't be read may name anybody.
fn held(path: &Path, name: &str) -> Option<String> {
    match read(path) {
        Ok(text) => text.lines().any(|line| line.trim() == name).then(|| format!("the fence names {name}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("the fence can't be read: {error}")),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = io::Read::take(std::fs::File::open(path)?, MAX_FILE + 1);
    io::Read::read_to_string(&mut file, &mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is no fence: too long"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_fence_is_about_whom_it_names_and_nobody_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("fence");
        assert_eq!(held(&path, "main-1"), None, "there is no fence");
        fs::write(&path, "main-1\r\n main-2\n").expect("written");
        for (name, fenced) in [("main-0", false), ("main-1", true), ("main-2", true), ("main-10", false), ("", false)] {
            assert_eq!(held(&path, name).is_some(), fenced, "{name}");
        }
    }

    #[test]
    fn a_fence_that_is_not_understood_holds_everybody() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(held(dir.path(), "main-0").is_some(), "a directory");
        let path = dir.path().join("fence");
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(held(&path, "main-0").is_some(), "no text");
        fs::write(&path, vec![b'a'; 300 << 10]).expect("written");
        assert!(held(&path, "main-0").is_some(), "too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fenced_member_starts_when_the_fence_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("fence");
        fs::write(&path, "a\n").expect("written");
        let config = Config { name: "a".to_owned(), fence_file: Some(path.clone()), ..Config::defaults() };
        let waits = tokio::time::timeout(Duration::from_secs(3600), lifted(&config)).await;
        assert!(waits.is_err(), "it went on");
        fs::remove_file(&path).expect("taken away");
        lifted(&config).await;
    }

    /// The permit is there before the fence is lifted. In any other order what was restored could begin under the ID that
    /// every restore of it has.
    #[tokio::test(start_paused = true)]
    async fn a_permit_to_go_on_alone_opens_the_fence_for_whom_it_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let (fence, permit) = (dir.path().join("fence"), dir.path().join("permit"));
        fs::write(&fence, "a\n").expect("written");
        let config = Config {
            name: "a".to_owned(),
            permit_holder: "pod".to_owned(),
            fence_file: Some(fence),
            permit_file: Some(permit.clone()),
            ..Config::defaults()
        };
        for wrong in [
            r#"{"action":"force-new-cluster-id","name":"b","holder":"pod","nonce":"1"}"#,
            r#"{"action":"force-new-cluster-id","name":"a","holder":"other","nonce":"1"}"#,
            r#"{"action":"found","name":"a","holder":"pod","nonce":"1"}"#,
            "no permit",
        ] {
            fs::write(&permit, wrong).expect("written");
            let waits = tokio::time::timeout(Duration::from_secs(60), lifted(&config)).await;
            assert!(waits.is_err(), "{wrong}");
        }
        fs::write(&permit, r#"{"action":"force-new-cluster-id","name":"a","holder":"pod","nonce":"1"}"#)
            .expect("written");
        lifted(&config).await;
    }
}
