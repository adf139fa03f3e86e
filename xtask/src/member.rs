//! A member as a process, for a part that needs one for a moment.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::http;

/// The longest a member may take to serve. A debug build on a busy machine stays far below.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A started member. Dropping it kills it.
pub struct Member {
    child: Child,
    log: PathBuf,
}

impl Member {
    /// Starts `command`, with its output in `log`, and waits until `/health` of `client` is good.
    ///
    /// # Errors
    /// When it ends, or does not serve in time; with its log.
    pub fn start(mut command: Command, client: SocketAddr, log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().context("the member does not start")?;
        let mut member = Self { child, log: log.to_owned() };
        let end = Instant::now() + PATIENCE;
        while !http::is_good(client, "/health") {
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

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
