//! The test of the tests: how often each planted fault is found, and in which words.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::ValueEnum as _;

use crate::many;
use crate::plan::Fault;

/// What came of one run with a fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A broken promise was named, in this word.
    Named(&'static str),
    /// Nothing went on any more.
    Stalled,
    /// It failed with something else.
    Otherwise(String),
    Nothing,
}

/// Words in verdicts, each of which stands for one promise.
const WORDS: &[&str] = &[
    "FORGOTTEN",
    "TWO LEADERS",
    "TWO ENTRIES",
    "AHEAD OF ITS LOG",
    "STATES DIFFER",
    "HASHES DIFFER",
    "LOGS DIFFER",
    "LOST",
    "STALE",
    "does not start",
    "STOPPED",
    "both were answered",
    "nobody deleted this",
    "which was answered",
    "no watch saw",
    "watch w",
    "end of a lease that could not end",
];

impl Finding {
    /// Of what a run printed on its way out; empty for a run that kept every promise.
    pub fn of(verdict: &str) -> Self {
        if verdict.is_empty() {
            return Self::Nothing;
        }
        if let Some(word) = WORDS.iter().find(|word| verdict.contains(**word)) {
            return Self::Named(word);
        }
        if verdict.contains("STALL") {
            return Self::Stalled;
        }
        Self::Otherwise(verdict.lines().last().unwrap_or_default().chars().take(160).collect())
    }
}

/// Plants a fault in one seed's run.
///
/// # Errors
/// When the run can't be started.
pub fn plant(fault: Fault, seed: u64, blind: bool) -> Result<(Finding, String)> {
    let name = fault.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let mut with = vec!["--fault".to_owned(), name];
    with.extend(blind.then(|| "--blind".to_owned()));
    let output = many::one(seed, &with)?;
    if output.status.success() {
        return Ok((Finding::Nothing, String::new()));
    }
    let verdict = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((Finding::of(&verdict), verdict))
}

/// Every fault in so many seeds; `tell` gets a line for each.
///
/// # Errors
/// When a run can't be started.
pub fn table(faults: &[Fault], from: u64, count: u64, blind: bool, tell: impl Fn(String)) -> Result<()> {
    let all = Fault::value_variants();
    for fault in if faults.is_empty() { all } else { faults } {
        let mut found: BTreeMap<Finding, u64> = BTreeMap::new();
        for seed in from..from + count {
            *found.entry(plant(*fault, seed, blind)?.0).or_default() += 1;
        }
        let missed = found.get(&Finding::Nothing).copied().unwrap_or(0);
        tell(format!("{fault:?}: found in {} of {count}: {found:?}", count - missed));
    }
    Ok(())
}
