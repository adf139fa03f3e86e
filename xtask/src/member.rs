//! A member as a process, for the parts that need one for a moment. It never outlives its starter's interest.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The longest a member may take to serve. A debug build on a busy machine stays far below.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A started member. Dropping it kills it.
pub struct Member {
    child: Child,
    client: SocketAddr,
    log: PathBuf,
}

impl Member {
    /// A cluster of one on free ports of the loopback, serving.
    ///
    /// # Errors
    /// When it does not serve in time; with its log.
    pub fn start(binary: &Path, data: &Path) -> Result<Self> {
        let (client, peer) = (free_address()?, free_address()?);
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new(binary);
        command.args(["--name", "m", "--data-dir"]).arg(data);
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("m={peer_url}")]);
        Self::serving(command, client, &data.with_extension("log"))
    }

    /// Starts `command`, with its output in `log`, and waits until `/health` of `client` is good.
    ///
    /// # Errors
    /// When it ends, or does not serve in time; with its log.
    pub fn serving(mut command: Command, client: SocketAddr, log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().context("the member does not start")?;
        let mut member = Self { child, client, log: log.to_owned() };
        let end = Instant::now() + PATIENCE;
        while !healthy(client) {
            if let Some(status) = member.child.try_wait()? {
                bail!("the member ended ({status}):\n{}", member.said());
            }
            if Instant::now() >= end {
                bail!("the member does not serve:\n{}", member.said());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(member)
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.client)
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it is not gone by `deadline`, or ended badly.
    pub fn stop(mut self, deadline: Instant) -> Result<()> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                bail!("the member does not stop:\n{}", self.said());
            }
            std::thread::sleep(LOOK_EVERY);
        };
        if !ended_well(status) {
            bail!("the member stopped with {status}:\n{}", self.said());
        }
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A member that was asked to stop ends by the signal, as etcd does, or with 0.
fn ended_well(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.success() || status.signal() == Some(libc::SIGTERM)
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn healthy(client: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&client, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
