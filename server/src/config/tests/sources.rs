//! Where a setting comes from, and Go's syntax on the command line.

use std::time::Duration;

use super::super::{Command, ConfigError, Notice, Surroundings};
use super::{fails, line, with_env};

#[test]
fn the_defaults_are_etcds() {
    let c = line(&[]).expect("valid");
    assert_eq!(c.name, "default");
    assert_eq!(c.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(c.initial_cluster, "default=http://localhost:2380");
    assert_eq!(super::super::join_urls(&c.listen_client_urls), "http://localhost:2379");
    assert_eq!(super::super::join_urls(&c.advertise_client_urls), "http://localhost:2379");
    assert_eq!(super::super::join_urls(&c.listen_peer_urls), "http://localhost:2380");
    assert_eq!(c.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(c.election_timeout, Duration::from_secs(1));
    assert_eq!(c.quota_backend_bytes, Some(2 << 30));
    assert_eq!((c.snapshot_count, c.snapshot_catchup_entries), (10_000, 5_000));
    assert_eq!((c.max_txn_ops, c.max_request_bytes), (128, 1_572_864));
    assert_eq!(c.max_concurrent_streams, u32::MAX);
    assert_eq!((c.compaction_batch_limit, c.compaction_sleep_interval), (1000, Duration::from_millis(10)));
    assert_eq!(c.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(c.warning_unary_request_duration, Duration::from_millis(300));
    assert_eq!(c.warning_apply_duration, Duration::from_millis(100));
    assert_eq!(c.compact_hash_check_time, Duration::from_secs(60));
    assert_eq!(c.corrupt_check_time, None);
    assert!(c.pre_vote && c.strict_reconfig_check && c.enable_grpc_gateway);
    assert!(!c.unsafe_no_fsync && !c.enable_pprof);
    c.founding_cluster().expect("agrees with itself");
}

#[test]
fn go_syntax() {
    for args in [
        &["--name", "x"][..],
        &["-name", "x"],
        &["--name=x"],
        &["-name=x"],
        &["--name", "y", "--name", "x"],
        &["--pre-vote", "--name=x"],
        &["--pre-vote=1", "--name=x", "--"],
    ] {
        let c = line(args).expect("valid");
        assert_eq!((c.name.as_str(), c.pre_vote), ("x", true), "{args:?}");
    }
    assert!(!line(&["--pre-vote=false"]).expect("valid").pre_vote);
    assert_eq!(line(&["--name="]).expect("valid").name, "");
    assert_eq!(line(&["--name=a=b"]).expect("valid").name, "a=b");
}

#[test]
fn a_malformed_line_ends_with_2() {
    for (args, message) in [
        (&["--bogus=1"][..], "flag provided but not defined: -bogus"),
        (
            &["--heartbeat-intervall", "1"],
            "flag provided but not defined: -heartbeat-intervall (did you mean --heartbeat-interval?)",
        ),
        (&["---x"], "bad flag syntax: ---x"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["--heartbeat-interval"], "flag needs an argument: -heartbeat-interval"),
        (
            &["--heartbeat-interval", "abc"],
            r#"invalid value "abc" for flag -heartbeat-interval: parse error (allowed: a whole number from 0)"#,
        ),
        (&["--pre-vote=maybe"], r#"invalid boolean value "maybe" for -pre-vote: parse error (allowed: true or false)"#),
        (
            &["--grpc-keepalive-timeout=5"],
            r#"invalid value "5" for flag -grpc-keepalive-timeout: parse error (allowed: a duration such as 300ms, 5s or 1h30m)"#,
        ),
        (
            &["--initial-cluster-state=old"],
            r#"invalid value "old" for flag -initial-cluster-state: invalid value (allowed: new or existing)"#,
        ),
        (
            &["--v2-deprecation=not-yet"],
            r#"invalid value "not-yet" for flag -v2-deprecation: invalid value (allowed: write-only, write-only-skip-check, write-only-drop-data or gone)"#,
        ),
        (
            &["--listen-client-urls=http://1.2.3.4"],
            r#"invalid value "http://1.2.3.4" for flag -listen-client-urls: URL address does not have the form "host:port": http://1.2.3.4 (allowed: URLs such as http://127.0.0.1:2379, comma-separated)"#,
        ),
        (
            &["--feature-gates=Foo=true"],
            r#"invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo (allowed: Name=true|false pairs, comma-separated)"#,
        ),
        (&["--runtime=x"], r#"invalid value "x" for flag -runtime: invalid value (allowed: local or multi)"#),
    ] {
        assert_eq!(fails(args), (message.to_owned(), 2), "{args:?}");
    }
}

#[test]
fn a_word_is_no_flag() {
    assert_eq!(fails(&["foo"]), (r#""foo" is not a valid flag"#.to_owned(), 1));
    assert_eq!(fails(&["--name=x", "--", "foo"]), (r#""foo" is not a valid flag"#.to_owned(), 1));
    assert_eq!(fails(&["-"]), (r#""-" is not a valid flag"#.to_owned(), 1));
    // A switch takes no second word.
    assert_eq!(fails(&["--pre-vote", "false"]), (r#""false" is not a valid flag"#.to_owned(), 1));
}

#[test]
fn help_and_version_come_first() {
    let parse = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        Command::parse(&args, &Surroundings::none())
    };
    for args in [&["-h"][..], &["--help"], &["-help"], &["--name=x", "--help", "--bogus"]] {
        assert!(matches!(parse(args), Ok(Command::Help(_))), "{args:?}");
    }
    for args in [&["--version"][..], &["-version"], &["--election-timeout=1", "--version"]] {
        assert!(matches!(parse(args), Ok(Command::Version)), "{args:?}");
    }
    assert!(matches!(parse(&["--bogus", "--help"]), Err(ConfigError::UnknownFlag { .. })));
}

#[test]
fn the_environment_fills_in() {
    let c = with_env(
        &[("ETCD_NAME", "b"), ("ETCD_ELECTION_TIMEOUT", "2000"), ("KEEPSTONE_RUNTIME", "multi"), ("ETCD_WAL_DIR", "")],
        &["--data-dir=/d"],
    )
    .expect("valid");
    assert_eq!((c.name.as_str(), c.data_dir.to_str()), ("b", Some("/d")));
    assert_eq!(c.election_timeout, Duration::from_secs(2));
    assert_eq!(c.runtime, super::super::RuntimeKind::Multi);
    assert_eq!(c.wal_dir, None);
    assert_eq!(c.initial_cluster, "b=http://localhost:2380");
    let used = |n: &Notice| matches!(n, Notice::EnvironmentUsed { variable, value } if variable == "ETCD_NAME" && value == "b");
    assert!(c.notices.iter().any(used));
}

#[test]
fn a_variable_beside_its_flag_is_a_conflict() {
    for env in [("ETCD_NAME", "a"), ("ETCD_NAME", "b"), ("ETCD_NAME", "")] {
        let error = with_env(&[env, ("ETCD_ELECTION_TIMEOUT", "x")], &["--name", "a"]).expect_err("conflict");
        assert_eq!(
            error.to_string(),
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag): ETCD_NAME and --name"
        );
        assert_eq!(error.exit_code(), 1);
    }
}

#[test]
fn a_wrong_variable_ends_with_1() {
    let error = with_env(&[("ETCD_HEARTBEAT_INTERVAL", "abc")], &[]).expect_err("wrong");
    assert_eq!(
        error.to_string(),
        r#"invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error (allowed: a whole number from 0)"#
    );
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn unknown_variables_are_told() {
    let env = [
        ("ETCD_FOO", "a"),
        ("ETCD_VERSION", "true"),
        ("KEEPSTONE_NAME", "x"),
        ("ETCD_ROOT_PASSWORD", "geheim"),
        ("ETCD_UNSUPPORTED_ARCH", "arm"),
        ("PATH", "/bin"),
        ("ETCDCTL_API", "3"),
    ];
    let c = with_env(&env, &[]).expect("valid");
    let unknown: Vec<_> = c
        .notices
        .iter()
        .filter_map(|n| match n {
            Notice::UnknownEnvironment(pair) => Some(pair.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(unknown, ["ETCD_FOO=a", "ETCD_VERSION=true", "KEEPSTONE_NAME=x", "ETCD_ROOT_PASSWORD=(hidden)"]);
}

#[test]
fn the_old_lease_variable_works() {
    let c = with_env(&[("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT", "true")], &[]).expect("valid");
    assert!(c.features.lease_checkpoint && !c.features.lease_checkpoint_persist);
    assert!(c.notices.contains(&Notice::CheckpointWithoutPersist));
}
