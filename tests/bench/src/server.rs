//! A server under test as a child process: fresh ports, a data directory of its own, pinned if asked. Dropping it ends the
//! process by its id and removes the directory.

use crate::report::Target;
use crate::{interrupt, procfs, scenario};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READY: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);
const QUOTA: u64 = 32 << 30;

/// Which program, and how it is started.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
    pub extra: Vec<String>,
    /// Core of the server; the client goes to another one.
    pub core: Option<usize>,
    pub root: PathBuf,
}

pub struct Server {
    program: Program,
    dir: PathBuf,
    child: Child,
    client: SocketAddr,
    peer: SocketAddr,
}

impl Server {
    /// Starts the program on an empty directory and waits until it answers a linearizable read.
    pub fn start(program: &Program) -> Result<Self> {
        static SERIAL: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = program.root.join(format!("{}-{}-{serial}", program.name, std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let (client, peer) = free_ports()?;
        let child = launch(program, &dir, client, peer).inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        let mut server = Self { program: program.clone(), dir, child, client, peer };
        server.wait_ready()?;
        Ok(server)
    }

    pub fn target(&self) -> Target {
        Target { addr: self.client, pid: Some(self.child.id()) }
    }

    pub fn memory(&self) -> Result<procfs::Memory> {
        procfs::memory(self.child.id())
    }

    /// Octets of the files in the data directory, as the disk counts them.
    pub fn disk(&self) -> u64 {
        disk_usage(&self.dir)
    }

    /// SIGKILL and start again on the same directory. Returns how long it took from the start to the first answer.
    pub fn crash_and_restart(&mut self) -> Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let begin = Instant::now();
        self.child = launch(&self.program, &self.dir, self.client, self.peer)?;
        self.wait_ready()?;
        Ok(begin.elapsed())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.program.name, self.log_tail());
            }
            ensure!(!interrupt::requested(), "interrupted");
            ensure!(Instant::now() < deadline, "{} is not ready: {}", self.program.name, self.log_tail());
            let listening = TcpStream::connect_timeout(&self.client, POLL * 50).is_ok();
            if listening && scenario::count(&self.target(), b"a", b"").is_ok() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    }

    fn stop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32)
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn launch(program: &Program, dir: &Path, client: SocketAddr, peer: SocketAddr) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
    let mut command = Command::new(&program.path);
    command
        .args(["--name", "bench", "--log-level", "warn", "--data-dir"])
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("bench={peer}"), "--quota-backend-bytes", &QUOTA.to_string()])
        .args(&program.extra)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    let Some(core) = program.core else {
        return spawn(&mut command, program);
    };
    // A child inherits the affinity of the thread that starts it, from its first instruction on.
    command.env("GOMAXPROCS", "1");
    let own = sched_getaffinity(None)?;
    pin(core)?;
    let child = spawn(&mut command, program);
    sched_setaffinity(None, &own)?;
    child
}

fn spawn(command: &mut Command, program: &Program) -> Result<Child> {
    command.spawn().with_context(|| format!("start {}", program.path.display()))
}

/// Pins the calling thread, and what it starts, to one core.
pub fn pin(core: usize) -> Result<()> {
    ensure!(core < CpuSet::MAX_CPU, "no core {core}");
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("pin to core {core}"))
}

/// Under sched_autogroup `nice` does nothing across sessions: other people's sessions take their share of the cores whatever
/// the priority. Raising this session's group is the way round it. Returns whether the kernel let us.
pub fn raise_session() -> bool {
    fs::write("/proc/self/autogroup", "-18").is_ok()
}

fn free_ports() -> Result<(SocketAddr, SocketAddr)> {
    let (a, b) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((a.local_addr()?, b.local_addr()?))
}

fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => disk_usage(&e.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_leaves_no_directory() {
        let root = std::env::temp_dir().join(format!("kb-test-{}", std::process::id()));
        let program =
            Program { name: "none".into(), path: root.join("none"), extra: vec![], core: None, root: root.clone() };
        assert!(Server::start(&program).is_err());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        fs::remove_dir(&root).unwrap();
    }

    #[test]
    fn a_program_that_ends_is_an_error_and_leaves_no_directory() {
        let root = std::env::temp_dir().join(format!("kb-test-end-{}", std::process::id()));
        let program =
            Program { name: "true".into(), path: "/bin/true".into(), extra: vec![], core: None, root: root.clone() };
        assert!(Server::start(&program).is_err());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        fs::remove_dir(&root).unwrap();
    }
}
