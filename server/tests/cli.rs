//! The binary as a process: what it prints where, and how it ends. No test here starts a member.

use std::process::{Command, Output};

fn keepstone(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keepstone"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn version_and_help_go_to_stdout() {
    let out = keepstone(&["--version"], &[("ETCD_NAME", "not looked at")]);
    assert!(out.status.success() && out.stderr.is_empty());
    let lines = text(&out.stdout);
    assert!(lines.starts_with("keepstone Version: ") && lines.contains("\netcd Version: 3.6.16\n"), "{lines}");

    let out = keepstone(&["--help"], &[]);
    assert!(out.status.success() && out.stderr.is_empty());
    assert!(text(&out.stdout).contains("--listen-client-urls"));
}

#[test]
fn called_etcd_it_answers_as_etcd() {
    let dir = tempfile::tempdir().expect("a directory");
    let etcd = dir.path().join("etcd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_keepstone"), &etcd).expect("a link");
    let out = Command::new(&etcd).arg("--version").output().expect("runs");
    assert_eq!(text(&out.stdout).lines().next(), Some("etcd Version: 3.6.16"));
}

#[test]
fn wrong_lines_end_with_etcds_codes_and_one_line() {
    for (args, env, code, part) in [
        (&["--bogus"][..], &[][..], 2, "flag provided but not defined: -bogus"),
        (&["--heartbeat-interval=x"], &[], 2, r#"invalid value "x" for flag -heartbeat-interval"#),
        (&["foo"], &[], 1, r#""foo" is not a valid flag"#),
        (&["--election-timeout=1"], &[], 1, "should be at least as 5 times"),
        (&["--cert-file=/c"], &[], 1, "KeyFile and CertFile must both be present"),
        (&[], &[("ETCD_PRE_VOTE", "x")], 1, r#"invalid value "x" for ETCD_PRE_VOTE"#),
        (&["--name=a"], &[("ETCD_NAME", "a")], 1, "conflicting environment variable"),
        (&["--config-file=/nowhere"], &[], 1, "config file /nowhere"),
        (&["--log-outputs=/nowhere/k.log"], &[], 1, "--log-outputs"),
        (&[], &[("KEEPSTONE_LOG", "a=b=c")], 1, "KEEPSTONE_LOG"),
        (&["gateway", "start"], &[], 1, "is not in keepstone"),
    ] {
        let out = keepstone(args, env);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?} {env:?}: {said}");
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with("keepstone: ") && first.contains(part), "{args:?}: {said}");
        assert_eq!(said.lines().count(), if code == 2 { 2 } else { 1 }, "{said}");
        assert!(out.stdout.is_empty());
    }
}
