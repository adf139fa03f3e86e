//! Two servers side by side: the same scenarios in alternating rounds, a fresh server each time, medians and ratios as a
//! Markdown table. Absolute figures of a shared machine mean little; the ratios of alternating rounds do.

use crate::report::{Report, mib, time};
use crate::scenario::{self, Kind, Settings};
use crate::server::{Program, Server};
use serde::Serialize;

/// All rounds of one scenario, first program and second.
#[derive(Serialize)]
pub struct Row {
    pub scenario: &'static str,
    pub programs: [String; 2],
    pub rounds: [Vec<Report>; 2],
    /// Rounds that broke off, and why.
    pub failures: Vec<String>,
}

/// Runs every scenario `rounds` times on both programs. A round that fails is noted and does not end the comparison, except
/// when the user interrupts it: then what there is so far comes back.
pub fn run(programs: &[Program; 2], scenarios: &[(&'static str, Kind)], rounds: usize, set: &Settings) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, kind) in scenarios {
        let names = [programs[0].name.clone(), programs[1].name.clone()];
        let mut row = Row { scenario: name, programs: names, rounds: [Vec::new(), Vec::new()], failures: Vec::new() };
        for round in 0..rounds {
            // Who goes first alternates too.
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let result = Server::start(&programs[side]).and_then(|s| scenario::run(name, *kind, &s.target(), set));
                let who = &programs[side].name;
                match result {
                    Ok(report) => {
                        eprintln!("{} {who:<10} {report}", round + 1);
                        if report.errors > 0 || report.check.is_err() {
                            row.failures
                                .push(format!("{name} on {who}: {} errors, check {:?}", report.errors, report.check));
                        }
                        row.rounds[side].push(report);
                    }
                    Err(_) if crate::interrupt::requested() => {
                        row.failures.push(format!("{name}: the comparison was interrupted here"));
                        rows.push(row);
                        return rows;
                    }
                    Err(e) => {
                        eprintln!("{} {who:<10} {name} broke off: {e:#}", round + 1);
                        row.failures.push(format!("{name} on {who} broke off: {e:#}"));
                    }
                }
            }
        }
        rows.push(row);
    }
    rows
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

type Column = (&'static str, fn(&Report) -> f64, fn(f64) -> String);

const COLUMNS: &[Column] = &[
    ("op/s", |r| r.ops_per_sec, |v| format!("{v:.0}")),
    ("p50", |r| r.latency_us.p50, time),
    ("p99", |r| r.latency_us.p99, time),
    ("server CPU/op", |r| r.server_cpu_us, time),
    ("RSS", |r| r.memory.rss as f64, |v| mib(v as u64)),
    ("peak RSS", |r| r.memory.peak as f64, |v| mib(v as u64)),
];

/// One line a scenario; each cell is the first program's median, the second's, and second over first.
pub fn markdown(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let [a, b] = &first.programs;
    let mut out = format!("Medians, `{a}` → `{b}` (`{b}` / `{a}`).\n\n| scenario |");
    COLUMNS.iter().for_each(|(title, ..)| out += &format!(" {title} |"));
    out += " events/s | event p99 | op/s ratio by round | server busy | client CPU/op (busy) |\n|---|";
    out += &"---|".repeat(COLUMNS.len() + 5);
    for row in rows {
        out += &format!("\n| {} |", row.scenario);
        for (_, get, show) in COLUMNS {
            out += &cell(row, |r| Some(get(r)), *show);
        }
        out += &cell(row, |r| r.events_per_sec, |v| format!("{v:.0}"));
        out += &cell(row, |r| r.event_latency_us.map(|l| l.p99), time);
        out += &format!(" {} |", spread(row));
        let of = |side: usize, get: fn(&Report) -> f64| median(row.rounds[side].iter().map(get).collect());
        let busy = |side| format!("{:.0} %", of(side, |r| r.server_busy) * 100.0);
        out += &format!(" {} → {} |", busy(0), busy(1));
        let cost =
            |side| format!("{} ({:.0} %)", time(of(side, |r| r.client_cpu_us)), of(side, |r| r.client_busy) * 100.0);
        out += &format!(" {} → {} |", cost(0), cost(1));
    }
    out.push('\n');
    for failure in rows.iter().flat_map(|r| &r.failures) {
        out += &format!("\n- FAILED: {failure}");
    }
    out
}

/// The lowest and the highest ratio of one round's rates: how far the machine's noise goes.
fn spread(row: &Row) -> String {
    let pairs = row.rounds[0].iter().zip(&row.rounds[1]);
    let mut ratios: Vec<f64> = pairs.map(|(a, b)| b.ops_per_sec / a.ops_per_sec).collect();
    ratios.sort_by(f64::total_cmp);
    match (ratios.first(), ratios.last()) {
        (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
        _ => "?".to_owned(),
    }
}

fn cell(row: &Row, get: impl Fn(&Report) -> Option<f64>, show: fn(f64) -> String) -> String {
    let [a, b] = [0, 1].map(|side| median(row.rounds[side].iter().filter_map(&get).collect()));
    match (a.is_nan(), b.is_nan()) {
        (true, true) => " |".to_owned(),
        (false, true) => format!(" {} → ? |", show(a)),
        (true, false) => format!(" ? → {} |", show(b)),
        (false, false) => format!(" {} → {} ({:.2}x) |", show(a), show(b), b / a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hist::Hist;
    use crate::report::{Meter, Target};

    #[test]
    fn the_median_of_even_and_odd_sets() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn a_table_shows_both_medians_and_their_ratio() {
        let target = Target { addr: "127.0.0.1:1".parse().unwrap(), pid: None };
        let meter = Meter::read(&target).unwrap();
        let report = |rate: f64| {
            let mut r = Report::new("put-1", &target, meter, Meter::read(&target).unwrap(), &Hist::new());
            r.ops_per_sec = rate;
            r
        };
        let row = Row {
            scenario: "put-1",
            programs: ["etcd".into(), "keepstone".into()],
            rounds: [vec![report(100.0), report(300.0)], vec![report(500.0)]],
            failures: vec!["why".into()],
        };
        let text = markdown(&[row]);
        assert!(text.contains("| put-1 | 200 → 500 (2.50x) |"), "{text}");
        assert!(text.ends_with("- FAILED: why"), "{text}");
        let lines: Vec<_> = text.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert!(lines.iter().all(|n| *n == lines[0]), "{text}");
    }
}
