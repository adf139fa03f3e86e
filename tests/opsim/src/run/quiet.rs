//! When the world is quiet, it has to become what was asked for: nobody wakes the operators, they look when they said they
//! would.

use keepstone_operator::controller::api::text;
use keepstone_operator::controller::kind::Kind;
use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{ClusterId, Ordinal};
use keepstone_operator_plan::observed::Request;
use keepstone_operator_plan::operation::{Intent, Verb};
use keepstone_operator_world::kube::{BAD, ROTTEN, claim_uid};
use keepstone_operator_world::{Fault, World};
use serde_json::Value;

use super::Run;
use crate::render::{CLUSTER, starts};
use crate::site::Site;

/// More than any way to the end takes.
const TURNS: u32 = 20_000;
/// Seconds: longer than all deadlines together.
const PATIENCE: u64 = 20_000;

/// Seconds after which a human sees that what never starts is tried for ever.
const HOPELESS: u64 = 5_000;
/// And that nobody can tell what is to be done.
const DOUBTFUL: u64 = 1_500;

enum Verdict {
    Right,
    /// As right as it can be, until a human does this.
    Mended(Fault),
    Ordered(Verb),
    /// A Job that failed has to be made again.
    Again(String),
    Wrong,
}

impl Run {
    pub(super) fn settle(&mut self) -> Result<(), String> {
        {
            let mut site = self.site.lock();
            (site.lost, site.behind) = (0, 0);
            site.say("quiet");
        }
        let begun = self.site.lock().micros;
        let mut mended = 0;
        for _ in 0..TURNS {
            while self.by_itself() {}
            self.unbroken()?;
            if self.site.lock().micros - begun > PATIENCE * 1_000_000 {
                break;
            }
            if self.work() {
                self.looks();
                self.unbroken()?;
                continue;
            }
            self.unbroken()?;
            let late = self.site.lock().micros - begun > HOPELESS * 1_000_000;
            let doubtful = self.site.lock().micros - begun > DOUBTFUL * 1_000_000;
            let verdict = match self.verdict(doubtful) {
                Verdict::Wrong if doubtful && beyond(&self.site.lock().world).is_some() => self.hopeless(),
                Verdict::Wrong if late => self.hopeless(),
                verdict => verdict,
            };
            match verdict {
                Verdict::Right => return Ok(()),
                Verdict::Mended(fault) if mended < 9 => {
                    mended += 1;
                    let mut site = self.site.lock();
                    site.say(format!("mended: {fault:?}"));
                    site.world.suffer(fault);
                    site.changed();
                }
                Verdict::Ordered(verb) if mended < 9 => {
                    mended += 1;
                    self.site.lock().ask(verb);
                }
                Verdict::Again(job) if mended < 9 => {
                    mended += 1;
                    self.site.lock().again(&job);
                }
                _ => {}
            }
            self.wait();
        }
        let site = self.site.lock();
        let status = site.get(Kind::Cluster, CLUSTER).map(|cluster| cluster["status"].to_string());
        Err(format!("it stays so: {:?}\n{}", site.world, status.unwrap_or_default()))
    }

    fn by_itself(&mut self) -> bool {
        let mut site = self.site.lock();
        let Some(event) = site.world.events().first().copied() else { return site.job_by_itself() };
        site.say(format!("{event:?}"));
        site.happens(event);
        true
    }

    /// Kubelets look at what they have mounted, some sooner than others.
    fn looks(&mut self) {
        if self.flavour.tls {
            let n = u32::try_from(self.rng.below(6)).unwrap_or(0);
            self.site.lock().mount(Some(if n == 5 { u32::MAX } else { n }));
        }
    }

    /// Whether anything was under way.
    fn work(&mut self) -> bool {
        let mut busy = false;
        for operator in &mut self.operators {
            for _ in 0..400 {
                self.site.lock().pass_time(1000);
                operator.tend();
                operator.pass(false);
                if operator.rests() {
                    break;
                }
                busy = true;
                if self.site.lock().broken.is_some() {
                    return true;
                }
            }
        }
        busy
    }

    /// Until somebody has said to look again.
    fn wait(&mut self) {
        let next =
            self.operators.iter().map(|one| if one.leads() { one.tend_at.min(one.pass_at) } else { one.tend_at });
        let next = next.min().map_or(0, |at| u64::try_from(at.as_micros()).unwrap_or(0));
        let mut site = self.site.lock();
        let now = site.micros;
        site.pass_time(next.saturating_sub(now).max(1000));
    }

    fn hopeless(&self) -> Verdict {
        let site = self.site.lock();
        if let Some(fault) = beyond(&site.world) {
            return Verdict::Mended(fault);
        }
        if starts(site.world.spec.kind) { Verdict::Wrong } else { Verdict::Mended(mend(&site.world)) }
    }

    fn verdict(&self, doubtful: bool) -> Verdict {
        let mut site = self.site.lock();
        if site.world.deleting {
            site.collect();
            // Nobody waits any more for a kubelet that is gone, but Kubernetes: until there is no such node.
            let lost = site.world.kube.pods.iter().find(|(_, pod)| site.gone && pod.node_lost.is_some());
            if let Some((n, _)) = lost {
                return Verdict::Mended(Fault::NodeBack(*n));
            }
            let over = site.gone && site.world.kube.pods.is_empty() && site.left_behind().is_empty();
            return if over { Verdict::Right } else { Verdict::Wrong };
        }
        let world = &site.world;
        let status = site.get(Kind::Cluster, CLUSTER).map(|cluster| cluster["status"].clone()).unwrap_or_default();
        let says = |kind: &str| condition(&status, kind);
        if let Some(fault) = human(world) {
            return Verdict::Mended(fault);
        }
        if as_asked(world) && says("Ready").0 == "True" {
            let well = site.tls.is_none() || site.trusts() == 1 && says("TLSReady").0 == "True";
            return if well { Verdict::Right } else { Verdict::Wrong };
        }
        if says("Degraded").1 == "AlarmNoSpace" && world.stores.values().all(|store| !store.old) {
            return Verdict::Mended(Fault::Relieved);
        }
        let asleep = matches!(world.operation.as_ref().map(|it| &it.intent), Some(Intent::Hibernate { .. }));
        if world.spec.hibernate && (asleep || world.latched.is_none()) {
            let down = world.kube.pods.values().all(|pod| pod.terminating);
            return if down { Verdict::Right } else { Verdict::Mended(Fault::Hibernate(false)) };
        }
        let degraded = says("Degraded").0 == "True";
        let stands = degraded && says("Available").0 != "True";
        if let Some(verdict) = drastic(&site, stands, says("Degraded").1 == "DeadlineExceeded", doubtful) {
            return verdict;
        }
        if !world.can_recover() {
            return if degraded && says("Available").0 != "True" { Verdict::Right } else { Verdict::Wrong };
        }
        if says("Available").1 == "BootstrapFailed" || says("Degraded").1 == "BootstrapFailed" {
            let other = if world.spec.size == 3 { 2 } else { 3 };
            let mend = if starts(world.spec.kind) { Fault::Size(other) } else { mend(world) };
            return Verdict::Mended(mend);
        }
        if degraded && !starts(world.spec.kind) { Verdict::Mended(mend(world)) } else { Verdict::Wrong }
    }
}

/// What is to be done about a majority that is lost, and while it is being done.
fn drastic(site: &Site, told: bool, late: bool, doubtful: bool) -> Option<Verdict> {
    let world = &site.world;
    let holds = |n: u32| {
        let disk = world.kube.claims.get(&n).filter(|claim| !claim.terminating).map(|claim| claim.disk)?;
        let (cluster, _) = world.servers.disks.get(&disk)?.member?;
        (Some(cluster) == world.latched && !world.rotten.contains(&disk)).then_some(disk)
    };
    let there = |n: u32| world.kube.claims.get(&n).is_some_and(|claim| !claim.terminating);
    let holds_any = |n: u32| {
        let disk = world.kube.disk(n).and_then(|disk| world.servers.disks.get(&disk));
        disk.is_some_and(|disk| disk.member.is_some())
    };
    if let Some(Intent::RecoverQuorum(it)) = world.operation.as_ref().map(|it| &it.intent) {
        let same = holds(it.survivor.0).is_some_and(|disk| claim_uid(disk) == it.claim);
        if world.latched == Some(it.lost.0) && !same && told {
            // What it was to be made of is lost as well. There are the copies.
            return Some(Verdict::Right);
        }
        // Somebody chose one that no kubelet starts.
        let stranded = world.kube.pods.get(&it.survivor.0).is_some_and(|pod| pod.node_lost.is_some());
        if stranded && doubtful {
            return Some(Verdict::Mended(Fault::NodeBack(it.survivor.0)));
        }
    }
    // The operator waits for somebody to see to the copies that failed.
    if late {
        let restores = matches!(world.operation.as_ref().map(|it| &it.intent), Some(Intent::Restore(_)));
        if let Some((n, _)) = site.failed_copies().find(|(n, _)| restores && !holds_any(*n) && there(*n)) {
            return Some(Verdict::Mended(Fault::ClaimDeleted(n)));
        }
        if let Some((_, job)) = site.failed_copies().next() {
            return Some(Verdict::Again(job));
        }
    }
    let busy = world.operation.as_ref().map(|it| &it.intent);
    if matches!(busy, Some(Intent::RecoverQuorum(_) | Intent::Restore(_))) {
        return Some(Verdict::Wrong);
    }
    if !site.flavour.drastic || world.can_recover() || !starts(world.spec.kind) || world.spec.hibernate {
        return None;
    }
    let confirm = ClusterId(world.latched?);
    let asked =
        |one: &&Request| !one.phase.finished() && matches!(one.verb, Verb::RecoverQuorum { .. } | Verb::Restore { .. });
    if world.requests.iter().any(|one| asked(&one)) || site.flavour.automatic && !doubtful {
        return Some(Verdict::Wrong);
    }
    let survivor = world
        .kube
        .claims
        .keys()
        .copied()
        .find(|n| holds(*n).is_some() && world.kube.pods.get(n).is_none_or(|pod| pod.node_lost.is_none()));
    Some(Verdict::Ordered(match survivor {
        Some(n) => Verb::RecoverQuorum { survivor: Ordinal(n), confirm },
        None => Verb::Restore { source: "backup".into(), save: false, confirm },
    }))
}

fn condition(status: &Value, kind: &str) -> (String, String) {
    let all = status["conditions"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|one| one["type"] == kind);
    found.map_or_else(Default::default, |one| (text(one, "/status").to_owned(), text(one, "/reason").to_owned()))
}

fn mend(world: &World) -> Fault {
    if world.spec.kind.config == BAD {
        return Fault::Config(0);
    }
    // What was run before it.
    let before = world.kube.pods.values().map(|pod| pod.kind.minor).filter(|minor| *minor < ROTTEN).max();
    Fault::Minor(before.unwrap_or(4))
}

/// What only a human ends, and does.
fn human(world: &World) -> Option<Fault> {
    if world.paused {
        return Some(Fault::Paused(false));
    }
    world.garbled.then_some(Fault::Garbled(false))
}

/// What an operator can't help, and says.
fn beyond(world: &World) -> Option<Fault> {
    let cluster = world.latched?;
    let table = world.servers.clusters.get(&cluster)?;
    let corrupt = |id| world.alarms.contains(&(id, Alarm::Corrupt));
    let well = table.rows.iter().filter(|r| !r.learner && !corrupt(r.id) && world.serves(r.ordinal).is_some()).count();
    if well <= table.voters() / 2 && table.rows.iter().any(|r| corrupt(r.id)) {
        return Some(Fault::Relieved);
    }
    // A disk may be at fault where no other pod of the kind is well, or the pod itself: nobody can tell.
    let kind = |n: &u32| world.kube.pods.get(n).map(|pod| pod.kind);
    let same = |n: &u32| table.rows.iter().any(|r| world.serves(r.ordinal).is_some() && kind(&r.ordinal) == kind(n));
    let rotten = |n: &u32| world.kube.disk(*n).is_some_and(|disk| world.rotten.contains(&disk));
    let alone = world.kube.claims.iter().find(|(n, claim)| !claim.terminating && rotten(n) && !same(n));
    alone.map(|(n, _)| Fault::ClaimDeleted(*n))
}

fn as_asked(world: &World) -> bool {
    let size = world.spec.size as usize;
    let Some(table) = world.latched.and_then(|cluster| world.servers.clusters.get(&cluster)) else { return false };
    table.rows.len() == size
        && table.voters() == size
        && world.latched.is_some_and(|cluster| world.voters_up(cluster) == size)
        && world.operation.is_none()
        && world.open
        && world.permit.is_none()
        && world.fenced.is_empty()
        && world.finished()
        && world.budget == Some(u32::try_from(size / 2 + 1).unwrap_or(0))
        && world.kube.replicas() as usize == size
        && world.kube.pods.len() == size
        && world.alarms.is_empty()
        && world.kube.claims.len() == size
        && world.kube.claims.values().all(|claim| claim.capacity >= world.storage)
        && world.kube.workload.as_ref().is_some_and(|set| set.storage >= world.storage)
        && world.kube.pods.values().all(|pod| pod.kind == world.spec.kind && !pod.terminating)
}
