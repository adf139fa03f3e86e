//! What a server needs in memory and time where it hurts: runs the steps of `steps`, collects their figures and sets them
//! side by side. It measures nothing itself but resident memory.

use crate::procfs;
use crate::report::{mib, time};
use crate::server::{Program, Server};
use crate::steps;
use anyhow::{Result, bail};
use serde::Serialize;

#[derive(Debug, Clone, Copy, Serialize)]
pub enum Unit {
    Bytes,
    Micros,
    PerSecond,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub step: &'static str,
    pub what: &'static str,
    pub value: f64,
    pub unit: Unit,
}

impl Figure {
    fn show(&self) -> String {
        match self.unit {
            Unit::Bytes => mib(self.value as u64),
            Unit::Micros => time(self.value),
            Unit::PerSecond => format!("{:.0}/s", self.value),
        }
    }
}

/// The figures of one program, and the steps that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub program: String,
    pub figures: Vec<Figure>,
    pub failures: Vec<String>,
}

/// What one step writes down.
pub struct Notes {
    step: &'static str,
    figures: Vec<Figure>,
}

impl Notes {
    pub fn add(&mut self, what: &'static str, value: f64, unit: Unit) {
        let figure = Figure { step: self.step, what, value, unit };
        eprintln!("  {:<12} {what:<28} {}", self.step, figure.show());
        self.figures.push(figure);
    }

    /// Resident memory, its anonymous part, and the peak since the last call.
    pub fn memory(&mut self, server: &Server, what: [&'static str; 3]) -> Result<()> {
        let m = server.memory()?;
        for (what, bytes) in what.into_iter().zip([m.rss, m.anon, m.peak]).filter(|(w, _)| !w.is_empty()) {
            self.add(what, bytes as f64, Unit::Bytes);
        }
        if let Some(pid) = server.target().pid {
            procfs::reset_peak(pid);
        }
        Ok(())
    }
}

type Step = fn(&Program, f64, &mut Notes) -> Result<()>;

const STEPS: &[(&str, Step)] = &[
    ("large", steps::large),
    ("watchers", steps::watchers),
    ("stuck", steps::stuck),
    ("leases", steps::leases),
    ("compaction", steps::compaction),
];

/// Runs the steps named (comma separated, or all). `scale` shrinks every size.
pub fn run(program: &Program, wanted: &str, scale: f64) -> Result<Outcome> {
    let known = |w: &str| w == "all" || STEPS.iter().any(|s| s.0 == w);
    if let Some(unknown) = wanted.split(',').find(|w| !known(w)) {
        bail!("no step {unknown}; there are: {}", STEPS.iter().map(|s| s.0).collect::<Vec<_>>().join(", "));
    }
    let mut outcome = Outcome { program: program.name.clone(), figures: Vec::new(), failures: Vec::new() };
    for (name, step) in STEPS.iter().filter(|s| wanted.split(',').any(|w| w == "all" || w == s.0)) {
        eprintln!("{}: {name}", program.name);
        let mut notes = Notes { step: name, figures: Vec::new() };
        let result = step(program, scale, &mut notes);
        outcome.figures.append(&mut notes.figures);
        match result {
            Err(e) if crate::interrupt::requested() => return Err(e),
            Err(e) => {
                eprintln!("  broke off: {e:#}");
                outcome.failures.push(format!("{name} on {}: {e:#}", program.name));
            }
            Ok(()) => {}
        }
    }
    Ok(outcome)
}

/// The figures of all programs beside each other, with the ratio of the last to the first.
pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut out = "| step | figure |".to_owned();
    outcomes.iter().for_each(|o| out += &format!(" {} |", o.program));
    out += " ratio |\n|---|---|";
    out += &"---|".repeat(outcomes.len() + 1);
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for f in outcomes.iter().flat_map(|o| &o.figures) {
        if !keys.contains(&(f.step, f.what)) {
            keys.push((f.step, f.what));
        }
    }
    for (step, what) in keys {
        let cells: Vec<_> =
            outcomes.iter().map(|o| o.figures.iter().find(|f| (f.step, f.what) == (step, what))).collect();
        out += &format!("\n| {step} | {what} |");
        cells.iter().for_each(|c| out += &format!(" {} |", c.map_or("?".to_owned(), Figure::show)));
        match (cells.first().copied().flatten(), cells.last().copied().flatten()) {
            (Some(a), Some(b)) if cells.len() > 1 => out += &format!(" {:.2}x |", b.value / a.value),
            _ => out += " |",
        }
    }
    out.push('\n');
    for failure in outcomes.iter().flat_map(|o| &o.failures) {
        out += &format!("\n- FAILED: {failure}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lined_up_and_missing_ones_shown() {
        let figure = |what, value| Figure { step: "s", what, value, unit: Unit::Bytes };
        let outcome = |program: &str, figures| Outcome { program: program.into(), figures, failures: vec![] };
        let text = markdown(&[
            outcome("etcd", vec![figure("a", 2097152.0), figure("b", 1048576.0)]),
            outcome("keepstone", vec![figure("a", 1048576.0)]),
        ]);
        assert!(text.contains("| s | a | 2 MiB | 1 MiB | 0.50x |"), "{text}");
        assert!(text.contains("| s | b | 1 MiB | ? | |"), "{text}");
    }
}
