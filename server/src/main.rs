//! Arguments become a [`Command`], and the command is carried out. Nothing else happens here.

use std::fmt::Display;
use std::process::ExitCode;

use keepstone::config::{Command, Config, Surroundings};
use keepstone::{huge_pages, logging, restore, version, wal_export};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args = Vec::new();
    for arg in std::env::args_os() {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => return wrong(&format!("an argument is no Unicode: {}", arg.display()), 2),
        }
    }
    let program = args.first().cloned().unwrap_or_default();
    let command = match Command::parse(args.get(1..).unwrap_or_default(), &Surroundings::real()) {
        Ok(command) => command,
        Err(error) => return wrong(&error.to_string(), error.exit_code()),
    };
    match command {
        Command::Help(text) => print(&text),
        Command::Version => print(&version::text(&program)),
        Command::Server(config) => serve(*config),
        Command::Restore(args) => report(restore::run(&args)),
        Command::WalExport(args) => report(wal_export::run(&args)),
    }
}

/// Runs a member until it is told to stop.
fn serve(config: Config) -> ExitCode {
    huge_pages::hold_back();
    let breakable = match keepstone_failpoint::switch_on() {
        Ok(breakable) => breakable,
        Err(error) => return wrong(&error.to_string(), 1),
    };
    let directives = std::env::var("KEEPSTONE_LOG").ok();
    // Kept to the end: dropping it writes the last lines.
    let _log = match logging::init(&config.log, directives.as_deref()) {
        Ok(log) => log,
        Err(error) => return wrong(&error.to_string(), 1),
    };
    for notice in &config.notices {
        notice.log();
    }
    if breakable {
        tracing::warn!("fail points are on: whoever reaches them may end or stop this member. Not for production");
    }
    match keepstone::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the member stopped");
            ExitCode::FAILURE
        }
    }
}

/// What an offline tool has to say.
fn report(result: Result<impl Display, impl Display>) -> ExitCode {
    match result {
        Ok(done) => print(&format!("{done}\n")),
        Err(error) => wrong(&error.to_string(), 1),
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    // Whoever closes the pipe early has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn wrong(text: &str, code: u8) -> ExitCode {
    eprintln!("keepstone: {text}");
    if code == 2 {
        eprintln!("run 'keepstone --help' for the flags");
    }
    ExitCode::from(code)
}
