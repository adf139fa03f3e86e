//! Every order in which things can happen, up to a depth and a number of faults.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use keepstone_operator_plan::act::Act;
use keepstone_operator_plan::ids::Time;
use keepstone_operator_plan::observed::{Echo, Observed};
use keepstone_operator_plan::{Plan, plan};
use keepstone_operator_world::kube::Kube;
use keepstone_operator_world::{Blind, Broken, Done, Event, Fault, World, desired};

use crate::settle::{Settled, settle};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub world: World,
    pub echo: Option<Echo>,
    /// What the cache shows while it is behind: how things were before the last change.
    behind: Option<Kube>,
    /// An act that was decided on, and not yet done.
    pending: Option<(Act, Observed)>,
    faults_left: u8,
}

#[derive(Debug, Clone, Copy)]
pub enum Step {
    Nature(Event),
    Fault(Fault),
    Pass,
    /// One of its calls fails.
    Blind(Blind),
    /// Its cache is behind.
    Stale,
    /// The operator dies after the call, before it hears of it.
    Deaf,
    /// It decides, and is slow to act.
    Decide,
    /// It acts at last.
    Act,
    /// It dies before it acts.
    Die,
}

pub struct Bounds {
    pub depth: u32,
    pub faults: u8,
    /// Stops, without a failure, when so many states were seen.
    pub states: usize,
}

pub struct Found {
    pub states: usize,
    pub settled: usize,
    pub depth: u32,
    /// Whether nothing was left to explore.
    pub whole: bool,
}

struct Explorer<'a> {
    faults: &'a [Fault],
    bounds: &'a Bounds,
    seen: HashSet<u64>,
    settled: Settled,
    /// Of each state, where it came from and how.
    trail: Vec<(usize, Option<Step>)>,
    queue: VecDeque<(usize, u32, State)>,
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// # Panics
/// With the way there, when something is broken, or doesn't settle.
pub fn explore(from: World, faults: &[Fault], bounds: &Bounds) -> Found {
    let start = State { world: from, echo: None, behind: None, pending: None, faults_left: bounds.faults };
    let mut explorer = Explorer {
        faults,
        bounds,
        seen: HashSet::new(),
        settled: Settled::default(),
        trail: Vec::new(),
        queue: VecDeque::new(),
    };
    explorer.reach(0, None, 0, start);
    let mut deepest = 0;
    while let Some((index, depth, state)) = explorer.queue.pop_front() {
        deepest = depth;
        if depth >= bounds.depth || explorer.trail.len() >= bounds.states {
            let found = (explorer.trail.len(), explorer.settled.len());
            return Found { states: found.0, settled: found.1, depth, whole: false };
        }
        explorer.expand(index, depth, &state);
    }
    Found { states: explorer.trail.len(), settled: explorer.settled.len(), depth: deepest, whole: true }
}

impl Explorer<'_> {
    fn expand(&mut self, index: usize, depth: u32, state: &State) {
        for step in steps(state, self.faults) {
            match take(state, step) {
                Ok(next) => self.reach(index, Some(step), depth + 1, next),
                Err(broken) => panic!("{}{step:?}\n=> {}\n{state:?}", self.way_to(index), broken.0),
            }
        }
    }

    fn reach(&mut self, from: usize, step: Option<Step>, depth: u32, state: State) {
        if !self.seen.insert(fingerprint(&state)) {
            return;
        }
        self.trail.push((from, step));
        let index = self.trail.len() - 1;
        if let Err(why) = settle(&state.world, &mut self.settled) {
            panic!("{}=> {why}", self.way_to(index));
        }
        if depth < self.bounds.depth + 1 {
            self.queue.push_back((index, depth, state));
        }
    }

    fn way_to(&self, mut index: usize) -> String {
        let mut steps = Vec::new();
        while let (from, Some(step)) = self.trail[index] {
            steps.push(format!("{step:?}\n"));
            index = from;
        }
        steps.into_iter().rev().collect()
    }
}

fn steps(state: &State, faults: &[Fault]) -> Vec<Step> {
    let mut all: Vec<Step> = state.world.events().into_iter().map(Step::Nature).collect();
    if state.pending.is_some() {
        all.extend([Step::Act, Step::Die]);
    } else {
        all.push(Step::Pass);
    }
    if state.faults_left == 0 {
        return all;
    }
    all.extend(faults.iter().filter(|f| state.world.possible(**f)).map(|f| Step::Fault(*f)));
    if state.pending.is_none() {
        all.extend([Step::Deaf, Step::Decide, Step::Stale]);
        let answers = (0..state.world.kube.pods.len() as u32).map(Blind::Answer);
        all.extend([Blind::Table, Blind::Permit, Blind::Claims].into_iter().chain(answers).map(Step::Blind));
    }
    all
}

/// One look, and what comes of it.
pub fn look(world: &mut World, kube: &Kube, blind: Blind, echo: Option<Echo>) -> (Observed, Plan) {
    let seen = world.observe(kube, blind, echo);
    let plan = plan(&seen, &desired(&world.spec), Time(world.now));
    world.marks = plan.marks;
    world.remember(&seen);
    (seen, plan)
}

/// A pass from look to act.
pub fn pass(world: &mut World, kube: &Kube, blind: Blind, echo: Option<Echo>) -> Result<Option<Echo>, Broken> {
    let (seen, plan) = look(world, kube, blind, echo);
    let Some(act) = plan.act else { return Ok(None) };
    let done = world.act(&act, &seen, true)? == Done::Yes;
    Ok(Some(Echo { act, done }))
}

fn take(state: &State, step: Step) -> Result<State, Broken> {
    let mut next = state.clone();
    let live = next.world.kube.clone();
    let before = next.world.kube.clone();
    match step {
        Step::Nature(event) => next.world.happen(event),
        Step::Fault(fault) => next.world.suffer(fault),
        Step::Pass | Step::Deaf => {
            let echo = pass(&mut next.world, &live, Blind::Nothing, next.echo.take())?;
            next.echo = echo.filter(|_| matches!(step, Step::Pass));
        }
        Step::Blind(blind) => next.echo = pass(&mut next.world, &live, blind, next.echo.take())?,
        Step::Stale => next.echo = stale(&mut next, &live)?,
        Step::Decide => {
            let (seen, plan) = look(&mut next.world, &live, Blind::Nothing, next.echo.take());
            next.pending = plan.act.map(|act| (act, seen));
        }
        Step::Act => {
            if let Some((act, seen)) = next.pending.take() {
                let done = next.world.act(&act, &seen, false)? == Done::Yes;
                next.echo = Some(Echo { act, done });
            }
        }
        Step::Die => (next.pending, next.echo) = (None, None),
    }
    if !matches!(step, Step::Nature(_) | Step::Pass) {
        next.faults_left -= u8::from(!matches!(step, Step::Act | Step::Die));
    }
    if next.world.kube != before {
        next.behind = Some(before);
    }
    if next.faults_left == 0 {
        next.behind = None;
    }
    next.world.check()?;
    Ok(next)
}

/// A pass on an old cache. What destroys is looked at again without the cache, and done only if it is still the plan.
fn stale(state: &mut State, live: &Kube) -> Result<Option<Echo>, Broken> {
    let Some(behind) = state.behind.clone() else { return Ok(None) };
    let echo = state.echo.take();
    let (seen, plan) = look(&mut state.world, &behind, Blind::Nothing, echo.clone());
    let Some(act) = plan.act else { return Ok(None) };
    if act.destroys() {
        let (seen, again) = look(&mut state.world, live, Blind::Nothing, echo);
        if again.act.as_ref() != Some(&act) {
            return Ok(None);
        }
        let done = state.world.act(&act, &seen, true)? == Done::Yes;
        return Ok(Some(Echo { act, done }));
    }
    let done = state.world.act(&act, &seen, true)? == Done::Yes;
    Ok(Some(Echo { act, done }))
}
