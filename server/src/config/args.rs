//! The command line in Go's syntax: `--flag value`, `--flag=value`, one dash or two, switches without a value.

use super::error::{ConfigError, Source};
use super::settings::Settings;
use super::table::{self, Effect, Flag};

/// What a command line says.
#[derive(Debug)]
pub(crate) enum Line {
    /// `-h` or `--help` came before anything wrong.
    Help,
    Given {
        settings: Settings,
        /// The first word that is no flag; Go stops reading there.
        rest: Option<String>,
    },
}

/// One argument taken apart: the flag's name and, after `=`, its value.
pub(crate) enum Word<'a> {
    Flag {
        name: &'a str,
        value: Option<&'a str>,
    },
    /// `--`
    End,
    Plain,
}

/// Takes one argument apart.
///
/// # Errors
/// [`ConfigError::BadSyntax`] for `---x` and `-=x`.
pub(crate) fn take_apart(arg: &str) -> Result<Word<'_>, ConfigError> {
    if arg == "--" {
        return Ok(Word::End);
    }
    let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
        return Ok(Word::Plain);
    };
    if arg == "-" {
        return Ok(Word::Plain);
    }
    if name.starts_with(['-', '=']) {
        return Err(ConfigError::BadSyntax(arg.to_owned()));
    }
    Ok(match name.split_once('=') {
        Some((name, value)) => Word::Flag { name, value: Some(value) },
        None => Word::Flag { name, value: None },
    })
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// The first thing wrong, from the left.
pub(crate) fn read(args: &[String]) -> Result<Line, ConfigError> {
    let mut settings = Settings::default();
    let mut args = args.iter();
    let mut rest = None;
    while let Some(arg) = args.next() {
        let (name, value) = match take_apart(arg)? {
            Word::Flag { name, value } => (name, value),
            Word::End => {
                rest = args.next().cloned();
                break;
            }
            Word::Plain => {
                rest = Some(arg.clone());
                break;
            }
        };
        let Some(flag) = table::find(name) else {
            if matches!(name, "h" | "help") {
                return Ok(Line::Help);
            }
            return Err(unknown(name));
        };
        let text = match value {
            Some(value) => value,
            None if flag.is_switch() => "true",
            None => args.next().ok_or_else(|| ConfigError::NeedsArgument(name.to_owned()))?,
        };
        settings.set_text(flag, text, Source::Flag)?;
    }
    Ok(Line::Given { settings, rest })
}

/// An unknown flag, with the nearest known one if there is a near one.
pub(crate) fn unknown(name: &str) -> ConfigError {
    ConfigError::UnknownFlag {
        name: name.to_owned(),
        hint: nearest(name).map_or_else(String::new, |near| format!(" (did you mean --{near}?)")),
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    let worth_naming = |f: &&Flag| !matches!(f.effect, Effect::Alias(_) | Effect::GateAlias(_)) && f.name.len() > 2;
    let (distance, near) = table::all().filter(worth_naming).map(|f| (distance(name, f.name), f.name)).min()?;
    (distance <= 2 && distance * 3 <= near.len()).then_some(near)
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
