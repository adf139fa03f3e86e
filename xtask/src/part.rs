//! A run of parts: each is named, timed and judged; all that can run do run, and a table at the end says what came of it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::place::Place;

/// What a part is given.
pub struct Job<'a> {
    pub place: &'a Place,
    /// When it is to be done.
    pub deadline: Instant,
    /// Whether a short look is enough.
    pub quick: bool,
    /// More arguments for the part's program, where it takes any.
    pub args: &'a [String],
}

/// What a part needs to be built. Each is a part itself, which others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Dev,
    Tools,
    Release,
}

pub struct Part {
    pub name: &'static str,
    pub about: &'static str,
    /// The longest it may take, far above what it does take.
    pub minutes: u64,
    pub needs: &'static [Need],
    /// What is there after it. When such a part fails, nothing else is worth running.
    pub makes: Option<Need>,
    /// Whether it belongs to the quick run.
    pub quick: bool,
    pub run: fn(&Job) -> Result<()>,
}

/// The parts that are named, in the table's order, with the builds they need; all of them when none is named.
///
/// # Errors
/// A name that no part has.
pub fn chosen<'a>(table: &'a [Part], names: &[String]) -> Result<Vec<&'a Part>> {
    for name in names {
        if !table.iter().any(|part| part.name == name) {
            let known: Vec<&str> = table.iter().map(|part| part.name).collect();
            bail!("no part {name}; there are {}", known.join(", "));
        }
    }
    let named = |part: &Part| names.is_empty() || names.iter().any(|name| name == part.name);
    let needed: Vec<Need> = table.iter().filter(|part| named(part)).flat_map(|part| part.needs).copied().collect();
    let wanted = |part: &&Part| named(part) || part.makes.is_some_and(|made| needed.contains(&made));
    Ok(table.iter().filter(wanted).collect())
}

enum Outcome {
    Passed(Duration),
    Failed(Duration),
    NotRun(&'static str),
}

/// Runs parts one after the other, at most `limit` in all, and prints the table. Whether all passed.
pub fn run_all(place: &Place, parts: &[&Part], quick: bool, args: &[String], limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let mut outcomes: Vec<(&str, Outcome)> = Vec::new();
    let mut broken = false;
    for part in parts {
        let outcome = if broken {
            Outcome::NotRun("a build failed")
        } else if Instant::now() >= end {
            Outcome::NotRun("no time left")
        } else {
            run_one(place, part, quick, args, end)
        };
        broken |= part.makes.is_some() && !matches!(outcome, Outcome::Passed(_));
        outcomes.push((part.name, outcome));
    }
    summary(&outcomes)
}

fn run_one(place: &Place, part: &Part, quick: bool, args: &[String], end: Instant) -> Outcome {
    println!("\n=== {}: {}", part.name, part.about);
    let began = Instant::now();
    let deadline = end.min(began + Duration::from_secs(part.minutes * 60));
    let result = (part.run)(&Job { place, deadline, quick, args });
    let took = began.elapsed();
    match result {
        Ok(()) => {
            println!("=== {}: passed in {}", part.name, seconds(took));
            Outcome::Passed(took)
        }
        Err(why) => {
            println!("=== {}: FAILED in {}: {why:#}", part.name, seconds(took));
            Outcome::Failed(took)
        }
    }
}

fn summary(outcomes: &[(&str, Outcome)]) -> bool {
    println!("\n{:<16} {:<10} time", "part", "result");
    let (mut passed, mut total) = (0, Duration::ZERO);
    for (name, outcome) in outcomes {
        let (word, took) = match outcome {
            Outcome::Passed(took) => ("passed", *took),
            Outcome::Failed(took) => ("FAILED", *took),
            Outcome::NotRun(why) => {
                println!("{name:<16} {:<10} {why}", "NOT RUN");
                continue;
            }
        };
        passed += usize::from(matches!(outcome, Outcome::Passed(_)));
        total += took;
        println!("{name:<16} {word:<10} {:>9}", seconds(took));
    }
    println!("{:<16} {:<10} {:>9}", "all", "", seconds(total));
    println!("{passed} passed, {} failed", outcomes.len() - passed);
    passed == outcomes.len()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Part] = &[
        part("a", &[], Some(Need::Dev)),
        part("b", &[Need::Dev], None),
        part("c", &[], Some(Need::Tools)),
        part("d", &[Need::Tools, Need::Dev], None),
    ];

    const fn part(name: &'static str, needs: &'static [Need], makes: Option<Need>) -> Part {
        Part { name, about: "", minutes: 1, needs, makes, quick: false, run: |_| Ok(()) }
    }

    fn names(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        chosen(TABLE, &names).expect("known").iter().map(|part| part.name).collect()
    }

    #[test]
    fn brings_what_a_part_needs() {
        assert_eq!(names(&[]), ["a", "b", "c", "d"]);
        assert_eq!(names(&["b"]), ["a", "b"]);
        assert_eq!(names(&["d"]), ["a", "c", "d"]);
        assert_eq!(names(&["c"]), ["c"]);
        assert!(chosen(TABLE, &["e".to_owned()]).is_err());
    }
}
