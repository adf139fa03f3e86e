//! The static binary alone: with the kernel's randomness and a name server, but no other program, library or file, it
//! must start, serve, and find members by name.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::member::Member;
use crate::part::Job;
use crate::{dist, responder, run};

const KNOWN: &str = "member.keepstone.test";
const UNKNOWN: &str = "stranger.keepstone.test";
const CLIENT_PORT: u16 = 2379;
const PATIENCE: Duration = Duration::from_secs(60);

/// # Errors
/// When the binary is not static, or needs more than itself.
pub fn test(job: &Job) -> Result<()> {
    let binary = dist::copy(job.place)?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    // Made out here, because what is mounted in there can't be removed in there.
    let dir = tempfile::tempdir()?;
    // This very program, though a build of the workspace may have put another in its place.
    command.arg(format!("/proc/{}/exe", std::process::id())).arg("isolated").arg(binary).arg(dir.path());
    run::to_end(&mut command, job.deadline)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The test itself, in a network of its own.
///
/// # Errors
/// When something is not as it must be.
pub fn inside(binary: &Path, dir: &Path) -> Result<()> {
    loopback_up().context("the loopback")?;
    responder::start(Ipv4Addr::LOCALHOST, &[KNOWN, "localhost"])?;
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("etc"))?;
    std::fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n")?;
    std::fs::copy(binary, root.join("keepstone"))?;
    // Every container has these two, and a static program may read them instead of asking the kernel.
    std::fs::create_dir(root.join("dev"))?;
    for device in ["dev/random", "dev/urandom"] {
        let here = root.join(device);
        std::fs::write(&here, "")?;
        // Seen in here only, and gone with this process.
        let mut mount = Command::new("mount");
        run::to_end(mount.arg("--bind").arg(Path::new("/").join(device)).arg(here), Instant::now() + PATIENCE)?;
    }

    // A founder's --initial-cluster must lead to its advertised address, so the names in it are looked up.
    let refused = founder(&root, UNKNOWN).output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success(), "started although {UNKNOWN} does not exist");
    ensure!(said.contains("initial-advertise-peer-urls"), "refused, but not for the name:\n{said}");

    let client = (Ipv4Addr::LOCALHOST, CLIENT_PORT).into();
    let _serving = Member::start(founder(&root, KNOWN), client, &dir.join("log"))?;
    println!("serves from nothing but itself, and found {KNOWN} and localhost");
    Ok(())
}

fn founder(root: &Path, name: &str) -> Command {
    let mut command = Command::new("chroot");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg(root).arg("/keepstone");
    command.args(["--name", "m", "--data-dir", "/data", "--initial-cluster", &format!("m=http://{name}:2380")]);
    command.args(["--initial-advertise-peer-urls", "http://127.0.0.1:2380"]);
    let client = format!("http://localhost:{CLIENT_PORT}");
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--listen-client-urls", &client]);
    command.args(["--advertise-client-urls", &client]);
    command
}

/// A new network has a loopback that is down. `ip` is not everywhere, so the kernel is asked directly.
#[allow(unsafe_code)]
fn loopback_up() -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros is a valid ifreq, and SIOCSIFFLAGS reads no more than one.
    let answer = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
