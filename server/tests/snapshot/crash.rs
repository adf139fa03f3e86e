//! A crash at any step of an installation leaves the old state or the new one, each whole and with a log that fits.

use std::fs;
use std::path::Path;

use keepstone::data::DataError;

use crate::member::{Cluster, open, paths};
use crate::transfer::left_behind;

/// Copies a directory tree.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a listing") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root)
        .expect("a listing")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with("store"))
        .collect();
    names.sort();
    names
}

/// The state on disk as each step leaves it: before anything, with a snapshot half received, whole but not counted,
/// counted with the old one there, half deleted, gone; renamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_leaves_the_old_state_or_the_new() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start(dir.path()).await;
    left_behind(&cluster, 1000, 40).await;
    let last = cluster.members.pop().expect("three members");
    let old_revision = last.core.revision();
    last.stop().await;
    let before = dir.path().join("before");
    copy(&paths(dir.path(), 3).root, &before.join("m3"));
    let last = crate::member::Member::start(dir.path(), 3, &cluster.net).await;
    cluster.members.push(last);
    cluster.net.heal(3);
    cluster.settled().await;
    let last = cluster.members.pop().expect("three members");
    let new_revision = last.core.revision();
    last.stop().await;
    assert!(new_revision > old_revision);
    let after = paths(dir.path(), 3).root;
    let new_store = fs::read_dir(&after).expect("a listing").map(|entry| entry.expect("an entry").path());
    let new_store = new_store.filter(|path| path.join("INSTALLED").exists()).last().expect("a store that is counted");
    let mark = fs::read(new_store.join("INSTALLED")).expect("the mark");

    // Each is built from the old directory, its log included, and what of the new one is there by then.
    let step = |name: &str, build: &dyn Fn(&Path)| {
        let root = dir.path().join(name);
        copy(&before, &root);
        build(&root.join("m3"));
        let opened = open(&root, 3);
        let (paths, log, checkpoint) = opened.unwrap_or_else(|error: DataError| panic!("{name}: {error}"));
        let revision = checkpoint.state.revision();
        let applied = checkpoint.applied.log_id.map_or(0, |id| id.index());
        let end = log.wal.last().map_or(0, |last| last.index);
        assert!(end >= applied, "{name}: the log ends at {end}, before {applied}");
        let left = names(&paths.root);
        drop(checkpoint);
        log.wal.close();
        (revision, left)
    };
    // As a crash before the log follows has it.
    let unfollowed = {
        let mut mark = mark.clone();
        mark[17] = 0;
        let crc = crc32c::crc32c(&mark[..18]);
        mark[18..].copy_from_slice(&crc.to_le_bytes());
        mark
    };
    let place = |root: &Path, mark: Option<&[u8]>| {
        let to = root.join("store.incoming-1");
        copy(&new_store, &to);
        match mark {
            Some(mark) => fs::write(to.join("INSTALLED"), mark).expect("written"),
            None => fs::remove_file(to.join("INSTALLED")).expect("removed"),
        }
    };
    let usual = vec!["store".to_owned()];
    let (revision, left) = step("nothing", &|_| {});
    assert_eq!((revision, left), (old_revision, usual.clone()));
    let (revision, _) = step("whole", &|root| place(root, None));
    assert_eq!(revision, old_revision);
    let (revision, left) = step("counted", &|root| place(root, Some(&unfollowed)));
    assert_eq!((revision, left), (new_revision, usual.clone()));
    let (revision, left) = step("half-deleted", &|root| {
        place(root, Some(&unfollowed));
        fs::remove_dir_all(root.join("store").join("heap")).expect("removed");
    });
    assert_eq!((revision, left), (new_revision, usual.clone()));
    let (revision, left) = step("renamed", &|root| {
        place(root, Some(&unfollowed));
        fs::remove_dir_all(root.join("store")).expect("removed");
        fs::rename(root.join("store.incoming-1"), root.join("store")).expect("renamed");
    });
    assert_eq!((revision, left), (new_revision, usual.clone()));
    let (revision, left) = step("older-leftovers", &|root| {
        place(root, Some(&unfollowed));
        fs::create_dir(root.join("store.incoming-2")).expect("made");
        fs::rename(root.join("store.incoming-1"), root.join("store.incoming-3")).expect("renamed");
        fs::create_dir(root.join("store.incoming-4")).expect("made");
    });
    assert_eq!((revision, left), (new_revision, usual));
    // What a crash can leave of a mark is its draft, which does not count.
    let (revision, _) = step("drafted", &|root| {
        place(root, None);
        fs::write(root.join("store.incoming-1").join("INSTALLED.new"), &unfollowed[..9]).expect("written");
    });
    assert_eq!(revision, old_revision);
    // A mark in parts is damage: neither state is taken for the member's, and nothing is deleted.
    let root = dir.path().join("damaged");
    copy(&before, &root);
    place(&root.join("m3"), Some(&unfollowed[..9]));
    let refused = open(&root, 3).err().expect("it is not known which state counts").to_string();
    assert!(refused.contains("INSTALLED is damaged"), "{refused}");
    assert_eq!(names(&paths(&root, 3).root), ["store", "store.incoming-1"]);
}
