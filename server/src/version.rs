//! Which version this is, to people and to tools that know etcd.

use std::fmt::Write;

/// Keepstone's own version.
pub const KEEPSTONE: &str = env!("CARGO_PKG_VERSION");
/// The etcd whose behaviour this is; what `/version` and Maintenance.Status answer.
pub const ETCD: &str = "3.6.16";
/// The cluster version that belongs to it.
pub const ETCD_CLUSTER: &str = "3.6.0";
/// The storage version that belongs to it.
pub const ETCD_STORAGE: &str = "3.6.0";

/// What `--version` prints. `program` is how the binary was called: tools that run `etcd --version` read the first
/// line, people who run `keepstone --version` want Keepstone there.
#[must_use]
pub fn text(program: &str) -> String {
    let keepstone = format!("keepstone Version: {KEEPSTONE}\n");
    let etcd = format!("etcd Version: {ETCD}\n");
    let called_etcd = std::path::Path::new(program).file_stem().is_some_and(|name| name == "etcd");
    let mut out = if called_etcd { etcd + &keepstone } else { keepstone + &etcd };
    let _ = writeln!(out, "Git SHA: {}", git_sha());
    let _ = writeln!(out, "Go Version: none, written in Rust");
    let _ = writeln!(out, "Go OS/Arch: {}/{}", std::env::consts::OS, go_arch());
    out
}

/// The commit this was built from, where the build said it (`KEEPSTONE_GIT_SHA`).
#[must_use]
pub fn git_sha() -> &'static str {
    option_env!("KEEPSTONE_GIT_SHA").unwrap_or("Not provided")
}

/// The machine, in Go's words.
#[must_use]
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_follows_the_name() {
        for (program, first) in [
            ("keepstone", "keepstone Version: 0.1.0"),
            ("/usr/bin/keepstone", "keepstone Version: 0.1.0"),
            ("etcd", "etcd Version: 3.6.16"),
            ("/bin-dir/etcd", "etcd Version: 3.6.16"),
        ] {
            let text = text(program);
            assert_eq!(text.lines().next(), Some(first), "{program}");
            assert!(text.contains("\netcd Version: 3.6.16\n") || text.starts_with("etcd Version: 3.6.16\n"));
        }
    }
}
