//! Fail points: places at which a test may have a member die, wait or fail, over HTTP while it runs.
//!
//! The protocol, the terms and most of the names are gofail's and etcd's, so that etcd's fault tools drive a keepstone
//! member as they drive an etcd. Nothing is there unless the environment asks for it: see [`switch_on`]. A point that
//! nobody can arm costs one relaxed load.
//!
//! It never decides what a failure means: a point says that it was told to fail, its caller what follows. It does no
//! harm by itself but to end the process, at once and with nothing tidied up.

mod duration;
mod http;
pub mod points;
mod table;
mod terms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

pub use table::{Refused, disable, enable, list, status};
use terms::{Action, Terms};

/// Where a test may listen: `host:port`, as gofail has it.
pub const HTTP_VARIABLE: &str = "GOFAIL_HTTP";
/// What is armed from the start: `name=terms;name=terms`.
pub const POINTS_VARIABLE: &str = "GOFAIL_FAILPOINTS";
/// What a process ends with that was told to panic: as a Go program that panics.
const EXIT_CODE: i32 = 2;

static ON: AtomicBool = AtomicBool::new(false);

/// Held while a request is answered, and by whoever is about to end the process: a test that arms `panic` gets its
/// answer first.
static ANSWERING: Mutex<()> = Mutex::new(());

/// Why fail points could not be switched on.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error("fail to parse failpoint: {0}")]
    Points(#[from] Refused),
    #[error("{HTTP_VARIABLE}={address}: {source}")]
    Listen { address: String, source: std::io::Error },
}

/// Does what [`HTTP_VARIABLE`] and [`POINTS_VARIABLE`] say, once, at the start of a process. Whether they say anything.
/// As with gofail, a point that is unknown, or whose terms can't be read, is left out and not an error.
///
/// # Errors
/// A list that makes no sense; an address that can't be listened on.
pub fn switch_on() -> Result<bool, SwitchError> {
    let given = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let (http, points) = (given(HTTP_VARIABLE), given(POINTS_VARIABLE));
    if http.is_none() && points.is_none() {
        return Ok(false);
    }
    for (name, terms) in table::parse_list(points.as_deref().unwrap_or_default())? {
        if let Err(why) = enable(&name, &terms) {
            eprintln!("failed to enable \"{name}={terms}\" ({why})");
        }
    }
    ON.store(true, Ordering::Relaxed);
    if let Some(address) = http {
        http::listen(&address).map_err(|source| SwitchError::Listen { address, source })?;
    }
    Ok(true)
}

/// Whether this process has fail points.
#[inline]
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// A place in the code.
pub struct Point {
    name: &'static str,
    terms: Mutex<Option<Arc<Terms>>>,
}

impl Point {
    const fn new(name: &'static str) -> Self {
        Self { name, terms: Mutex::new(None) }
    }

    /// What it is called over HTTP.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// For a place that can't fail: dies or waits here, if it was told to. What is to be returned counts for nothing.
    #[inline]
    pub fn hit(&self) {
        if is_on() {
            drop(self.evaluate());
        }
    }

    /// For a place that can fail: the same, and what a `return(…)` gave as the reason.
    #[inline]
    #[must_use]
    pub fn told_to_fail(&self) -> Option<String> {
        if is_on() { self.evaluate() } else { None }
    }

    /// For a task that must not hold up its thread: how long it is to wait. Dies here if it was told to.
    #[inline]
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        if !is_on() {
            return None;
        }
        match self.next()? {
            Action::Sleep(time) => Some(time),
            other => {
                self.act(other);
                None
            }
        }
    }

    fn evaluate(&self) -> Option<String> {
        self.next().and_then(|action| self.act(action))
    }

    fn next(&self) -> Option<Action> {
        // Not held while something is done: who waits here can be disarmed meanwhile.
        let terms = self.terms.lock().clone();
        terms.and_then(|terms| terms.next())
    }

    fn act(&self, action: Action) -> Option<String> {
        match action {
            Action::Off => None,
            Action::Sleep(time) => {
                std::thread::sleep(time);
                None
            }
            Action::Return(value) => Some(value),
            Action::Print => {
                println!("failpoint print: {}", self.name);
                None
            }
            Action::Panic => self.die(),
        }
    }

    /// Ends the process, whichever thread it is: no destructor runs, nothing is written any more by this one.
    fn die(&self) -> ! {
        let _answered: MutexGuard<'_, ()> = ANSWERING.lock();
        eprintln!("failpoint panic: {}", self.name);
        std::process::exit(EXIT_CODE)
    }
}
