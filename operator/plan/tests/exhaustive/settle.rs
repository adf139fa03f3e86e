//! When the world is quiet, it has to become what was asked for.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use keepstone_operator_plan::Plan;
use keepstone_operator_plan::condition::{ConditionType, Reason, Truth};
use keepstone_operator_plan::observed::Echo;
use keepstone_operator_plan::operation::Intent;
use keepstone_operator_world::kube::{BAD, Kind};
use keepstone_operator_world::{Blind, Event, Fault, World};

use crate::explore::{look, pass};

/// Worlds of which it is known that they settle.
#[derive(Default)]
pub struct Settled(HashSet<u64>);

impl Settled {
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// More passes than any way to the end takes.
const PATIENCE: u32 = 400;
/// Longer than any deadline.
const TICK: u64 = 700;
const TICKS: u32 = 12;

/// Lets nature and the operator take turns, and time pass where both have nothing to do.
pub fn settle(from: &World, known: &mut Settled) -> Result<(), String> {
    let mut world = from.clone();
    let (mut echo, mut path, mut log, mut ticks, mut idle) = (None, Vec::new(), Vec::new(), 0, false);
    for turn in 0..PATIENCE {
        if turn % 100 == 99 && !world.spec.kind.starts() {
            // What never starts is tried for ever.
            world.suffer(mend(&world));
        }
        let mut hasher = DefaultHasher::new();
        (&world, &echo, idle).hash(&mut hasher);
        let print = hasher.finish();
        if known.0.contains(&print) {
            known.0.extend(path);
            return Ok(());
        }
        path.push(print);
        let live = world.kube.clone();
        echo = match pass(&mut world, &live, Blind::Nothing, echo.take()) {
            Ok(echo) => echo,
            Err(broken) => return Err(format!("{log:#?}\nbroken: {}", broken.0)),
        };
        log.extend(echo.iter().map(|e: &Echo| format!("{:?} done: {}", e.act, e.done)));
        let event = world.events().first().copied();
        if let Some(event) = event {
            world.happen(event);
            log.push(format!("{event:?}"));
        }
        // After a refusal it waits for a pass, and tries again.
        let busy = echo.is_some() || event.is_some();
        if busy || !idle {
            ticks = if busy { 0 } else { ticks };
            idle = !busy;
            continue;
        }
        let (_, plan) = look(&mut world, &live, Blind::Nothing, None);
        match verdict(&world, &plan) {
            Verdict::Right => {
                known.0.extend(path);
                return Ok(());
            }
            Verdict::Mended(fault) => world.suffer(fault),
            Verdict::Wrong if ticks < TICKS => {
                ticks += 1;
                world.now += TICK;
            }
            Verdict::Wrong => return Err(format!("{log:#?}\nit stays so:\n{world:?}\n{plan:?}")),
        }
    }
    Err(format!("{log:#?}\nit has no end"))
}

enum Verdict {
    Right,
    /// It is as right as it can be, until a human does this.
    Mended(Fault),
    Wrong,
}

fn verdict(world: &World, plan: &Plan) -> Verdict {
    let says = |kind, truth| plan.conditions.iter().find(|c| c.kind == kind && c.truth == truth).map(|c| c.reason);
    if as_asked(world) && says(ConditionType::Ready, Truth::True).is_some() {
        return Verdict::Right;
    }
    if world.spec.hibernate && matches!(world.operation.as_ref().map(|o| &o.intent), Some(Intent::Hibernate { .. })) {
        return if world.kube.pods.values().all(|p| p.terminating) { Verdict::Right } else { Verdict::Wrong };
    }
    let degraded = says(ConditionType::Degraded, Truth::True);
    if !world.can_recover() {
        let told = degraded.is_some() && says(ConditionType::Available, Truth::True).is_none();
        return if told { Verdict::Right } else { Verdict::Wrong };
    }
    match (degraded, says(ConditionType::Available, Truth::False)) {
        (_, Some(Reason::BootstrapFailed)) => Verdict::Mended(Fault::Size(if world.spec.size == 3 { 2 } else { 3 })),
        (Some(_), _) if !world.spec.kind.starts() => Verdict::Mended(mend(world)),
        _ => Verdict::Wrong,
    }
}

fn mend(world: &World) -> Fault {
    if world.spec.kind.config == BAD { Fault::Config(0) } else { Fault::Minor(4) }
}

fn as_asked(world: &World) -> bool {
    let size = world.spec.size as usize;
    let Some(table) = world.latched.and_then(|c| world.servers.clusters.get(&c)) else { return false };
    let kind = |k: Kind| k == world.spec.kind;
    table.rows.len() == size
        && table.voters() == size
        && world.latched.is_some_and(|c| world.voters_up(c) == size)
        && world.operation.is_none()
        && world.open
        && world.permit.is_none()
        && world.fenced.is_empty()
        && world.finished()
        && world.kube.replicas() as usize == size
        && world.kube.pods.len() == size
        && world.kube.claims.len() == size
        && world.kube.pods.values().all(|p| kind(p.kind) && !p.terminating)
}

/// The world once it has settled, for others to begin with.
///
/// # Panics
/// If it does not.
pub fn settled(mut world: World) -> World {
    let mut echo = None;
    let mut idle = false;
    for _ in 0..PATIENCE {
        let live = world.kube.clone();
        echo = pass(&mut world, &live, Blind::Nothing, echo.take()).expect("nothing breaks where nothing fails");
        let event: Option<Event> = world.events().first().copied();
        event.into_iter().for_each(|e| world.happen(e));
        let busy = echo.is_some() || event.is_some();
        if !busy && idle {
            assert!(as_asked(&world), "{world:?}");
            return world;
        }
        idle = !busy;
    }
    panic!("it does not settle: {world:?}");
}
