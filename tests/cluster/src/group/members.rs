//! The members of a cluster, each in a namespace and on a disk of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use keepstone_proto::etcdserverpb::{
    Member as Entry, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest,
    StatusResponse,
};

use super::clients::World;
use super::network::{Disk, Network, address};
use super::ops::Plant;
use crate::client::Client;
use crate::member::{Member, PATIENCE, Setup};

pub const DISK_MEBIBYTES: u32 = 400;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a member that is asked what it is may think.
const ASK: Duration = Duration::from_millis(500);
/// What a leader says before it changes who votes, and how long it waits at most before it tries again.
const CHANGING: &str = "changing Raft's membership";
const STEP: Duration = Duration::from_secs(1);
/// How long one try of a change of members may take.
const CHANGE: Duration = Duration::from_secs(8);

struct Seat {
    setup: Setup,
    disk: Disk,
    member: Option<Member>,
    /// Its process may end by itself just now.
    may_end: bool,
}

/// All of them. A member that was replaced has its predecessor's seat.
pub struct Group {
    seats: Vec<Seat>,
    pub network: Network,
    pub world: Arc<World>,
}

impl Group {
    /// Founds a cluster in `dir`, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn found(dir: &Path, members: usize, flags: &[String], plant: Option<Plant>) -> Result<Self> {
        let network = Network::new(members)?;
        let mut seats = Vec::new();
        for n in 0..members {
            let home = dir.join(format!("m{n}"));
            let disk = Disk::new(&home, DISK_MEBIBYTES)?;
            let mut setup = Setup::at(address(n), 2379, 2380, &home.join("data"), &dir.join(format!("m{n}.log")));
            (setup.name, setup.network) = (format!("m{n}"), Some(network.of(n)));
            setup.args = flags.to_vec();
            seats.push(Seat { setup, disk, member: None, may_end: false });
        }
        let all: Vec<String> =
            seats.iter().map(|seat| format!("{}={}", seat.setup.name, seat.setup.peer_url())).collect();
        for seat in &mut seats {
            seat.setup.cluster = vec!["--initial-cluster".to_owned(), all.join(",")];
        }
        let world = Arc::new(World::new(seats.iter().map(|seat| seat.setup.url()).collect(), plant));
        let mut group = Self { seats, network, world };
        for n in 0..members {
            group.start(n)?;
        }
        group.all_serve().await.context("founding")?;
        Ok(group)
    }

    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// # Errors
    /// When it can't be started.
    pub fn start(&mut self, n: usize) -> Result<()> {
        let seat = &mut self.seats[n];
        if seat.member.is_none() {
            self.world.doors[n].process.fetch_add(1, Ordering::Relaxed);
            seat.member = Some(Member::spawn(&seat.setup)?);
            seat.may_end = false;
        }
        Ok(())
    }

    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self, n: usize) -> Result<()> {
        self.still_runs(n)?;
        if let Some(mut member) = self.seats[n].member.take() {
            member.kill()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub async fn stop(&mut self, n: usize) -> Result<()> {
        match self.seats[n].member.take() {
            Some(mut member) => member.stop().await.with_context(|| format!("m{n}")),
            None => Ok(()),
        }
    }

    /// # Errors
    /// When the system refuses.
    pub fn pause(&mut self, n: usize, paused: bool) -> Result<()> {
        match &mut self.seats[n].member {
            Some(member) => member.pause(paused),
            None => Ok(()),
        }
    }

    /// Fills its disk. Its process may then end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn fill_disk(&mut self, n: usize) -> Result<()> {
        self.seats[n].may_end = true;
        let filled = (0..20).map(|_| self.seats[n].disk.fill()).find(Result::is_ok);
        filled.unwrap_or_else(|| bail!("m{n}'s disk does not get full"))
    }

    /// Has it write its state, for which a full disk has no room.
    pub async fn write_state(&self, n: usize) {
        if let Ok(mut client) = self.connect(n).await {
            drop(tokio::time::timeout(ASK, client.defragment()).await);
        }
    }

    /// Gives the disk room again and waits until the member serves; starts it where it has ended. Answers whether it had.
    ///
    /// # Errors
    /// When it does not come back, or ended for another reason.
    pub async fn free_disk(&mut self, n: usize) -> Result<bool> {
        self.seats[n].disk.give_room(DISK_MEBIBYTES)?;
        let until = Instant::now() + PATIENCE;
        while !self.answers(n).await {
            let seat = &mut self.seats[n];
            let Some(member) = &mut seat.member else { return Ok(false) };
            if !member.runs()? {
                let said = member.said();
                let last = member.last_words();
                let why = said.contains("No space left on device") && !said.contains("panicked at");
                ensure!(why, "m{n} did not end for its full disk:\n{last}");
                seat.member = None;
                self.start(n)?;
                return self.serves(n).await.map(|()| true);
            }
            ensure!(Instant::now() < until, "m{n} neither serves nor ends:\n{}", member.last_words());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.seats[n].may_end = false;
        Ok(false)
    }

    /// Every member that was started and not ended by us is there, and none has panicked.
    ///
    /// # Errors
    /// The first that is not, and what it said.
    pub fn all_run(&mut self) -> Result<()> {
        (0..self.len()).try_for_each(|n| self.still_runs(n))
    }

    fn still_runs(&mut self, n: usize) -> Result<()> {
        let seat = &mut self.seats[n];
        if let Some(member) = &mut seat.member
            && !seat.may_end
            && !member.runs()?
        {
            bail!("m{n} has ended by itself; it said:\n{}", member.last_words());
        }
        Ok(())
    }

    /// No process of the round has panicked.
    ///
    /// # Errors
    /// The first that has.
    pub fn no_panics(&self) -> Result<()> {
        for (n, seat) in self.seats.iter().enumerate() {
            let said = std::fs::read(&seat.setup.log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if let Some(line) = said.lines().find(|line| line.contains("panicked at")) {
                bail!("m{n}: {line}");
            }
        }
        Ok(())
    }

    /// # Errors
    /// When it does not answer at once.
    pub async fn connect(&self, n: usize) -> Result<Client> {
        Client::connect_within(&self.seats[n].setup.url(), ASK).await
    }

    async fn status(&self, n: usize) -> Option<StatusResponse> {
        let mut client = self.connect(n).await.ok()?;
        tokio::time::timeout(ASK, client.status()).await.ok()?.ok()
    }

    /// Who leads, as it says itself.
    pub async fn leader(&self) -> Option<usize> {
        let mut found: Option<(u64, usize)> = None;
        for n in 0..self.len() {
            if let Some(status) = self.status(n).await
                && status.header.is_some_and(|header| header.member_id == status.leader)
            {
                found = found.max(Some((status.raft_term, n)));
            }
        }
        found.map(|(_, n)| n)
    }

    /// Waits until every member answers a linearizable read.
    ///
    /// # Errors
    /// When one does not in [`PATIENCE`].
    pub async fn all_serve(&mut self) -> Result<()> {
        for n in 0..self.len() {
            self.serves(n).await?;
        }
        Ok(())
    }

    /// Waits until a member answers a linearizable read.
    ///
    /// # Errors
    /// When it does not in [`PATIENCE`], or has ended.
    pub async fn serves(&mut self, n: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.still_runs(n)?;
            if self.answers(n).await {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let said = self.seats[n].member.as_ref().map(Member::last_words).unwrap_or_default();
        bail!("m{n} does not serve after {PATIENCE:?}; it said:\n{said}")
    }

    /// Whether it answers a linearizable read.
    async fn answers(&self, n: usize) -> bool {
        let Ok(mut client) = self.connect(n).await else { return false };
        let list = client.cluster.member_list(MemberListRequest { linearizable: true });
        matches!(tokio::time::timeout(CHANGE, list).await, Ok(Ok(_)))
    }

    /// Lets another member lead, if the one that leads agrees.
    pub async fn move_leader(&self, to: usize) {
        let (Some(leader), Some(status)) = (self.leader().await, self.status(to).await) else { return };
        let target_id = status.header.map_or(0, |header| header.member_id);
        if let Ok(mut client) = self.connect(leader).await {
            let ask = client.maintenance.move_leader(MoveLeaderRequest { target_id });
            drop(tokio::time::timeout(CHANGE, ask).await);
        }
    }

    /// Removes a member, wipes its disk, adds a new one in its place and waits until it votes.
    ///
    /// # Errors
    /// When the cluster does not let it come.
    pub async fn replace(&mut self, n: usize, how: Replace) -> Result<()> {
        let peer = self.seats[n].setup.peer_url();
        if how.killed_first {
            self.kill(n)?;
        }
        let by = (n + 1) % self.len();
        let id = self.entry(by, &peer).await?.id;
        self.change(by, "remove", async |mut client: Client| {
            match client.cluster.member_remove(MemberRemoveRequest { id }).await {
                Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
                answer => answer.map(drop),
            }
        })
        .await?;
        // It may know by now that it was removed, and have ended.
        self.seats[n].may_end = true;
        self.kill(n)?;
        std::fs::remove_dir_all(&self.seats[n].setup.data_dir)?;
        self.change(by, "add", async |mut client: Client| {
            let add = MemberAddRequest { peer_urls: vec![peer.clone()], is_learner: how.learner };
            match client.cluster.member_add(add).await {
                // A try without an answer may have added it.
                Err(status) if status.message().contains("Peer URLs already exists") => Ok(()),
                answer => answer.map(drop),
            }
        })
        .await?;
        self.come_back(n, by, how).await
    }

    /// The new member in a removed one's seat.
    async fn come_back(&mut self, n: usize, by: usize, how: Replace) -> Result<()> {
        let peer = self.seats[n].setup.peer_url();
        let all = self.seats.iter().map(|seat| format!("{}={}", seat.setup.name, seat.setup.peer_url()));
        let all = all.collect::<Vec<_>>().join(",");
        self.seats[n].setup.cluster = if how.by_join {
            vec!["--join".to_owned(), self.seats[by].setup.peer_url()]
        } else {
            ["--initial-cluster", &all, "--initial-cluster-state", "existing"].map(str::to_owned).to_vec()
        };
        self.start(n)?;
        let id = self.entry(by, &peer).await?.id;
        if how.learner {
            self.change(by, "promote", async |mut client: Client| {
                match client.cluster.member_promote(MemberPromoteRequest { id }).await {
                    // A try without an answer may have promoted it. One that is not in sync is refused in longer words.
                    Err(status) if status.message() == "etcdserver: can only promote a learner member" => Ok(()),
                    answer => answer.map(drop),
                }
            })
            .await?;
        }
        self.serves(n).await?;
        self.votes(id).await
    }

    /// Waits until Raft has made a voter of a member that the table says is one. Before, it is of no use where others
    /// fail.
    async fn votes(&self, id: u64) -> Result<()> {
        let promotion = format!("Promote(MemberId({id}))");
        let (until, mut before) = (Instant::now() + PATIENCE, 0);
        while Instant::now() < until {
            let said =
                self.seats.iter().map(|seat| std::fs::read(&seat.setup.log).unwrap_or_default()).collect::<Vec<_>>();
            let said = said.iter().map(|text| String::from_utf8_lossy(text)).collect::<String>();
            // A step that failed is taken again.
            let steps = said.matches(CHANGING).count();
            if said.contains(&promotion) && steps == before {
                return Ok(());
            }
            before = steps;
            tokio::time::sleep(STEP).await;
        }
        bail!("{id:x} is not made a voter in {PATIENCE:?}")
    }

    /// A member's entry, by its peer URL.
    async fn entry(&self, by: usize, peer: &str) -> Result<Entry> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Ok(mut client) = self.connect(by).await {
                let list = client.cluster.member_list(MemberListRequest { linearizable: true });
                if let Ok(Ok(answer)) = tokio::time::timeout(CHANGE, list).await {
                    let mut all = answer.into_inner().members.into_iter();
                    let found = all.find(|member| member.peer_urls.iter().any(|url| url == peer));
                    return found.with_context(|| format!("no member has {peer}"));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("m{by} does not list the members")
    }

    /// Asks for a change of members until it is made.
    async fn change(
        &self,
        by: usize,
        what: &str,
        ask: impl AsyncFn(Client) -> Result<(), tonic::Status>,
    ) -> Result<()> {
        let (until, mut why) = (Instant::now() + PATIENCE, String::new());
        while Instant::now() < until {
            match self.connect(by).await {
                Err(error) => why = error.to_string(),
                Ok(client) => match tokio::time::timeout(CHANGE, ask(client)).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(status)) => why = status.message().to_owned(),
                    Err(_) => "no answer".clone_into(&mut why),
                },
            }
            tokio::time::sleep(LOOK_EVERY * 5).await;
        }
        bail!("{what}: m{by} still refuses after {PATIENCE:?}: {why}")
    }
}

/// How a member is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Replace {
    /// It is dead already when it is removed.
    pub killed_first: bool,
    /// The new one is added as a learner, and promoted.
    pub learner: bool,
    /// The new one is told one peer's URL, and not all members.
    pub by_join: bool,
}
