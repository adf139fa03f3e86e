//! What `kubectl keepstone` prints of a cluster, to the letter. `KEEPSTONE_WRITE_GOLDEN=1` writes the files anew; read what
//! changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use keepstone_operator::controller::kind::Kind;
use keepstone_operator::plugin::Arguments;
use keepstone_operator::plugin::lines::{self, Health, Role};
use keepstone_operator::plugin::status;
use keepstone_operator::plugin::{Found, Operator, Told};
use serde_json::{Value, json};

const NOW: &str = "2026-11-21T10:00:00Z";

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plugin")
}

fn compare(name: &str, text: &str) {
    let path = here().join(name);
    if std::env::var_os("KEEPSTONE_WRITE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the file is written");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{} differs from what is printed:\n{text}", path.display());
}

/// The objects of a file, as the API server has them.
fn found(name: &str) -> Found {
    let text = fs::read_to_string(here().join(name)).expect(name);
    let all: Vec<Value> = serde_yaml::from_str(&text).expect(name);
    let of = |kind: &str| all.iter().filter(|one| one["kind"] == kind).cloned().collect::<Vec<_>>();
    let kinds = [Kind::Pod, Kind::Claim, Kind::Backup, Kind::Operation];
    Found {
        cluster: of("EtcdCluster").remove(0),
        lists: kinds.map(|kind| (kind, Ok(of(kind.words().kind)))).into(),
        events: of("Event"),
        told: BTreeMap::new(),
        operator: None,
    }
}

fn render(found: &Found) -> String {
    status::render(found, NOW.parse().expect("a time")).expect("a cluster")
}

fn leads(id: &str) -> Told {
    Told {
        member_id: Some(id.to_owned()),
        leads: true,
        has_leader: true,
        db_size_bytes: Some(3 << 20),
        ..Told::default()
    }
}

fn operator(renewed: &str) -> Operator {
    let pod = |name: &str, ready: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    let lease = json!({"spec": {
        "holderIdentity": "keepstone-operator-a_5f0c", "leaseDurationSeconds": 15, "renewTime": renewed,
    }});
    Operator {
        pods: vec![pod("keepstone-operator-a", "True"), pod("keepstone-operator-b", "False")],
        lease: Some(lease),
    }
}

#[test]
fn a_cluster_that_is_well() {
    let mut found = found("well.yaml");
    found.operator = Some(Ok(operator("2026-11-21T09:59:55.123456Z")));
    found.told.insert("main-1".to_owned(), Ok(leads("b1")));
    let follows = |id: &str| Told { leads: false, version: Some("v0.1.0".to_owned()), ..leads(id) };
    found.told.insert("main-0".to_owned(), Ok(follows("a0")));
    found.told.insert("main-2".to_owned(), Ok(follows("c2")));
    compare("well.txt", &render(&found));
}

#[test]
fn a_cluster_that_lost_its_quorum_and_its_operator() {
    let mut found = found("lost.yaml");
    found.operator = Some(Ok(operator("2026-11-21T09:30:00.000000Z")));
    found.lists.insert(Kind::Operation, Err("refused: etcdoperations is forbidden\n to nobody".to_owned()));
    found.told.insert("main-2".to_owned(), Ok(Told { leads: false, has_leader: false, ..leads("c2") }));
    found.told.insert("main-0".to_owned(), Err("no answer: nothing was heard in 5 s".to_owned()));
    compare("lost.txt", &render(&found));
}

#[test]
fn a_cluster_that_nobody_has_seen() {
    let mut found = found("lost.yaml");
    found.cluster["status"] = Value::Null;
    found.cluster.as_object_mut().expect("an object").remove("status");
    found.lists.clear();
    found.events.clear();
    found.operator = Some(Ok(Operator::default()));
    compare("new.txt", &render(&found));
}

#[test]
fn the_members_alone() {
    let found = found("lost.yaml");
    let lines = lines::members(&found).expect("a cluster");
    compare("members.txt", &status::members(&lines, &found));
}

#[test]
fn several_clusters() {
    let clusters = [found("well.yaml").cluster, found("lost.yaml").cluster];
    compare("clusters.txt", &status::clusters(&clusters, true, NOW.parse().expect("a time")));
    assert_eq!(status::clusters(&[], false, NOW.parse().expect("a time")), "there is no EtcdCluster\n");
}

#[test]
fn the_end_of_an_order_and_of_a_backup() {
    let found = found("well.yaml");
    let orders = found.of(Kind::Operation).map(|one| status::end(Kind::Operation, one));
    let backups = found.of(Kind::Backup).map(|one| status::end(Kind::Backup, one));
    compare("ends.txt", &orders.chain(backups).collect::<String>());
}

/// What was written of a member an hour ago must not hide what it says now.
#[test]
fn a_member_that_answers_is_believed_before_the_operator() {
    let mut found = found("well.yaml");
    found.told.insert("main-0".to_owned(), Ok(leads("a0")));
    found.told.insert("main-1".to_owned(), Ok(Told { leads: false, has_leader: false, ..leads("b1") }));
    let lines = lines::members(&found).expect("a cluster");
    let told: Vec<_> = lines.iter().map(|one| (one.role, one.health, one.answered)).collect();
    let wanted = [
        (Role::Leader, Health::Healthy, true),
        (Role::Voter, Health::NoLeader, true),
        (Role::Voter, Health::Healthy, false),
    ];
    assert_eq!(told, wanted);
}

/// One that waits for its cluster is no voter.
#[test]
fn a_member_that_is_none_yet_has_no_role() {
    let mut found = found("lost.yaml");
    found.cluster.as_object_mut().expect("an object").remove("status");
    found.told.insert("main-2".to_owned(), Ok(Told::default()));
    let lines = lines::members(&found).expect("a cluster");
    let line = lines.iter().find(|one| one.name == "main-2").expect("it has a pod");
    assert_eq!((line.role, line.answered), (Role::None, false));
}

/// What stands behind `kubectl keepstone` up to the end of the line or the quotation.
fn commands(text: &str) -> Vec<String> {
    let ends = ['\n', '`', '"', '#', '\\'];
    let all = text.split("kubectl keepstone ").skip(1).map(|rest| rest.split(ends).next().unwrap_or_default());
    // The name of a place in a Rust format is as good as a name.
    all.map(|line| line.replace(['{', '}'], "").trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn files(under: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, all) } else { all.push(path) }
    }
}

/// A command that is printed when a quorum is lost must not turn out to be none.
#[test]
fn every_command_that_is_printed_or_written_down_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = vec![root.join("README.md")];
    for under in
        ["docs", "charts", "operator/plan/src", "operator/src/controller", "operator/src/convert", "operator/api/src"]
    {
        files(&root.join(under), &mut all);
    }
    let mut seen = 0;
    for path in all {
        for line in commands(&fs::read_to_string(&path).unwrap_or_default()) {
            let words = ["kubectl-keepstone"].into_iter().chain(line.split_whitespace());
            if let Err(why) = Arguments::try_parse_from(words) {
                panic!("{}: kubectl keepstone {line}: {why}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 10, "only {seen} commands were found");
}
