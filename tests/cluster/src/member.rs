//! A member as a process: started, waited for, killed and stopped by its own ID. It never outlives its starter.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::client::Client;

/// The longest a member may take to serve, or to stop. A debug build on a busy machine stays far below.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Lines of a member's output that an error quotes.
const LAST_WORDS: usize = 3;

/// The member's program: `KEEPSTONE_BIN`, or `keepstone` beside this program.
///
/// # Errors
/// When it is not there.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KEEPSTONE_BIN") {
        return Ok(path.into());
    }
    beside("keepstone").context("no keepstone program: run `cargo build -p keepstone`, or name one in KEEPSTONE_BIN")
}

/// The preload library: `KEEPSTONE_PRELOAD`, or the one cargo built with this program.
///
/// # Errors
/// When it is not there.
pub fn preload() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KEEPSTONE_PRELOAD") {
        return Ok(path.into());
    }
    beside("libkeepstone_preload.so")
        .or_else(|_| beside("deps/libkeepstone_preload.so"))
        .context("no preload library: run `cargo build -p keepstone-preload`, or name one in KEEPSTONE_PRELOAD")
}

fn beside(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let mut found = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).filter(|path| path.is_file());
    found.next().with_context(|| format!("{name} is not beside {}", this.display()))
}

/// A port of the loopback that nobody listens on, outside the range that the kernel hands to connecting sockets.
///
/// # Errors
/// When none of many is free.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// How a member is started. Ports stay the same over its restarts.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: String,
    pub data_dir: PathBuf,
    /// The address that it has, and the network namespace (a file) where it has it; none for the starter's own.
    pub address: Ipv4Addr,
    pub network: Option<PathBuf>,
    /// How it finds its cluster; empty where it founds one alone.
    pub cluster: Vec<String>,
    pub client_port: u16,
    pub peer_port: u16,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Where its output goes; appended to.
    pub log: PathBuf,
    /// Runs as this user, without any privilege, where one is named.
    pub uid: Option<u32>,
    /// Another program than [`binary`].
    pub program: Option<PathBuf>,
}

impl Setup {
    /// A member in `data_dir`, which need not be there, with its output in `log`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(data_dir: &Path, log: &Path) -> Result<Self> {
        let (client_port, peer_port) = (free_port()?, free_port()?);
        Ok(Self::at(Ipv4Addr::LOCALHOST, client_port, peer_port, data_dir, log))
    }

    /// A member that listens where it is told.
    pub fn at(address: Ipv4Addr, client_port: u16, peer_port: u16, data_dir: &Path, log: &Path) -> Self {
        Self {
            name: "m".to_owned(),
            data_dir: data_dir.to_owned(),
            address,
            network: None,
            cluster: Vec::new(),
            client_port,
            peer_port,
            args: Vec::new(),
            env: Vec::new(),
            log: log.to_owned(),
            uid: None,
            program: None,
        }
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.client_port)
    }

    /// Where other members reach it.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.address, self.peer_port)
    }

    fn command(&self) -> Result<Command> {
        let peer = self.peer_url();
        let client = self.url();
        let mut command = Command::new(self.program.clone().map_or_else(binary, Ok)?);
        command.args(["--name", &self.name, "--data-dir"]).arg(&self.data_dir);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        if self.cluster.is_empty() {
            command.args(["--initial-cluster", &format!("{}={peer}", self.name)]);
        }
        command.args(&self.cluster).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let log = File::options().create(true).append(true).open(&self.log)?;
        // A member that refuses says so in a line, and failures here quote it.
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(uid) = self.uid {
            std::os::unix::process::CommandExt::uid(&mut command, uid);
        }
        if let Some(network) = &self.network {
            enter(&mut command, File::open(network)?);
        }
        die_with_us(&mut command);
        Ok(command)
    }
}

/// A member whose starter was killed is killed too.
#[allow(unsafe_code)]
fn die_with_us(command: &mut Command) {
    // SAFETY: prctl may be called between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

/// Starts it in another network namespace.
#[allow(unsafe_code)]
fn enter(command: &mut Command, network: File) {
    // SAFETY: setns may be called between fork and exec, and the file is open until then.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, move || {
            match libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// A started member. Dropping it kills it.
pub struct Member {
    pub setup: Setup,
    child: Child,
    /// Bytes that its log had when it started.
    log_before: u64,
    ended: Option<ExitStatus>,
}

impl Member {
    /// Starts the process and returns at once.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(setup: &Setup) -> Result<Self> {
        let log_before = std::fs::metadata(&setup.log).map_or(0, |found| found.len());
        let child = setup.command()?.spawn().context("starting keepstone")?;
        Ok(Self { setup: setup.clone(), child, log_before, ended: None })
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// When it ends, or does not serve in [`PATIENCE`].
    pub async fn start(setup: &Setup) -> Result<(Self, Client)> {
        let mut member = Self::spawn(setup)?;
        let client = member.ready().await?;
        Ok((member, client))
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it ends, or does not serve in [`PATIENCE`].
    pub async fn ready(&mut self) -> Result<Client> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.poll()? {
                bail!("the member did not come up: {status}; it said:\n{}", self.last_words());
            }
            if let Ok(mut client) = Client::connect(&self.setup.url()).await
                && client.status().await.is_ok()
            {
                return Ok(client);
            }
            if Instant::now() > deadline {
                bail!("the member does not serve after {PATIENCE:?}; it said:\n{}", self.last_words());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// When the system can't tell.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.poll()?.is_none())
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.poll()?.is_none() {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it has not in [`PATIENCE`].
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the member still runs after {PATIENCE:?}; it said:\n{}", self.last_words());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGTERM, and waits; the member must say that all went well.
    ///
    /// # Errors
    /// When it does not stop, or not with success.
    pub async fn stop(&mut self) -> Result<()> {
        self.terminate()?;
        let status = self.ended().await?;
        if !status.success() {
            bail!("SIGTERM ended the member with {status}; it said:\n{}", self.last_words());
        }
        Ok(())
    }

    /// SIGTERM; see [`Self::stop`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// SIGSTOP, or SIGCONT.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&mut self, paused: bool) -> Result<()> {
        self.signal(if paused { libc::SIGSTOP } else { libc::SIGCONT })
    }

    #[allow(unsafe_code)]
    fn signal(&mut self, number: libc::c_int) -> Result<()> {
        if self.poll()?.is_none() {
            // SAFETY: the process is our child and has not been waited for, so that its ID is its own.
            let done = unsafe { libc::kill(self.child.id() as i32, number) };
            if done != 0 {
                return Err(std::io::Error::last_os_error()).with_context(|| format!("signal {number}"));
            }
        }
        Ok(())
    }

    /// What it printed since it was started.
    pub fn said(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.setup.log)
            && file.seek(std::io::SeekFrom::Start(self.log_before)).is_ok()
        {
            drop(file.read_to_end(&mut text));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of what it said.
    pub fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.kill());
    }
}
