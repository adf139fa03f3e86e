//! `--help` and the flag reference, both written from the table.

use std::fmt::Write;

use super::table::{Effect, Flag, SECTIONS};

const USAGE: &str = "Usage:

  keepstone [flags]
    Start a member.

  keepstone restore FILE --data-dir DIR [flags]
    Make a data directory from a backup of keepstone or etcd.

  keepstone wal export DIR --data-dir DIR
    Write the log of a stopped member in etcd's format.

  keepstone --version
    Show the version.

  keepstone -h | --help
    Show this help.

Every flag can be given as an environment variable: --data-dir is ETCD_DATA_DIR. Keepstone's own flags begin with
KEEPSTONE_ there. With --config-file (or ETCD_CONFIG_FILE) the file alone counts.
";

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut out = USAGE.to_owned();
    for section in SECTIONS {
        let _ = writeln!(out, "\n{}:", section.title);
        for flag in section.flags {
            let _ = writeln!(out, "  --{} '{}'\n    {}", flag.name, flag.default, described(flag));
        }
    }
    out
}

/// The same as a page of Markdown, for the documentation.
#[must_use]
pub fn reference() -> String {
    let mut out = "# Flags\n\nWritten from `server/src/config/table`.\n".to_owned();
    for section in SECTIONS {
        let _ = writeln!(out, "\n## {}\n\n| flag | default | effect |\n|---|---|---|", section.title);
        for flag in section.flags {
            let text = described(flag).replace('|', "\\|");
            let _ = writeln!(out, "| `--{}` | `{}` | {text} |", flag.name, flag.default);
        }
    }
    out
}

fn described(flag: &Flag) -> String {
    match flag.effect {
        Effect::Honoured | Effect::Early(_) => flag.help.to_owned(),
        Effect::NoEffect(why) => format!("No effect: {why}."),
        Effect::Refused(why) => format!("Refused: {why}."),
        Effect::Alias(of) => format!("Old name of --{of}."),
        Effect::GateAlias(gate) => format!("Old name of --feature-gates={gate}=true."),
    }
}
