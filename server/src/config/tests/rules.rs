//! The rules between settings, what is refused and what is passed over.

use std::time::Duration;

use super::super::{
    Allowed, AutoCompaction, ClusterState, LogFormat, LogLevel, LogOutput, MetricsLevel, Notice, table,
};
use super::{fails, line};

#[test]
fn broken_rules_in_etcds_words() {
    for (args, message) in [
        (&["--heartbeat-interval=0"][..], "--heartbeat-interval must be >0 (set to 0ms)"),
        (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            &["--election-timeout=499"],
            "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (&["--election-timeout=50001"], "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--listen-peer-urls=http://example.com:1"],
            "--listen-peer-urls: expected IP in URL for binding (http://example.com:1); use an IP address or localhost",
        ),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            r#"--initial-advertise-peer-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))"#,
        ),
        (&["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (&["--auto-compaction-mode=x"], r#"unknown auto-compaction-mode "x", supported values periodic, revision"#),
        (&["--auto-compaction-retention=x"], r#"error parsing CompactionRetention: time: invalid duration "x""#),
        (
            &["--auto-compaction-retention=-5"],
            r#"error parsing CompactionRetention: time: missing unit in duration "-5""#,
        ),
        (&["--auto-compaction-retention=-5m"], r#"--auto-compaction-retention "-5m" must not be negative"#),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (&["--compact-hash-check-time=-1s"], "--compact-hash-check-time must be >0 (set to -1s)"),
        (&["--warning-apply-duration=-1s"], "--warning-apply-duration must be >=0 (set to -1s)"),
        (&["--max-learners=-1"], "--max-learners must be >=0 (set to -1)"),
        (&["--log-format=xml"], "unknown log format: xml, supported values json, console"),
        (
            &["--log-level=loud"],
            r#"unrecognized --log-level "loud", supported values debug, info, warn, error, panic, fatal"#,
        ),
        (&["--log-outputs=stderr,default"], r#"multi logoutput for "default" is not supported yet"#),
        (
            &["--log-outputs=systemd/journal"],
            r#"--log-outputs "systemd/journal" is not supported; under systemd use stderr"#,
        ),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (&["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (&["--metrics=all"], r#"unknown --metrics "all", supported values basic, extensive"#),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--experimental-corrupt-check-time=1s", "--corrupt-check-time=1s"],
            "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, \
             please use --corrupt-check-time only",
        ),
        (
            &["--experimental-warning-unary-request-duration=1s", "--warning-unary-request-duration=1s"],
            "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are set. \
             Use only --warning-unary-request-duration",
        ),
        (
            &["--experimental-enable-lease-checkpoint", "--feature-gates=LeaseCheckpoint=false"],
            "cannot specify both flags: --experimental-enable-lease-checkpoint=true and \
             --feature-gates=LeaseCheckpoint=false at the same time, please just use \
             --feature-gates=LeaseCheckpoint=false",
        ),
        (&["gateway", "start"], r#""gateway" is not in keepstone; etcd's own `etcd gateway` works in front of it"#),
        (
            &["grpc-proxy", "start"],
            r#""grpc-proxy" is not in keepstone; etcd's own `etcd grpc-proxy` works in front of it"#,
        ),
    ] {
        assert_eq!(fails(args), (message.to_owned(), 1), "{args:?}");
    }
}

/// A value other than the default for a row that is refused.
fn other_than_default(flag: &table::Flag) -> &'static str {
    match (flag.kind, flag.default) {
        (table::Kind::Bool, "true") => "false",
        (table::Kind::Bool, _) => "true",
        (table::Kind::OneOf(words), default) => words.iter().find(|w| **w != default).expect("two words"),
        (table::Kind::Duration, _) => "17s",
        (table::Kind::Uint, _) => "17",
        _ => "/some/thing",
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let refused = table::all().filter_map(|f| match f.effect {
        table::Effect::Refused(topic) => Some((f, topic)),
        _ => None,
    });
    let mut seen = 0;
    for (flag, topic) in refused {
        let (message, code) = fails(&[&format!("--{}={}", flag.name, other_than_default(flag))]);
        assert!(message.starts_with(&format!("--{}", flag.name)) && message.contains(topic), "{message}");
        assert_eq!(code, 1);
        line(&[&format!("--{}={}", flag.name, flag.default)]).expect("the default is fine");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn users_are_refused() {
    let (message, _) = fails(&["--auth-token=jwt,pub-key=x"]);
    assert!(message.contains("users and their tokens are not in this version"), "{message}");
    let (message, _) = fails(&["--discovery-password=geheim"]);
    assert!(!message.contains("geheim"), "{message}");
    line(&["--auth-token=simple", "--bcrypt-cost=10", "--client-cert-auth=false", "--cert-file="]).expect("defaults");
}

#[test]
fn what_has_no_effect_is_told_once_it_differs() {
    let told = |args: &[&str]| -> Vec<String> {
        let config = line(args).expect("valid");
        let flag = |n: &Notice| match n {
            Notice::NoEffect { flag, .. } => Some(flag.clone()),
            Notice::Retired(flag) => Some((*flag).to_owned()),
            _ => None,
        };
        config.notices.iter().filter_map(flag).collect()
    };
    assert_eq!(told(&["--max-wals=5", "--backend-batch-limit=0"]), Vec::<String>::new());
    assert_eq!(told(&["--max-wals=7"]), ["max-wals"]);
    assert_eq!(told(&["--backend-bbolt-freelist-type=map"]), ["backend-bbolt-freelist-type"]);
    assert_eq!(told(&["--experimental-memory-mlock"]), ["memory-mlock"]);
    assert_eq!(told(&["--snapshot", "--v"]), ["snapshot", "v"]);
    assert_eq!(told(&["--feature-gates=SetMemberLocalAddr=true"]), ["feature-gates=SetMemberLocalAddr"]);
    let suites = "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_RSA_WITH_AES_128_CBC_SHA";
    assert_eq!(told(&[suites, "--tls-max-version=TLS1.3"]), ["cipher-suites"]);
}

#[test]
fn every_setting_can_be_said_with_its_default() {
    for flag in table::all().filter(|f| !matches!(f.effect, table::Effect::Early(_)) && !f.default.is_empty()) {
        let mut args = vec![format!("--{}={}", flag.name, flag.default)];
        if flag.name == "listen-client-urls" {
            args.push("--advertise-client-urls=http://localhost:2379".to_owned());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        line(&args).expect(flag.name);
    }
}

#[test]
fn old_names_mean_the_new() {
    let c = line(&[
        "--experimental-watch-progress-notify-interval=5s",
        "--experimental-compaction-batch-limit=7",
        "--experimental-compaction-sleep-interval=3ms",
        "--experimental-snapshot-catchup-entries=9",
        "--experimental-warning-apply-duration=2s",
        "--experimental-warning-unary-request-duration=4s",
        "--experimental-compact-hash-check-enabled",
        "--experimental-compact-hash-check-time=6s",
        "--experimental-corrupt-check-time=8s",
        "--experimental-initial-corrupt-check=true",
        "--experimental-stop-grpc-service-on-defrag=true",
    ])
    .expect("valid");
    assert_eq!(c.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!((c.compaction_batch_limit, c.compaction_sleep_interval), (7, Duration::from_millis(3)));
    assert_eq!(c.snapshot_catchup_entries, 9);
    assert_eq!(c.warning_apply_duration, Duration::from_secs(2));
    assert_eq!(c.warning_unary_request_duration, Duration::from_secs(4));
    assert_eq!(c.compact_hash_check_time, Duration::from_secs(6));
    assert_eq!(c.corrupt_check_time, Some(Duration::from_secs(8)));
    assert!(c.features.compact_hash_check && c.features.initial_corrupt_check);
    assert!(c.features.stop_grpc_service_on_defrag);
    let deprecated = c.notices.iter().filter(|n| matches!(n, Notice::Deprecated { .. })).count();
    assert_eq!(deprecated, 11);
}

#[test]
fn values_mean_what_etcd_means() {
    let compaction = |mode: &str, retention: &str| {
        let mode = format!("--auto-compaction-mode={mode}");
        line(&[&mode, &format!("--auto-compaction-retention={retention}")]).expect("valid").auto_compaction
    };
    assert_eq!(compaction("periodic", "0"), AutoCompaction::Off);
    assert_eq!(compaction("periodic", ""), AutoCompaction::Off);
    assert_eq!(compaction("periodic", "5"), AutoCompaction::Periodic(Duration::from_secs(5 * 3600)));
    assert_eq!(compaction("periodic", "5m"), AutoCompaction::Periodic(Duration::from_secs(300)));
    assert_eq!(compaction("revision", "1000"), AutoCompaction::Revision(1000));

    let quota = |n: &str| line(&[&format!("--quota-backend-bytes={n}")]).expect("valid").quota_backend_bytes;
    assert_eq!((quota("0"), quota("-1"), quota("77")), (Some(2 << 30), None, Some(77)));

    let c = line(&["--grpc-keepalive-interval=0", "--grpc-keepalive-timeout=0", "--snapshot-count=0"]).expect("valid");
    assert_eq!((c.keepalive.interval, c.keepalive.timeout, c.snapshot_count), (None, None, 10_000));

    let c = line(&["--watch-progress-notify-interval=1ms"]).expect("valid");
    assert_eq!(c.watch_progress_notify_interval, Duration::from_millis(100));
    assert!(c.notices.iter().any(|n| matches!(n, Notice::Adjusted { .. })));

    let c = line(&["--initial-cluster-state=existing", "--metrics=extensive", "--cors=http://b:1,http://a:1"])
        .expect("valid");
    assert_eq!((c.initial_cluster_state, c.metrics), (ClusterState::Existing, MetricsLevel::Extensive));
    assert_eq!(c.cors, Allowed::Only(vec!["http://a:1".into(), "http://b:1".into()]));
    assert_eq!(c.host_whitelist, Allowed::Everyone);
    assert_eq!(line(&["--host-whitelist="]).expect("valid").host_whitelist, Allowed::Everyone);
}

#[test]
fn logs() {
    let log = |args: &[&str]| line(args).expect("valid").log;
    let c = log(&[]);
    assert_eq!((c.level, c.format, c.outputs), (LogLevel::Info, LogFormat::Json, vec![LogOutput::Stderr]));
    let c = log(&["--log-level=DEBUG", "--log-format=console", "--log-outputs=stdout,stderr,/l"]);
    assert_eq!((c.level, c.format), (LogLevel::Debug, LogFormat::Console));
    assert_eq!(c.outputs, [LogOutput::File("/l".into()), LogOutput::Stderr, LogOutput::Stdout]);
    assert_eq!(log(&["--log-outputs=stderr,/dev/null"]).outputs, [LogOutput::File("/dev/null".into())]);
    assert_eq!(log(&["--log-level=fatal"]).level, LogLevel::Error);
}

#[test]
fn what_etcd_derives() {
    let c = line(&["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:7,http://10.0.0.1:8"]).expect("valid");
    assert_eq!(c.initial_cluster, "a=http://10.0.0.1:7,a=http://10.0.0.1:8");
    assert_eq!(c.data_dir.to_str(), Some("a.etcd"));
    c.founding_cluster().expect("agrees");

    let c = line(&["--name=a", "--listen-peer-urls=http://0.0.0.0:99"]).expect("valid");
    assert_eq!(super::super::join_urls(&c.initial_advertise_peer_urls), "http://192.0.2.7:99");
    assert_eq!(c.initial_cluster, "a=http://192.0.2.7:99");
    assert!(c.notices.contains(&Notice::DefaultHost("192.0.2.7".into())));

    // The default name keeps the default cluster, as in etcd: founding then says what is missing.
    let c = line(&["--listen-peer-urls=http://0.0.0.0:2380"]).expect("valid");
    let error = c.founding_cluster().expect_err("does not agree").to_string();
    assert!(error.starts_with("--initial-cluster has default=http://localhost:2380 but missing from"), "{error}");

    let c = line(&["--name=a", "--initial-cluster=b=http://10.0.0.1:1"]).expect("valid: only founding asks");
    assert_eq!(
        c.founding_cluster().expect_err("not in it").to_string(),
        r#"couldn't find local name "a" in the initial cluster configuration"#
    );
    c.joining_cluster().expect_err("not in it");
}
