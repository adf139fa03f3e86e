//! `cargo xtask cluster`: a few members on this machine, for a person at a desk. It says where they are and who leads,
//! for as long as it runs, and stops them one after the other. Their data stays where it is, for the next time.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::place::Place;
use crate::{build, http, run};

/// The longest a build may take.
const BUILD: Duration = Duration::from_secs(60 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a member has to stop before it is killed; longer than it gives itself.
const STOP: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub struct Args {
    /// How many members, 1 to 9.
    #[arg(long, default_value_t = 3)]
    members: u16,
    /// Where their data and logs are [default: target/cluster].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Begin with an empty cluster: what is in the directory is deleted.
    #[arg(long)]
    fresh: bool,
    /// The server to start, instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Flags for every member.
    #[arg(last = true)]
    flags: Vec<String>,
}

/// Runs until Ctrl-C, SIGTERM, or the last member's end. Whether all of them stopped as they should.
///
/// # Errors
/// When there is no server, or it can't be started.
pub fn run(place: &Place, args: &Args) -> Result<bool> {
    ensure!((1..=9).contains(&args.members), "1 to 9 members");
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => {
            // The very build of the README's `cargo run`.
            let mut command = build::cargo(place);
            run::to_end(command.args(["build", "--release", "-p", "keepstone"]), Instant::now() + BUILD)?;
            place.optimized("keepstone")
        }
    };
    let dir = args.dir.clone().unwrap_or_else(|| place.cluster());
    if args.fresh && dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    listen_for_signals();
    let mut cluster = Cluster::start(&binary, &dir, args)?;
    cluster.introduce();
    cluster.follow();
    Ok(cluster.stop())
}

struct Member {
    name: String,
    client: u16,
    peer: u16,
    log: PathBuf,
    process: Child,
    ended: bool,
    leads: bool,
}

struct Cluster {
    members: Vec<Member>,
}

/// The ports of the n-th member, as in etcd's own examples: 2379 and 2380, 12379 and 12380, …
fn ports(n: u16) -> (u16, u16) {
    (2379 + n % 7 * 10_000 + n / 7 * 100, 2380 + n % 7 * 10_000 + n / 7 * 100)
}

impl Cluster {
    fn start(binary: &Path, dir: &Path, args: &Args) -> Result<Self> {
        let names: Vec<(String, u16, u16)> = (0..args.members)
            .map(|n| {
                let (client, peer) = ports(n);
                (format!("m{}", n + 1), client, peer)
            })
            .collect();
        for (name, client, peer) in &names {
            for port in [client, peer] {
                std::net::TcpListener::bind(("127.0.0.1", *port))
                    .with_context(|| format!("port {port}, which {name} needs, is taken"))?;
            }
        }
        let peers: Vec<String> =
            names.iter().map(|(name, _, peer)| format!("{name}=http://127.0.0.1:{peer}")).collect();
        let mut cluster = Self { members: Vec::new() };
        for (name, client, peer) in names {
            let log = dir.join(format!("{name}.log"));
            let mut command = Command::new(binary);
            let (here, there) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            command.args(["--name", &name, "--data-dir"]).arg(dir.join(&name));
            command.args(["--listen-client-urls", &here, "--advertise-client-urls", &here]);
            command.args(["--listen-peer-urls", &there, "--initial-advertise-peer-urls", &there]);
            command.args(["--initial-cluster", &peers.join(",")]).args(&args.flags);
            let out = File::options().create(true).append(true).open(&log)?;
            command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
            on_its_own(&mut command);
            let process = command.spawn().with_context(|| format!("{} does not start", binary.display()))?;
            cluster.members.push(Member { name, client, peer, log, process, ended: false, leads: false });
        }
        Ok(cluster)
    }

    fn introduce(&self) {
        println!("{:<5} {:<8} {:<24} {:<24} log", "name", "process", "for clients", "for peers");
        for member in &self.members {
            let (here, there) = (member.url(), format!("http://127.0.0.1:{}", member.peer));
            println!("{:<5} {:<8} {here:<24} {there:<24} {}", member.name, member.process.id(), member.log.display());
        }
        let all: Vec<String> = self.members.iter().map(Member::url).collect();
        println!("\nexport ETCDCTL_ENDPOINTS={}\nCtrl-C stops them.\n", all.join(","));
    }

    /// Says who leads whenever that changes, until it is to end or nobody is left.
    fn follow(&mut self) {
        let mut said = String::new();
        while !STOPPED.load(Ordering::Relaxed) && self.members.iter().any(|member| !member.ended) {
            let roles = self.members.iter_mut().map(|member| {
                let role = member.role();
                format!("{}: {role}", member.name)
            });
            let now = roles.collect::<Vec<_>>().join(", ");
            if now != said {
                println!("{now}");
                said = now;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// The followers first, so that nobody has to lead those that are about to go.
    fn stop(&mut self) -> bool {
        self.members.sort_by_key(|member| member.leads);
        let stopped: Vec<bool> = self.members.iter_mut().map(Member::stop).collect();
        stopped.into_iter().all(|well| well)
    }
}

impl Member {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    fn role(&mut self) -> &'static str {
        self.leads = false;
        if !self.ended
            && let Ok(Some(status)) = self.process.try_wait()
        {
            self.ended = true;
            println!("{} ended: {status}; {}", self.name, self.last_line());
        }
        if self.ended {
            return "ended";
        }
        match status(self.client) {
            Err(_) => "does not answer",
            Ok(status) if status.learner => "learner",
            Ok(status) if status.leader == "0" => "knows no leader",
            Ok(status) => {
                self.leads = status.leader == status.member;
                if self.leads { "LEADER" } else { "follower" }
            }
        }
    }

    /// Whether it stopped well, now or before.
    fn stop(&mut self) -> bool {
        if self.ended {
            return false;
        }
        println!("stopping {}{}", self.name, if self.leads { ", the leader" } else { "" });
        signal(&self.process, libc::SIGTERM);
        let end = Instant::now() + STOP;
        while Instant::now() < end {
            match self.process.try_wait() {
                Ok(Some(status)) => return status.success(),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        println!("{} does not stop and is killed", self.name);
        false
    }

    fn last_line(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            drop(self.process.kill());
            drop(self.process.wait());
        }
    }
}

struct Status {
    member: String,
    leader: String,
    learner: bool,
}

/// What a member says of itself, over the JSON gateway.
fn status(port: u16) -> Result<Status> {
    let answer = http::post((std::net::Ipv4Addr::LOCALHOST, port).into(), "/v3/maintenance/status", "{}")?;
    if !answer.starts_with('{') {
        bail!("no status: {answer}");
    }
    let field = |name: &str| text_of(&answer, name).unwrap_or_else(|| "0".to_owned());
    Ok(Status {
        member: field("member_id"),
        leader: field("leader"),
        learner: answer.contains("\"isLearner\":true") || answer.contains("\"is_learner\":true"),
    })
}

/// The text of a field in JSON. Enough for an ID, which holds nothing but digits.
fn text_of(json: &str, field: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{field}\":"))?;
    let digits = rest.trim_start().trim_start_matches('"');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    (end > 0).then(|| digits[..end].to_owned())
}

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

#[allow(unsafe_code)]
fn listen_for_signals() {
    let handler: extern "C" fn(libc::c_int) = stop;
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does nothing but set an atomic.
        unsafe { libc::signal(number, handler as libc::sighandler_t) };
    }
}

/// The terminal's Ctrl-C is for us: members are stopped in order. They do not outlive us either.
#[allow(unsafe_code)]
fn on_its_own(command: &mut Command) {
    command.process_group(0);
    // SAFETY: prctl may be called between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[allow(unsafe_code)]
fn signal(process: &Child, number: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(process.id()) {
        // SAFETY: it is our child and was not waited for, so that its ID is its own.
        unsafe { libc::kill(pid, number) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ids_as_text_and_as_numbers() {
        let json = r#"{"header":{"member_id":"123", "revision":"1"}, "leader": 45}"#;
        assert_eq!(text_of(json, "member_id").as_deref(), Some("123"));
        assert_eq!(text_of(json, "leader").as_deref(), Some("45"));
        assert_eq!(text_of(json, "raft_term"), None);
    }

    #[test]
    fn no_two_members_share_a_port() {
        let mut all: Vec<u16> = (0..9).flat_map(|n| [ports(n).0, ports(n).1]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 18);
    }
}
