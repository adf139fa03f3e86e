//! A network for members, of which every direction of every pair can be cut: a namespace for each member, and this process
//! as the router between them. Clients live in this process and reach all members on wires of their own.
//!
//! Nothing of it is to be taken away afterwards: namespaces, wires and mounts are this process's own and end with it,
//! however it ends.

use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Where `ip` keeps the namespaces that have names.
const NAMES: &str = "/run/netns";

/// Gives this process a network and mounts of its own; without privilege also a user namespace. To be called before
/// there are threads.
///
/// # Errors
/// When the system does not allow it.
#[allow(unsafe_code)]
pub fn leave_the_world() -> Result<()> {
    // SAFETY: these calls have no memory to break.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let own = libc::CLONE_NEWNET | libc::CLONE_NEWNS | if uid == 0 { 0 } else { libc::CLONE_NEWUSER };
    // SAFETY: as above.
    let done = unsafe { libc::unshare(own) };
    let refused = || std::io::Error::last_os_error();
    ensure!(done == 0, "no network of its own for this process (run it as root): {}", refused());
    if uid != 0 {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE, c"").context("mounts of its own")?;
    mount(c"none", c"/run", Some(c"tmpfs"), 0, c"mode=755").context("a /run of its own")?;
    std::fs::create_dir(NAMES)?;
    Ok(())
}

#[allow(unsafe_code)]
fn mount(what: &CStr, at: &CStr, kind: Option<&CStr>, flags: libc::c_ulong, data: &CStr) -> Result<()> {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: all pointers are to C strings that live through the call.
    let done = unsafe { libc::mount(what.as_ptr(), at.as_ptr(), kind, flags, data.as_ptr().cast()) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}

/// A disk in memory, whose size can be changed while it is used. Gone with this process.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// # Errors
    /// When it can't be mounted.
    pub fn new(at: &Path, mebibytes: u32) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let disk = Self { at: at.to_owned() };
        disk.mount(0, &format!("size={mebibytes}m"))?;
        Ok(disk)
    }

    /// Takes all free room away.
    ///
    /// # Errors
    /// When it grows at the same time; ask again.
    pub fn fill(&self) -> Result<()> {
        let at = c_string(&self.at)?;
        let used = used_kibibytes(&at)?;
        self.mount(libc::MS_REMOUNT, &format!("size={used}k"))
    }

    /// Gives it as much room as before, or more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_room(&self, mebibytes: u32) -> Result<()> {
        self.mount(libc::MS_REMOUNT, &format!("size={mebibytes}m"))
    }

    fn mount(&self, flags: libc::c_ulong, options: &str) -> Result<()> {
        let (at, options) = (c_string(&self.at)?, std::ffi::CString::new(options)?);
        mount(c"none", &at, Some(c"tmpfs"), flags, &options).with_context(|| format!("mount {}", self.at.display()))
    }
}

impl Drop for Disk {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if let Ok(at) = c_string(&self.at) {
            // SAFETY: the pointer is to a C string that lives through the call.
            unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

fn c_string(path: &Path) -> Result<std::ffi::CString> {
    Ok(std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?)
}

#[allow(unsafe_code)]
fn used_kibibytes(at: &CStr) -> Result<u64> {
    // SAFETY: all zeros is a valid statvfs, which the call fills.
    let found = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        ensure!(libc::statvfs(at.as_ptr(), &raw mut found) == 0, "statvfs: {}", std::io::Error::last_os_error());
        found
    };
    Ok((found.f_blocks - found.f_bfree) * found.f_frsize / 1024)
}

/// The wires between so many members. Dropping it takes them away.
#[derive(Debug)]
pub struct Network {
    members: usize,
}

impl Network {
    /// # Errors
    /// When there is no `ip`, or [`leave_the_world`] was not called.
    pub fn new(members: usize) -> Result<Self> {
        ip("link set lo up")?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("routing")?;
        let network = Self { members };
        for n in 0..members {
            ip(&format!("netns add m{n}"))?;
            ip(&format!("link add w{n} type veth peer name eth0 netns m{n}"))?;
            ip(&format!("addr add {}/24 dev w{n}", router(n)))?;
            ip(&format!("link set w{n} up"))?;
            ip(&format!("-n m{n} link set lo up"))?;
            ip(&format!("-n m{n} addr add {}/24 dev eth0", address(n)))?;
            ip(&format!("-n m{n} link set eth0 up"))?;
            ip(&format!("-n m{n} route add default via {}", router(n)))?;
        }
        Ok(network)
    }

    /// The namespace of a member.
    pub fn of(&self, member: usize) -> PathBuf {
        Path::new(NAMES).join(format!("m{member}"))
    }

    /// From now on nothing comes through from one member to another, and nobody is told.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        ip(&format!("rule add blackhole iif w{from} to {} pref {}", address(to), self.rule(from, to)))
    }

    /// # Errors
    /// When it was not cut.
    pub fn heal(&self, from: usize, to: usize) -> Result<()> {
        ip(&format!("rule del pref {}", self.rule(from, to)))
    }

    fn rule(&self, from: usize, to: usize) -> usize {
        100 + from * self.members + to
    }

    /// Pulls a member's wire, or puts it back: neither members nor clients reach it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn wire(&self, member: usize, up: bool) -> Result<()> {
        ip(&format!("link set w{member} {}", if up { "up" } else { "down" }))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for n in 0..self.members {
            drop(ip(&format!("link del w{n}")));
            drop(ip(&format!("netns del m{n}")));
        }
        drop(ip("rule flush"));
        for (number, table) in [(32766, "main"), (32767, "default")] {
            drop(ip(&format!("rule add pref {number} lookup {table}")));
        }
    }
}

/// A member's address.
pub fn address(member: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(member).unwrap_or(u8::MAX), 2)
}

fn router(member: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(member).unwrap_or(u8::MAX), 1)
}

fn ip(args: &str) -> Result<()> {
    let out = Command::new("ip").args(args.split(' ')).output().context("ip (iproute2)")?;
    ensure!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(())
}
