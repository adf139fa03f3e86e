//! The config file.

use std::io::Write;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::super::{Config, ConfigError, LogOutput, Notice};
use super::with_env;

fn written(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn yaml(text: &str) -> Result<Config, ConfigError> {
    let file = written(text);
    let path = file.path().to_str().expect("a text");
    with_env(&[], &["--config-file", path])
}

#[test]
fn the_file_alone_counts() {
    let file = written("name: from-file\n");
    let path = file.path().to_str().expect("a text");
    for (env, args) in [
        (&[("ETCD_CONFIG_FILE", path)][..], &["--name=from-flag", "--data-dir=/x"][..]),
        (&[("ETCD_NAME", "from-env")], &["--config-file", path, "--data-dir=/x"]),
        // Both may be given as long as only the file is used: etcd looks at no variable then.
        (&[("ETCD_CONFIG_FILE", "/nowhere")], &["--config-file", path]),
    ] {
        let c = with_env(env, args).expect("valid");
        assert_eq!((c.name.as_str(), c.data_dir.to_str()), ("from-file", Some("from-file.etcd")), "{args:?}");
        let loaded = |n: &Notice| matches!(n, Notice::FileLoaded { path: p, .. } if p == path);
        assert!(c.notices.iter().any(loaded));
    }
}

#[test]
fn values_and_sections() {
    let c = yaml(
        "Name: a\n\
         data-dir: /d\n\
         election-timeout: 3000\n\
         grpc-keepalive-timeout: 5000000000\n\
         grpc-keepalive-interval: 1e9\n\
         listen-client-urls: 'http://127.0.0.1:2,http://127.0.0.1:1'\n\
         listen-peer-urls: ''\n\
         initial-cluster-state: ''\n\
         log-outputs: [stdout, /tmp/x.log]\n\
         auto-compaction-mode: periodic\n\
         auto-compaction-retention: \"1\"\n\
         pre-vote: off\n\
         feature-gates: CompactHashCheck=true\n\
         socket-options:\n  reuse-port: true\n\
         client-transport-security:\n  cert-file:\n  client-cert-auth: false\n\
         cors: http://a:1\n\
         host-whitelist: b,a\n\
         proxy: 'off'\n\
         value-cache-bytes: 1024\n",
    )
    .expect("valid");
    assert_eq!((c.name.as_str(), c.data_dir.to_str()), ("a", Some("/d")));
    assert_eq!(c.election_timeout, Duration::from_secs(3));
    assert_eq!(c.keepalive.timeout, Some(Duration::from_secs(5)));
    assert_eq!(c.keepalive.interval, Some(Duration::from_secs(1)));
    assert_eq!(c.listen_client_urls.len(), 2);
    // Unlike on the command line, the default advertised URL stays.
    assert_eq!(super::super::join_urls(&c.advertise_client_urls), "http://localhost:2379");
    assert_eq!(c.log.outputs, [LogOutput::File("/tmp/x.log".into()), LogOutput::Stdout]);
    assert_eq!(c.auto_compaction, super::super::AutoCompaction::Periodic(Duration::from_secs(3600)));
    assert!(!c.pre_vote && c.socket.reuse_port && c.features.compact_hash_check);
    assert!(c.cors.admits("http://a:1") && !c.cors.admits("http://b:1"));
    assert!(c.host_whitelist.admits("a") && !c.host_whitelist.admits("c"));
    assert_eq!(c.value_cache_bytes, 1024);
    let unknown = |n: &Notice| matches!(n, Notice::UnknownKey { key, .. } if key == "proxy");
    assert!(c.notices.iter().any(unknown));
}

#[test]
fn types_are_strict() {
    for (text, part) in [
        ("grpc-keepalive-timeout: 5s\n", "whole nanoseconds, such as 5000000000 for 5s"),
        ("election-timeout: \"1000\"\n", "invalid value \"1000\" for election-timeout"),
        ("log-outputs: stderr\n", "a list of texts, such as [stderr]"),
        ("name: 5\n", "in quotes where it looks like a number"),
        ("auto-compaction-retention: 5\n", "in quotes where it looks like a number"),
        ("pre-vote: \"true\"\n", "allowed: true or false"),
        ("max-txn-ops: 1.5\n", "invalid value \"1.5\" for max-txn-ops"),
        ("max-txn-ops: -1\n", "value out of range"),
        ("max-concurrent-streams: 4294967296\n", "value out of range"),
        ("listen-peer-urls: foo\n", "URL scheme must be http, https, unix, or unixs: foo"),
        ("feature-gates: Foo=true\n", "unrecognized feature gate: Foo"),
        ("initial-cluster-state: foo\n", "allowed: new or existing"),
        ("socket-options:\n  reuse-port: 5\n", "socket-reuse-port"),
        ("a: [\n", "config file"),
        ("- a\n", "a mapping of settings is expected"),
        ("experimental-corrupt-check-time: 1\ncorrupt-check-time: 2\n", "please use --corrupt-check-time only"),
        ("discovery-config:\n  token: x\n", "cluster discovery is not in this version"),
        ("client-transport-security:\n  cert-file: /c\n", "both be present[key: , cert: /c]"),
        ("peer-transport-security:\n  key-file: /k\n", "both be present[key: /k, cert: ]"),
        ("peer-transport-security:\n  allowed-cn: [x]\n", "set --peer-trusted-ca-file too"),
        ("client-transport-security:\n  allowed-hostname: [x]\n", "set --trusted-ca-file too"),
        ("client-transport-security:\n  allowed-cn: [x]\n", "of client certificates need certificates"),
        // etcd passes over these silently, because they belong into a section: that would be no TLS at all.
        ("cert-file: /c\n", "both be present[key: , cert: /c]"),
    ] {
        let error = yaml(text).expect_err(text);
        assert!(error.to_string().contains(part), "{text:?}: {error}");
        assert_eq!(error.exit_code(), 1);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = with_env(&[], &["--config-file=/nowhere/k.yml"]).expect_err("missing");
    assert!(error.to_string().starts_with("config file /nowhere/k.yml: "), "{error}");
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(yaml("").expect("valid").name, "default");
    assert_eq!(yaml("---\n").expect("valid").name, "default");
}

#[test]
fn the_old_spelling_of_the_catch_up_key() {
    let c = yaml("experimental-snapshot-catch-up-entries: 7\n").expect("valid");
    assert_eq!(c.snapshot_catchup_entries, 7);
}

/// The settings of etcd's sample file, dead ones included: its own test starts a member from it.
#[test]
fn what_etcds_sample_file_sets_is_accepted() {
    let c = yaml(
        "name: 'default'\n\
         data-dir:\n\
         quota-backend-bytes: 0\n\
         listen-client-urls: http://localhost:2379\n\
         max-snapshots: 5\n\
         cors:\n\
         discovery:\n\
         discovery-fallback: 'proxy'\n\
         discovery-srv:\n\
         initial-cluster:\n\
         initial-cluster-state: 'new'\n\
         strict-reconfig-check: false\n\
         enable-pprof: true\n\
         proxy: 'off'\n\
         proxy-failure-wait: 5000\n\
         client-transport-security:\n  cert-file:\n  client-cert-auth: false\n  auto-tls: false\n\
         peer-transport-security:\n  cert-file:\n  client-cert-auth: false\n  auto-tls: false\n\
         self-signed-cert-validity: 1\n\
         log-level: debug\n\
         logger: zap\n\
         log-outputs: [stderr]\n\
         force-new-cluster: false\n\
         auto-compaction-retention: \"1\"\n\
         cipher-suites: [\n  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\n  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\n]\n\
         tls-min-version: 'TLS1.2'\n\
         tls-max-version: 'TLS1.3'\n",
    )
    .expect("accepted");
    assert!(c.enable_pprof && !c.strict_reconfig_check);
    c.founding_cluster().expect("founds a cluster of one");
}
