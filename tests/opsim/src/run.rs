//! One run: a seed decides what happens and in which order, first with everything that may go wrong, then in quiet.

mod operator;
mod quiet;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use keepstone_operator_plan::ids::{ClusterId, Ordinal};
use keepstone_operator_plan::operation::Verb;
use keepstone_operator_world::kube::{BAD, Kind};
use keepstone_operator_world::{Fault, Spec, World};
use parking_lot::Mutex;

use crate::flavour::Flavour;
use crate::rng::Rng;
use crate::site::{Site, Tls};
use operator::Operator;

/// What an operator is made to leave out, to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Planted {
    #[default]
    Nothing,
    /// It destroys what it saw in a cache, and doesn't say which it means.
    NoSecondLook,
    /// It acts, and writes down afterwards what it meant.
    ActsFirst,
    /// Each has a lease of its own.
    OwnLease,
    /// Neither that, nor does any write say what it was decided on.
    NoFence,
    /// It doesn't wait until kubelets have shown members a new CA.
    NoSettling,
    /// It takes a member that is silent for what it was when it last answered.
    OldAnswers,
    /// It deletes what was to be kept.
    Greedy,
    /// Nobody whom it means to keep from starting is kept from it. A recovery then waits for ever, as it looks whether anybody
    /// still runs, and that takes a minute to be sure of: `cargo xtask prove operator-planted` finds it.
    Unfenced,
}

impl Planted {
    /// Those that have to be found.
    pub const FOUND: [Self; 7] = [
        Self::NoSecondLook,
        Self::ActsFirst,
        Self::NoFence,
        Self::NoSettling,
        Self::OldAnswers,
        Self::Greedy,
        Self::Unfenced,
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The same for the same seed.
    pub print: u64,
    pub steps: u64,
    pub acts: usize,
    pub faults: u32,
    pub deaths: u32,
    /// What happened.
    pub trail: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub why: String,
    pub trail: Vec<String>,
}

/// Steps with faults in them.
const STEPS: u64 = 1500;
const DAY: u64 = 24 * 3600;

struct Run {
    flavour: Flavour,
    site: Arc<Mutex<Site>>,
    operators: Vec<Operator>,
    rng: Rng,
    steps: u64,
    faults: u32,
    deaths: u32,
    left: u32,
}

/// # Errors
/// What was broken, and the way there.
pub fn run(seed: u64, planted: Planted) -> Result<Report, Broken> {
    run_as(seed, planted, Flavour::of(seed, planted))
}

/// One run with nothing else in it than is said.
///
/// # Errors
/// What was broken, and the way there.
pub fn run_as(seed: u64, planted: Planted, flavour: Flavour) -> Result<Report, Broken> {
    let mut rng = Rng::new(seed);
    let size = [1, 3, 3, 3, 5][usize::try_from(rng.below(5)).unwrap_or(0)];
    let world = World::new(Spec { size, kind: Kind { config: 0, minor: 4 }, hibernate: false });
    let mut site = Site::new(world, Rng::new(rng.draw()));
    (site.lost, site.behind) = (rng.below(30), rng.below(400));
    (site.lax, site.flavour) = (planted == Planted::NoFence, flavour);
    site.unfenced = planted == Planted::Unfenced;
    site.tls = flavour.tls.then(|| Tls::new(Rng::new(seed ^ 0x746c_7300)));
    site.sync();
    let site = Arc::new(Mutex::new(site));
    let operators = (0..2).map(|n| Operator::new(n, &site, planted)).collect();
    let left = 2 + u32::try_from(rng.below(10)).unwrap_or(0);
    let mut run = Run { flavour, site, operators, rng, steps: 0, faults: 0, deaths: 0, left };
    let result = run.all();
    let site = run.site.lock();
    if let Err(why) = result {
        return Err(Broken { why, trail: site.trail.clone() });
    }
    let mut hasher = DefaultHasher::new();
    site.trail.hash(&mut hasher);
    let acts = site.trail.iter().filter(|line| line.contains("operator")).count();
    let trail = site.trail.clone();
    Ok(Report { print: hasher.finish(), steps: run.steps, acts, faults: run.faults, deaths: run.deaths, trail })
}

impl Run {
    fn all(&mut self) -> Result<(), String> {
        // Most runs begin with a cluster that stands: founding goes wrong in few ways.
        if self.rng.one_in(700) || self.flavour.tls {
            let (lost, behind) = {
                let mut site = self.site.lock();
                (std::mem::take(&mut site.lost), std::mem::take(&mut site.behind))
            };
            self.settle()?;
            self.age()?;
            let mut site = self.site.lock();
            (site.lost, site.behind) = (lost, behind);
            site.say("trouble begins");
        }
        let steps = STEPS / 3 + self.rng.below(STEPS);
        let end = self.flavour.ends.then(|| self.rng.below(steps));
        for n in 0..steps {
            self.step();
            if end == Some(n) {
                let keep = self.rng.one_in(500);
                self.suffer(Fault::Deleted(keep));
            }
            self.unbroken()?;
        }
        self.settle()?;
        // And it stays so: whatever has to be renewed is.
        for _ in 0..if self.flavour.tls { 3 } else { 0 } {
            self.days(100);
            self.settle()?;
        }
        Ok(())
    }

    /// Years pass in which nothing happens, up to about when the CA is due.
    fn age(&mut self) -> Result<(), String> {
        if !self.flavour.tls {
            return Ok(());
        }
        let due = (364 + self.rng.below(4)) * DAY;
        loop {
            let left = self.site.lock().authority_good_for().unwrap_or(0);
            if left <= due + DAY {
                break;
            }
            self.days(100.min((left - due) / DAY));
            if left > due + 100 * DAY {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// So many days, or as many as what is in use is good for: it is nobody's fault what ends while nobody has a turn.
    fn days(&mut self, days: u64) {
        let mut site = self.site.lock();
        let most = site.good_for().unwrap_or(0).saturating_sub(DAY);
        let seconds = most.min(days * DAY);
        site.say(format!("{} days", seconds / DAY));
        site.pass_time(seconds * 1_000_000);
    }

    fn suffer(&mut self, fault: Fault) {
        self.faults += 1;
        let mut site = self.site.lock();
        site.say(format!("fault: {fault:?}"));
        site.world.suffer(fault);
        site.changed();
    }

    fn unbroken(&self) -> Result<(), String> {
        self.site.lock().broken.clone().map_or(Ok(()), Err)
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.rng.below(1000) {
            0..600 => self.turns(),
            600..850 => self.nature(),
            850..880 => self.fault(),
            880..960 => self.site.lock().pass_time(1_000_000),
            960..975 => {
                let seconds = 1 + self.rng.below(45);
                self.site.lock().pass_time(seconds * 1_000_000);
            }
            975..985 => self.die(),
            985..995 => self.order(),
            _ if self.flavour.tls && self.rng.one_in(500) => {
                let days = 1 + self.rng.below(12);
                self.days(days);
            }
            _ => self.site.lock().pass_time(700_000_000),
        }
    }

    /// One operator gets on, by one call or by many.
    fn turns(&mut self) {
        let who = usize::try_from(self.rng.below(self.operators.len() as u64)).unwrap_or(0);
        let most = [1, 4, 60, 200][usize::try_from(self.rng.below(4)).unwrap_or(0)];
        for _ in 0..=self.rng.below(most) {
            let micros = 500 + self.rng.below(5000);
            self.site.lock().pass_time(micros);
            let woken = self.rng.one_in(300);
            self.operators[who].turn(&mut self.rng, woken);
        }
    }

    fn nature(&mut self) {
        let mut site = self.site.lock();
        if self.flavour.tls && self.rng.one_in(400) {
            let n = u32::try_from(self.rng.below(6)).unwrap_or(0);
            site.mount(Some(if n == 5 { u32::MAX } else { n }));
            return;
        }
        if self.flavour.works() && self.rng.one_in(200) && site.job_by_chance(&mut self.rng) {
            return;
        }
        let events = site.world.events();
        if let Some(event) = self.rng.pick(&events) {
            site.say(format!("{event:?}"));
            site.happens(*event);
        }
    }

    fn fault(&mut self) {
        if self.left == 0 {
            return;
        }
        if self.flavour.drastic && self.rng.one_in(200) {
            self.lose_most();
            return;
        }
        let n = u32::try_from(self.rng.below(5)).unwrap_or(0);
        let mut all = vec![
            Fault::PodDeleted(n),
            Fault::Crashed(n),
            Fault::Crashed(n),
            Fault::Wiped(n),
            Fault::ClaimDeleted(n),
            Fault::NodeLost(n),
            Fault::NodeBack(n),
            Fault::Scaled(n),
            Fault::WorkloadOrphaned,
            Fault::Size([1, 3, 3, 5, 2][n as usize]),
            Fault::Config([1, 2, 0, BAD, 1][n as usize]),
            Fault::Minor([5, 4, 5, 4, 5][n as usize]),
            Fault::Hibernate(n == 0),
        ];
        all.extend(self.flavour.faults(n));
        let world = &self.site.lock().world.clone();
        let Some(fault) = self.rng.pick(&all).filter(|fault| world.possible(**fault)) else { return };
        // A minority may be lost; what then still must not be is another matter than what comes back.
        self.left -= 1;
        self.suffer(*fault);
    }

    /// All but one lose what they had, in one of the ways there are.
    fn lose_most(&mut self) {
        let survivor = u32::try_from(self.rng.below(3)).unwrap_or(0);
        let places: Vec<u32> = {
            let world = &self.site.lock().world;
            let Some(lost) = world.latched.filter(|cluster| world.voters_up(*cluster) > 2) else { return };
            if world.serves(survivor).map(|(cluster, _)| cluster) != Some(lost) {
                return;
            }
            world.kube.pods.keys().copied().collect()
        };
        // Mostly the one that is left stays.
        self.left = if self.rng.one_in(300) { self.left - 1 } else { 0 };
        for n in places.into_iter().filter(|n| *n != survivor) {
            let how = match self.rng.below(3) {
                0 => vec![Fault::Wiped(n)],
                1 => vec![Fault::ClaimDeleted(n), Fault::PodDeleted(n)],
                _ => vec![Fault::NodeLost(n)],
            };
            for fault in how {
                if self.site.lock().world.possible(fault) {
                    self.suffer(fault);
                }
            }
        }
    }

    /// An operator dies where it is. Another is started in its place.
    fn die(&mut self) {
        let who = usize::try_from(self.rng.below(self.operators.len() as u64)).unwrap_or(0);
        self.deaths += 1;
        self.site.lock().say(format!("operator {who} dies"));
        self.operators[who].start_over();
    }

    fn order(&mut self) {
        let mut site = self.site.lock();
        let given = site.world.requests.iter().filter(|one| one.scheduled.is_none()).count();
        if site.world.latched.is_none() || given > if self.flavour.upkeep { 8 } else { 3 } {
            return;
        }
        if self.flavour.drastic && self.rng.one_in(400) {
            let lost = ClusterId(site.world.latched.unwrap_or(0));
            let verb = Flavour::drastically(&mut self.rng, lost);
            site.ask(verb);
            return;
        }
        if self.flavour.backups && self.rng.one_in(300) {
            site.back_up();
            return;
        }
        if self.flavour.upkeep {
            let verb = self.flavour.order(&mut self.rng, &site.world);
            site.ask(verb);
            return;
        }
        let n = Ordinal(u32::try_from(self.rng.below(3)).unwrap_or(0));
        let verb = match self.rng.below(3) {
            0 => Verb::MoveLeader { to: Some(n) },
            1 => Verb::ReplaceMember { ordinal: n },
            _ => Verb::RestartMembers { members: [n].into() },
        };
        site.ask(verb);
    }
}
