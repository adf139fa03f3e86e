//! How long no write is accepted when the leader is killed: keepstone and etcd side by side, with the same flags, turn by
//! turn.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepstone_proto::etcdserverpb::MemberListRequest;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::member::{Member, PATIENCE, Setup};

const MEMBERS: usize = 3;
const FLAGS: [&str; 4] = ["--heartbeat-interval", "100", "--election-timeout", "1000"];
/// Time between two tries of a write at each of the members that are left.
const TRY_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What keepstone's p99 may be at most, in etcd's.
const BAR: f64 = 1.2;

struct Cluster {
    name: &'static str,
    members: Vec<Option<Member>>,
    setups: Vec<Setup>,
    took: Vec<Duration>,
}

impl Cluster {
    async fn found(name: &'static str, program: Option<PathBuf>, dir: &Path) -> Result<Self> {
        let mut setups = Vec::new();
        for n in 0..MEMBERS {
            let mut setup = Setup::new(&dir.join(format!("{name}{n}")), &dir.join(format!("{name}{n}.log")))?;
            (setup.name, setup.program) = (format!("m{n}"), program.clone());
            setup.args = FLAGS.map(str::to_owned).to_vec();
            setups.push(setup);
        }
        let all: Vec<String> = setups.iter().map(|setup| format!("{}={}", setup.name, setup.peer_url())).collect();
        let mut members = Vec::new();
        for setup in &mut setups {
            setup.cluster = vec!["--initial-cluster".to_owned(), all.join(",")];
            members.push(Some(Member::spawn(setup)?));
        }
        let cluster = Self { name, members, setups, took: Vec::new() };
        cluster.settled().await?;
        Ok(cluster)
    }

    /// Waits until all members know the same leader and answer with what it knows; says who it is.
    async fn settled(&self) -> Result<usize> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok(Some(leader)) = self.agreed().await {
                return Ok(leader);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::bail!("{} does not settle", self.name)
    }

    async fn agreed(&self) -> Result<Option<usize>> {
        let mut named = Vec::new();
        let mut ids = Vec::new();
        for setup in &self.setups {
            let mut client = Client::connect(&setup.url()).await?;
            client.cluster.member_list(MemberListRequest { linearizable: true }).await?;
            let status = client.status().await?;
            named.push(status.leader);
            ids.push(status.header.map_or(0, |header| header.member_id));
        }
        let leader = ids.iter().position(|id| *id == named[0]);
        Ok(leader.filter(|_| named.iter().all(|one| *one == named[0])))
    }

    /// Kills the leader, takes the time until a write is accepted, and brings the member back.
    async fn lose_leader(&mut self, n: u32) -> Result<()> {
        let leader = self.settled().await?;
        let mut left = Vec::new();
        for (at, setup) in self.setups.iter().enumerate().filter(|(at, _)| *at != leader) {
            left.push((at, Client::connect(&setup.url()).await?));
        }
        let mut member = self.members[leader].take().context("the leader runs")?;
        let began = Instant::now();
        member.kill()?;
        next_write(&left, n).await.with_context(|| format!("{} after {n} kills", self.name))?;
        self.took.push(began.elapsed());
        self.members[leader] = Some(Member::spawn(&self.setups[leader])?);
        Ok(())
    }
}

/// Returns once a member has acknowledged a write that was asked for from now on.
async fn next_write(left: &[(usize, Client)], n: u32) -> Result<()> {
    let mut tries = JoinSet::new();
    let mut ticks = tokio::time::interval(TRY_EVERY);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        tokio::select! {
            _ = ticks.tick() => {
                for (at, client) in left {
                    let (mut client, key) = (client.clone(), format!("from {at}"));
                    tries.spawn(async move { client.put(&key, format!("{n}")).await });
                }
            }
            Some(answer) = tries.join_next() => {
                if answer?.is_ok() {
                    return Ok(());
                }
            }
        }
    }
    anyhow::bail!("no write is accepted for {PATIENCE:?}")
}

fn at_rank(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1]
}

/// Kills `count` leaders of each; answers the table.
///
/// # Errors
/// When a cluster does not come back, or keepstone is beyond the bar.
pub async fn run(count: u32, etcd: &Path) -> Result<String> {
    ensure!(count > 0, "no kills, no times");
    let dir = tempfile::Builder::new().prefix("keepstone-failover-").tempdir()?;
    let ours = Cluster::found("keepstone", None, dir.path()).await?;
    let theirs = Cluster::found("etcd", Some(etcd.to_owned()), dir.path()).await?;
    let mut both = [ours, theirs];
    for n in 0..count {
        for cluster in &mut both {
            cluster.lose_leader(n).await?;
        }
    }
    let mut table = format!("failover: from SIGKILL of the leader to the next accepted write, {count} times each\n");
    writeln!(table, "{:<10} {:>9} {:>9} {:>9} {:>9}", "", "least", "p50", "p99", "most")?;
    let mut p99 = Vec::new();
    for cluster in &mut both {
        cluster.took.sort_unstable();
        let took = &cluster.took;
        let ranks = [took[0], at_rank(took, 50), at_rank(took, 99), took[took.len() - 1]];
        let shown = ranks.map(|time| format!("{:>6} ms", time.as_millis()));
        writeln!(table, "{:<10} {}", cluster.name, shown.join(" "))?;
        p99.push(at_rank(took, 99).as_secs_f64());
    }
    let ratio = p99[0] / p99[1];
    write!(table, "keepstone's p99 is {ratio:.2} times etcd's (at most {BAR})")?;
    ensure!(ratio <= BAR, "{table}");
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let all: Vec<Duration> = (1..=50).map(Duration::from_millis).collect();
        assert_eq!(at_rank(&all, 50).as_millis(), 25);
        assert_eq!(at_rank(&all, 99).as_millis(), 50);
        assert_eq!(at_rank(&all[..1], 99).as_millis(), 1);
    }
}
