//! Runs a program to its end, or to its deadline: then it and everything it started is killed, by process ID.

use std::collections::HashMap;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs a program that must succeed, without input, its output shown.
///
/// # Errors
/// When it can't be started, fails, or is not done by `deadline`.
pub fn to_end(command: &mut Command, deadline: Instant) -> Result<()> {
    let shown = shown(command);
    println!("$ {shown}");
    let status = wait(command, deadline).with_context(|| shown.clone())?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

fn wait(command: &mut Command, deadline: Instant) -> Result<ExitStatus> {
    let mut child = command.stdin(Stdio::null()).spawn().context("does not start")?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            kill_family(child.id());
            child.wait()?;
            bail!("was not done in time and was killed");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The command as a person would type it, without variables.
fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

/// Kills a process and its descendants. A process group would do it too, but takes Ctrl-C away from them.
fn kill_family(eldest: u32) {
    let mut family = vec![eldest];
    let children = children();
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        family.extend(children.get(pid).into_iter().flatten().copied());
        next += 1;
    }
    let pids = family.iter().map(u32::to_string);
    // Some may be gone already, which is as good.
    drop(Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status());
}

/// Who started whom, from /proc.
fn children() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The parent in a line of /proc/PID/stat. The name before it is in brackets and may hold anything.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_parent_behind_any_name() {
        assert_eq!(parent_of("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of("12 (broken"), None);
    }

    #[test]
    fn a_program_past_its_deadline_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let pids = dir.path().join("pid");
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("sleep 1000 & echo $! > {}; wait", pids.display()));
        let began = Instant::now();
        assert!(to_end(&mut command, began + Duration::from_millis(500)).is_err());
        assert!(began.elapsed() < Duration::from_secs(100));
        let pid = std::fs::read_to_string(pids).expect("it started");
        // Killed, though it takes its time to go, and whoever inherits it to collect it.
        let runs =
            || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"));
        while runs() {
            assert!(began.elapsed() < Duration::from_secs(100), "it goes on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn failures_are_errors() {
        let far = Instant::now() + Duration::from_secs(60);
        assert!(to_end(&mut Command::new("true"), far).is_ok());
        assert!(to_end(&mut Command::new("false"), far).is_err());
        assert!(to_end(&mut Command::new("no such program"), far).is_err());
    }
}
