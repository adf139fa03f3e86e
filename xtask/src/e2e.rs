//! `cargo xtask e2e`: the operator's scenarios (tests/e2e) on a real Kubernetes, which is brought up for them and taken
//! down again.
//!
//! What has passed is written down with what it was run with, so that a run that was interrupted goes on where it was.

mod progress;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};

use crate::image::{self, IMAGES, Image};
use crate::part::Job;
use crate::place::Place;
use crate::run;
use progress::Progress;

const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
const CLUSTER_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Far above what any scenario takes.
const SCENARIO_LIMIT: Duration = Duration::from_secs(20 * 60);
/// The tag of all images but one: scenarios that change a cluster's version need two.
const TAG: &str = concat!("v", env!("CARGO_PKG_VERSION"));
const NEXT_TAG: &str = "v0.2.0";

#[derive(clap::Args)]
pub struct Args {
    /// Run a part only: `2/3` is the second of three.
    #[arg(long, value_parser = shard, default_value = "1/1")]
    shard: (usize, usize),
    /// What the cluster is made with.
    #[arg(long, value_enum, default_value_t = Driver::Lab)]
    driver: Driver,
    /// Leave the cluster up, and say how to reach it.
    #[arg(long)]
    keep: bool,
    /// Run what has passed already, too.
    #[arg(long)]
    again: bool,
    /// The most it may take; what is left then counts as failed, and is next when this is run again.
    #[arg(long, default_value_t = 40)]
    minutes: u64,
    /// Names of scenarios, without Test; all when none is given.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// Namespaces of this machine, see tests/e2e/lab.
    Lab,
    /// kind, which must be installed, and Docker.
    Kind,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parsed.filter(|(i, n)| (1..=*n).contains(i)).ok_or_else(|| "is not I/N".to_owned())
}

/// Programs in Go whose images the nodes have from the start.
const BASE: &[Image] = &[
    Image { about: "Holds a pod's namespaces", ..test_image("keepstone-e2e/pause", "pause") },
    Image { about: "The cluster's names", ..test_image("keepstone-e2e/coredns", "coredns") },
    Image { about: "The cluster's volumes", ..test_image("keepstone-e2e/local-path", "local-path") },
    Image { about: "Makes a volume's directory", ..test_image("keepstone-e2e/volume", "volume") },
];
/// And those that scenarios bring to whatever cluster there is.
const BROUGHT: &[Image] = &[
    Image { about: "Writes, reads and watches", ..test_image("keepstone-e2e/client", "client") },
    Image { about: "A bucket for backups", ..test_image("keepstone-e2e/s3", "s3") },
];

const fn test_image(repository: &'static str, program: &'static str) -> Image {
    Image { repository, program, also: &[], about: "", home: None }
}

/// Whether all scenarios that were asked for have passed, now or before.
///
/// # Errors
/// When there is nothing to run them with.
pub fn run(place: &Place, args: &Args) -> Result<bool> {
    let began = Instant::now();
    prepare(place, args.driver)?;
    let all = scenarios(place)?;
    let mut progress = Progress::open(place)?;
    if args.again {
        progress.forget()?;
    }
    let (i, n) = args.shard;
    let wanted: Vec<String> = named(&all, &args.scenarios)?.into_iter().skip(i - 1).step_by(n).collect();
    let left: Vec<&String> = wanted.iter().filter(|name| progress.took(name).is_none()).collect();
    if !left.is_empty() {
        let cluster = Cluster::up(place, args.driver)?;
        for name in left {
            if began.elapsed() > Duration::from_secs(args.minutes * 60) {
                println!("no time left for {name}");
                continue;
            }
            cluster.scenario(place, name, &mut progress)?;
        }
        if args.keep {
            cluster.describe(place);
        } else {
            cluster.down(place)?;
        }
    }
    Ok(table(&wanted, &progress))
}

/// All of them, or the shard that the arguments name: `prove e2e -- --shard 1/2`. What has passed is not run again, so that
/// it may be interrupted.
///
/// # Errors
/// When one does not pass.
pub fn prove(job: &Job) -> Result<()> {
    let given = job.args.iter().map(String::as_str);
    let Asked { args } = Asked::try_parse_from(std::iter::once("e2e").chain(given))?;
    ensure!(run(job.place, &args)?, "not all scenarios passed");
    Ok(())
}

#[derive(Parser)]
struct Asked {
    #[command(flatten)]
    args: Args,
}

/// Builds programs, scenarios and images.
fn prepare(place: &Place, driver: Driver) -> Result<()> {
    let deadline = Instant::now() + BUILD_LIMIT;
    let shipped: Vec<&Image> = IMAGES.iter().collect();
    image::compile(place, &shipped, deadline)?;
    let source = place.root.join("tests/e2e");
    let mut build = Command::new(source.join("build.sh"));
    build.arg(programs(place));
    let base = match driver {
        Driver::Lab => BASE,
        Driver::Kind => {
            build.arg("--no-lab");
            &[]
        }
    };
    run::to_end(&mut build, deadline)?;
    for image in base {
        let to = programs(place).join(format!("images/{}.tar", image.program));
        image::pack(place, image, &programs(place).join(image.program), "v1", &to)?;
    }
    let to = |image: &Image, tag: &str| brought(place).join(format!("{}-{tag}.tar", image.program));
    for image in BROUGHT {
        image::pack(place, image, &programs(place).join(image.program), "v1", &to(image, "v1"))?;
    }
    for image in IMAGES {
        for tag in [TAG, NEXT_TAG] {
            image::pack(place, image, &place.release(image.program), tag, &to(image, tag))?;
        }
    }
    Ok(())
}

fn programs(place: &Place) -> PathBuf {
    place.e2e().join("programs")
}

fn brought(place: &Place) -> PathBuf {
    place.e2e().join("images")
}

fn scenarios(place: &Place) -> Result<Vec<String>> {
    let out = Command::new(programs(place).join("scenarios.test")).args(["-test.list", "^Test"]).output()?;
    ensure!(out.status.success(), "the scenarios can't be listed: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_prefix("Test")).map(str::to_owned).collect())
}

fn named(all: &[String], names: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("no scenario {unknown}; there are {}", all.join(", "));
    }
    Ok(all.iter().filter(|name| names.is_empty() || names.contains(name)).cloned().collect())
}

struct Cluster {
    driver: Driver,
    dir: PathBuf,
}

impl Cluster {
    fn up(place: &Place, driver: Driver) -> Result<Self> {
        let cluster = Self { driver, dir: place.e2e().join("cluster") };
        let deadline = Instant::now() + CLUSTER_LIMIT;
        match driver {
            Driver::Lab => {
                let mut command = cluster.lab(place, "up");
                command.env("KEEPSTONE_BIN", place.release("keepstone")).env("E2E_PROGRAMS", programs(place));
                run::to_end(&mut command, deadline)?;
            }
            Driver::Kind => {
                std::fs::create_dir_all(&cluster.dir)?;
                let mut command = Command::new("kind");
                command.current_dir(&place.root).args(["create", "cluster", "--config", "kind-config.yaml"]);
                command.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--wait", "300s"]);
                run::to_end(&mut command, deadline).context("kind")?;
            }
        }
        Ok(cluster)
    }

    fn lab(&self, place: &Place, verb: &str) -> Command {
        let mut command = Command::new(programs(place).join("lab"));
        command.arg(verb).arg(&self.dir);
        command
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    fn environment(&self, place: &Place) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("KUBECONFIG", self.kubeconfig()),
            ("E2E_DRIVER", PathBuf::from(if self.driver == Driver::Lab { "lab" } else { "kind" })),
            ("E2E_LAB", programs(place).join("lab")),
            ("E2E_LAB_DIR", self.dir.clone()),
            ("E2E_HELM", programs(place).join("helm")),
            ("E2E_IMAGES", brought(place)),
            ("E2E_CHARTS", place.root.join("charts")),
        ]
    }

    /// Runs one. That it fails is not an error, but written in no list.
    fn scenario(&self, place: &Place, name: &str, progress: &mut Progress) -> Result<()> {
        println!("\n=== {name}");
        let began = Instant::now();
        let mut command = Command::new(programs(place).join("scenarios.test"));
        command.current_dir(place.root.join("tests/e2e/scenarios")).envs(self.environment(place));
        command.args(["-test.v", "-test.timeout", "19m", "-test.run", &format!("^Test{name}$")]);
        match run::to_end(&mut command, began + SCENARIO_LIMIT) {
            Ok(()) => progress.passed(name, began.elapsed()),
            Err(why) => {
                println!("=== {name}: FAILED in {} s: {why:#}", began.elapsed().as_secs());
                Ok(())
            }
        }
    }

    fn describe(&self, place: &Place) {
        println!("the cluster is up:");
        for (name, value) in self.environment(place) {
            println!("export {name}={}", value.display());
        }
    }

    fn down(&self, place: &Place) -> Result<()> {
        let deadline = Instant::now() + CLUSTER_LIMIT;
        match self.driver {
            Driver::Lab => run::to_end(&mut self.lab(place, "down"), deadline),
            Driver::Kind => {
                run::to_end(Command::new("kind").args(["delete", "cluster", "--name", "keepstone"]), deadline)
            }
        }
    }
}

fn table(wanted: &[String], progress: &Progress) -> bool {
    println!("\n{:<32} {:<8} time", "scenario", "result");
    for name in wanted {
        match progress.took(name) {
            Some(took) => println!("{name:<32} {:<8} {} s", "passed", took.as_secs()),
            None => println!("{name:<32} {:<8}", "FAILED"),
        }
    }
    let passed = wanted.iter().filter(|name| progress.took(name).is_some()).count();
    println!("{passed} of {} scenarios passed", wanted.len());
    passed == wanted.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_of_something() {
        assert_eq!(shard("2/3"), Ok((2, 3)));
        for wrong in ["", "2", "0/3", "4/3", "1/0", "a/b"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_scenarios_are_refused() {
        let all = ["A".to_owned(), "B".to_owned()];
        assert_eq!(named(&all, &[]).expect("all"), all);
        assert_eq!(named(&all, &all[1..]).expect("one"), all[1..]);
        assert!(named(&all, &["C".to_owned()]).is_err());
    }
}
