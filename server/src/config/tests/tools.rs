//! The offline sub-commands.

use super::super::{Command, ConfigError, Surroundings, join_urls};

fn parse(args: &[&str]) -> Result<Command, ConfigError> {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    Command::parse(&args, &Surroundings::none())
}

#[test]
fn restore_takes_etcdutls_flags() {
    let Ok(Command::Restore(r)) = parse(&["restore", "b.db", "--data-dir", "/d"]) else { panic!("restore") };
    assert_eq!((r.snapshot.to_str(), r.data_dir.to_str(), r.name.as_str()), (Some("b.db"), Some("/d"), "default"));
    assert_eq!(r.initial_cluster.to_string(), "default=http://localhost:2380");
    assert!(!r.skip_hash_check && !r.mark_compacted && r.bump_revision == 0 && r.wal_dir.is_none());

    let Ok(Command::Restore(r)) = parse(&[
        "restore",
        "--name=a",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster",
        "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
        "--initial-cluster-token=t",
        "--skip-hash-check=true",
        "--bump-revision=10",
        "--mark-compacted",
        "--wal-dir=/w",
        "--initial-memory-map-size=5",
        "b.db",
    ]) else {
        panic!("restore")
    };
    assert_eq!((r.initial_cluster.len(), r.initial_cluster_token.as_str()), (2, "t"));
    assert_eq!(join_urls(&r.initial_advertise_peer_urls), "http://127.0.0.1:1");
    assert_eq!((r.data_dir.to_str(), r.wal_dir.as_deref().and_then(|d| d.to_str())), (Some("a.etcd"), Some("/w")));
    assert!(r.skip_hash_check && r.mark_compacted && r.bump_revision == 10);

    // A name alone founds a cluster of one.
    let Ok(Command::Restore(r)) = parse(&["restore", "b.db", "--name=a"]) else { panic!("restore") };
    assert_eq!(r.initial_cluster.to_string(), "a=http://localhost:2380");
}

#[test]
fn wrong_restores() {
    for (args, part, code) in [
        (&["restore"][..], "required arguments", 2),
        (&["restore", "b.db", "--bogus"], "unexpected argument '--bogus'", 2),
        (&["restore", "b.db", "--bump-revision=1"], "go together", 1),
        (&["restore", "b.db", "--mark-compacted"], "go together", 1),
        (&["restore", "b.db", "--initial-cluster=b=http://h:1"], "couldn't find local name", 1),
        (&["restore", "b.db", "--initial-advertise-peer-urls=x"], "URL scheme must be", 1),
        (&["wal"], "Usage", 2),
        (&["wal", "export", "out"], "--data-dir", 2),
    ] {
        let error = parse(args).expect_err(&args.join(" "));
        assert!(error.to_string().contains(part), "{args:?}: {error}");
        assert_eq!(error.exit_code(), code, "{args:?}");
    }
}

#[test]
fn wal_export() {
    let Ok(Command::WalExport(w)) = parse(&["wal", "export", "out", "--data-dir", "/d"]) else { panic!("wal export") };
    assert_eq!((w.target.to_str(), w.data_dir.to_str(), w.wal_dir), (Some("out"), Some("/d"), None));
    assert!(matches!(parse(&["wal", "export", "--help"]), Ok(Command::Help(_))));
    assert!(matches!(parse(&["restore", "-h"]), Ok(Command::Help(_))));
}
