//! The parts written in Go: official clients, etcd's own tests, comparisons answer by answer. See tests/conformance.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::part::Job;
use crate::place::Place;
use crate::run;

/// Builds etcd, its tools and its tests, unless they are there.
///
/// # Errors
/// When there is no Go, or they do not build.
pub fn tools(job: &Job) -> Result<()> {
    let mut command = Command::new(job.place.conformance().join("build-tools.sh"));
    run::to_end(command.arg(job.place.etcd_tools()), job.deadline)
}

/// `go` in the tests' directory, told which server and which tools to use.
pub fn go(place: &Place, server: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(place.conformance());
    command.env("KEEPSTONE_BIN", server).env("ETCD_TOOLS", place.etcd_tools());
    command
}

/// `go test` of the development build. Always anew: Go would call a run cached although the server changed.
fn test(job: &Job, package: &str, more: &[(&str, &str)], args: &[&str]) -> Result<()> {
    let mut command = go(job.place, &job.place.dev("keepstone"));
    command.envs(more.iter().copied());
    command.args(["test", "-count=1", "-p", "1", "-parallel", "4", "-timeout", "20m"]).args(args).arg(package);
    run::to_end(&mut command, job.deadline)
}

pub fn conformance(job: &Job) -> Result<()> {
    const SHORT: &[&str] =
        &["-run", "^Test(PutGetDelete|RangeOptions|Txn|CompareAndSwap|WatchPrefix|LeaseLifecycle|Errors)"];
    test(job, ".", &[], if job.quick { SHORT } else { &[] })
}

pub fn differential(job: &Job) -> Result<()> {
    test(job, "./differential", &[], &[])
}

pub fn differential_long(job: &Job) -> Result<()> {
    test(job, "./differential", &[("DIFF_SEEDS", "100")], &["-v"])
}

pub fn etcdctl(job: &Job) -> Result<()> {
    test(job, "./etcdctl", &[], &[])
}

pub fn clusters(job: &Job) -> Result<()> {
    test(job, "./cluster", &[], &[])
}

pub fn tls(job: &Job) -> Result<()> {
    test(job, "./tls", &[], &[])
}

pub fn lease_checkpoint(job: &Job) -> Result<()> {
    test(job, ".", &[("CONFORMANCE_SLOW", "1")], &["-v", "-run", "^TestLeaseCheckpointKept$"])
}

/// `etcdctl check perf` measures, so it looks at the release build.
pub fn check_perf(job: &Job) -> Result<()> {
    for load in ["s", "m", "l"] {
        let mut command = go(job.place, &job.place.release("keepstone"));
        command.env("ETCDCTL_CHECK_PERF", load);
        command.args(["test", "-count=1", "-v", "-run", "^TestCheckPerf$", "./etcdctl"]);
        run::to_end(&mut command, job.deadline)?;
    }
    Ok(())
}

pub fn common(job: &Job) -> Result<()> {
    let mut command = go(job.place, &job.place.dev("keepstone"));
    run::to_end(command.args(["run", "-buildvcs=false", "./common"]), job.deadline)
}

/// Backups and logs in both directions, read by either side's tools.
pub fn moving(job: &Job) -> Result<()> {
    test(job, "./walread", &[], &[])?;
    test(job, "./moving", &[], &[])
}

/// Members that die at every place where something goes to disk. See docs/fail-points.md.
pub fn failpoints(job: &Job) -> Result<()> {
    test(job, "./failpoints", &[], &[])
}

/// etcd's robustness tests: 8 scenarios, four times with faults at random. They measure their traffic: a machine that does
/// too much else fails them.
pub fn robustness(job: &Job) -> Result<()> {
    let mut command = Command::new("go");
    command.current_dir(job.place.root.join("tests/robustness"));
    command.env("KEEPSTONE_BIN", job.place.dev("keepstone")).env("ETCD_TOOLS", job.place.etcd_tools());
    command.env("ROBUSTNESS_COUNT", "4");
    run::to_end(command.args(["test", "-count=1", "-v", "-timeout", "60m", "."]), job.deadline)
}

/// What judges the end-to-end tests, and what they run in, as far as it can be tested without a cluster.
pub fn e2e(job: &Job) -> Result<()> {
    let mut command = Command::new("go");
    command.current_dir(job.place.root.join("tests/e2e")).env("KEEPSTONE_BIN", job.place.dev("keepstone"));
    run::to_end(command.args(["test", "-count=1", "./lab", "./history", "./client"]), job.deadline)?;
    let mut command = Command::new("go");
    command.current_dir(job.place.root.join("tests/e2e"));
    run::to_end(command.args(["vet", "./..."]), job.deadline)
}

/// Backups into a real S3 server, which is built as a tool of the module.
pub fn s3(job: &Job) -> Result<()> {
    let dir = job.place.root.join("tests/e2e/s3");
    let server = job.place.s3_tools().join("versitygw");
    let mut build = Command::new("go");
    build.current_dir(&dir).args(["build", "-o"]).arg(&server).arg("github.com/versity/versitygw/cmd/versitygw");
    run::to_end(&mut build, job.deadline)?;
    let mut command = Command::new("go");
    command.current_dir(dir);
    command.env("KEEPSTONE_BIN", job.place.dev("keepstone"));
    command.env("KEEPSTONE_OPERATOR_BIN", job.place.dev("keepstone-operator"));
    command.env("VERSITYGW_BIN", server);
    command.env("ETCDUTL_BIN", job.place.etcd_tools().join("etcdutl"));
    run::to_end(command.args(["test", "-count=1", "-v", "./..."]), job.deadline)
}

/// A real kube-apiserver on a member that is killed under load. See tests/kube.
pub fn kube(job: &Job) -> Result<()> {
    let dir = job.place.root.join("tests/kube");
    let tools = job.place.kube_tools();
    run::to_end(Command::new(dir.join("build.sh")).arg(&tools), job.deadline)?;
    let mut command = Command::new("go");
    command.current_dir(dir);
    command.env("KEEPSTONE_BIN", job.place.dev("keepstone"));
    command.env("KUBE_APISERVER_BIN", tools.join("kube-apiserver"));
    command.env("KEEPSTONE_OPERATOR_BIN", job.place.dev("keepstone-operator"));
    command.env("HELM_BIN", tools.join("helm"));
    run::to_end(command.args(["test", "-count=1", "-v", "./..."]), job.deadline)
}
