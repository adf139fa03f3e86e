//! Backups of a real member into a directory, and a cluster founded from one: as the Jobs do it, without Kubernetes.

mod server;

use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::process::Command;

use keepstone_operator::backup::agent;
use keepstone_operator::backup::store::Mounts;
use keepstone_operator::backup::task::{Location, Report, Task};
use keepstone_operator::members::{Dialer, card};
use keepstone_operator_api::Reason;
use keepstone_operator_api::backup::{Artifact, PvcStore, Store};
use keepstone_operator_plan::ids::Revision;
use sha2::{Digest as _, Sha256};

use server::{Server, binary};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn mounts(volume: &Path) -> Mounts {
    let none = PathBuf::from("/nowhere");
    Mounts { tls: none.clone(), ca: none.clone(), store_ca: none, volume: volume.to_path_buf() }
}

fn at(key: &str) -> Location {
    let pvc = PvcStore { claim_name: "backups".to_owned(), sub_path: None };
    Location { store: Store { s3: None, pvc: Some(pvc) }, key: key.to_owned() }
}

fn take(server: &Server, key: &str, owner: &str) -> Task {
    Task::Take { endpoint: server.client.clone(), to: at(key), owner: owner.to_owned() }
}

async fn taken(task: &Task, volume: &Path) -> Artifact {
    match agent::run(task, &mounts(volume), pending()).await {
        Report::Taken(artifact) => artifact,
        other => panic!("{other:?}"),
    }
}

async fn failed(task: &Task, volume: &Path) -> String {
    match agent::run(task, &mounts(volume), pending()).await {
        Report::Failed { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("text")).collect();
    names.sort();
    names
}

fn hash(file: &Path) -> String {
    let bytes = fs::read(file).expect("a file");
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_backup_is_what_its_record_says() {
    let mut server = Server::start(directory(), "http", &[]);
    let mut member = server.ready(&Dialer::plain()).await;
    let volume = directory();
    let artifact = taken(&take(&server, "one.db", "cluster-a"), volume.path()).await;
    let status = member.status().await.expect("a status");
    let file = volume.path().join("one.db");
    assert_eq!(artifact.sha256, hash(&file));
    assert_eq!(artifact.size_bytes as u64, fs::metadata(&file).expect("a file").len());
    assert_eq!((Revision(artifact.revision), artifact.uri.as_str()), (status.revision, "pvc://backups/one.db"));
    assert_eq!(
        (&artifact.cluster_id, &artifact.member_id),
        (&status.cluster_id.to_string(), &status.member_id.to_string())
    );
    assert_eq!(names(volume.path()), ["keepstone-owner", "one.db"]);

    // Retention of two clusters in one place would remove each other's.
    let why = failed(&take(&server, "two.db", "cluster-b"), volume.path()).await;
    assert!(why.contains("another cluster") && why.contains("cluster-a"), "{why}");
    assert_eq!(names(volume.path()), ["keepstone-owner", "one.db"]);

    let discard = Task::Discard { at: at("one.db") };
    for _ in 0..2 {
        assert_eq!(agent::run(&discard, &mounts(volume.path()), pending()).await, Report::Done, "gone is gone");
    }
    assert_eq!(names(volume.path()), ["keepstone-owner"]);
}

#[tokio::test]
async fn what_was_not_finished_leaves_nothing() {
    let mut server = Server::start(directory(), "http", &[]);
    server.ready(&Dialer::plain()).await;
    let volume = directory();
    let task = take(&server, "one.db", "cluster-a");
    let stopped = agent::run(&task, &mounts(volume.path()), std::future::ready(())).await;
    // Whichever came first: a file that is whole, or none.
    let files = names(volume.path());
    match stopped {
        Report::Taken(artifact) => assert_eq!(hash(&volume.path().join("one.db")), artifact.sha256),
        other => {
            assert_eq!(other, Report::failed(Reason::Interrupted, "it was told to stop"));
            assert_eq!(files, ["keepstone-owner"]);
        }
    }
    let gone =
        Task::Take { endpoint: "http://127.0.0.1:1".to_owned(), to: at("two.db"), owner: "cluster-a".to_owned() };
    assert!(failed(&gone, volume.path()).await.starts_with("the member: "));
    assert!(!names(volume.path()).contains(&"two.db".to_owned()));
}

#[tokio::test]
async fn a_file_that_was_changed_is_not_restored() {
    let volume = directory();
    fs::write(volume.path().join("one.db"), "what was written").expect("written");
    let into = volume.path().join("fetched").display().to_string();
    let fetch = |sha256: Option<String>| Task::Fetch { from: at("one.db"), sha256, into: into.clone() };
    let right = hash(&volume.path().join("one.db"));
    assert_eq!(agent::run(&fetch(Some(right)), &mounts(volume.path()), pending()).await, Report::Done);
    let why = failed(&fetch(Some("00".repeat(32))), volume.path()).await;
    assert!(why.contains("and not 0000"), "{why}");
    let why = failed(&Task::Fetch { from: at("none.db"), sha256: None, into: into.clone() }, volume.path()).await;
    assert!(why.starts_with("the store: "), "{why}");
}

/// The fence keeps the server from its directory while a Job fills it; the permit opens the fence, and gives the cluster an
/// ID of its own.
#[tokio::test]
async fn a_cluster_is_founded_from_a_backup_behind_a_fence() {
    let mut old = Server::start(directory(), "http", &[]);
    let lost = old.ready(&Dialer::plain()).await.status().await.expect("a status");
    let volume = directory();
    let artifact = taken(&take(&old, "one.db", "cluster-a"), volume.path()).await;
    drop(old);

    let dir = directory();
    let (fence, permit) = (dir.path().join("fence"), dir.path().join("permit"));
    fs::write(&fence, "m\n").expect("written");
    let args = [
        "--join=http://127.0.0.1:1".to_owned(),
        format!("--fence-file={}", fence.display()),
        format!("--permit-file={}", permit.display()),
        "--permit-holder=pod".to_owned(),
    ];
    let mut server = Server::joining(dir, &args);
    server.says("must not start").await;
    let data = server.dir.path().join("data");
    assert!(!data.exists(), "a fenced member opens nothing");

    let scratch = volume.path().join("scratch.db");
    let into = scratch.display().to_string();
    let fetch = Task::Fetch { from: at("one.db"), sha256: Some(artifact.sha256), into };
    assert_eq!(agent::run(&fetch, &mounts(volume.path()), pending()).await, Report::Done);
    let peer = &server.peer;
    let restored = Command::new(binary())
        .arg("restore")
        .arg(&scratch)
        .arg(format!("--data-dir={}", data.display()))
        .args(["--name=m", &format!("--initial-cluster=m={peer}"), &format!("--initial-advertise-peer-urls={peer}")])
        .output()
        .expect("it runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));

    let written = r#"{"action":"force-new-cluster-id","name":"m","holder":"pod","nonce":"000000000000002a"}"#;
    fs::write(dir_of(&permit).join("permit.new"), written).expect("written");
    fs::rename(dir_of(&permit).join("permit.new"), &permit).expect("in place");
    let mut member = server.ready(&Dialer::plain()).await;
    let status = member.status().await.expect("a status");
    assert_ne!(status.cluster_id, lost.cluster_id);
    assert_eq!(status.revision, Revision(artifact.revision + 1_000_000_000));
    assert_eq!(member.members().await.expect("the table").len(), 1);
    let card = card(&server.metrics, &Dialer::plain()).await.expect("a card");
    assert_eq!(card.permit.as_deref(), Some("000000000000002a"));
}

fn dir_of(file: &Path) -> &Path {
    file.parent().expect("a directory")
}
