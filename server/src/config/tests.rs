//! Tables of what is given and what comes of it, through the same door as the real command line.

mod file;
mod names;
mod pods;
mod rules;
mod sources;
mod tls;
mod tools;

use super::{Command, Config, ConfigError, Surroundings};

/// A command line, with no variables around it.
fn line(args: &[&str]) -> Result<Config, ConfigError> {
    with_env(&[], args)
}

fn with_env(env: &[(&str, &str)], args: &[&str]) -> Result<Config, ConfigError> {
    let around = Surroundings {
        env: env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        default_host: || Some("192.0.2.7".to_owned()),
    };
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    match Command::parse(&args, &around)? {
        Command::Server(config) => Ok(*config),
        other => panic!("not a member: {other:?}"),
    }
}

/// The message and exit code of a line that must fail.
fn fails(args: &[&str]) -> (String, u8) {
    let error = line(args).expect_err(&args.join(" "));
    (error.to_string(), error.exit_code())
}
