//! A real member for tests: `KEEPSTONE_BIN`, or the program that was built beside them.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keepstone_operator::members::{Dialer, Member};

/// A debug build on a busy machine stays below.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("KEEPSTONE_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().expect("a path");
    let mut found = this.ancestors().skip(1).take(2).map(|dir| dir.join("keepstone")).filter(|path| path.is_file());
    found.next().expect("no keepstone program: run `cargo build -p keepstone`, or name one in KEEPSTONE_BIN")
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// A member that is killed when this is dropped.
pub struct Server {
    child: Child,
    pub dir: tempfile::TempDir,
    pub client: String,
    pub peer: String,
    pub metrics: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// A cluster of its own.
    pub fn start(dir: tempfile::TempDir, scheme: &str, args: &[String]) -> Self {
        Self::run(dir, scheme, true, args)
    }

    /// One that founds nothing by itself.
    #[allow(dead_code, reason = "not every test needs one")]
    pub fn joining(dir: tempfile::TempDir, args: &[String]) -> Self {
        Self::run(dir, "http", false, args)
    }

    fn run(dir: tempfile::TempDir, scheme: &str, founds: bool, args: &[String]) -> Self {
        let url = |scheme: &str| format!("{scheme}://127.0.0.1:{}", free_port());
        let (client, peer, metrics) = (url(scheme), url(scheme), url("http"));
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(binary())
            .arg("--name=m")
            .args(founds.then(|| format!("--initial-cluster=m={peer}")))
            .arg(format!("--data-dir={}", dir.path().join("data").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .arg(format!("--listen-metrics-urls={metrics}"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the member starts");
        Self { child, dir, client, peer, metrics }
    }

    /// Waits until its log has these words.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn says(&mut self, words: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            if log.contains(words) {
                return;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < until, "{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it leads.
    pub async fn ready(&mut self, dialer: &Dialer) -> Member {
        let mut member = Member::new(&self.client, dialer).expect("a URL");
        let until = Instant::now() + PATIENCE;
        loop {
            match member.status().await {
                Ok(status) if status.leader.is_some() => return member,
                said => {
                    let ended = self.child.try_wait().expect("a child");
                    let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                    assert!(ended.is_none() && Instant::now() < until, "{said:?}\n{}", log());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
