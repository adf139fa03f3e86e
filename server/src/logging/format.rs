//! An event as a line of bytes: etcd's JSON, or columns for people.

use std::fmt;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::config::LogFormat;

/// The line of an event, with its line end.
pub(super) fn line(format: LogFormat, event: &Event<'_>) -> Vec<u8> {
    let mut fields = Fields { format, message: String::new(), file: None, line: None, rest: String::new() };
    event.record(&mut fields);
    let meta = event.metadata();
    let caller = match fields.file.as_deref().or(meta.file()) {
        Some(file) => format!("{}:{}", short(file), fields.line.or(meta.line()).unwrap_or_default()),
        None => meta.target().to_owned(),
    };
    assemble(format, level(meta.level()), &caller, &fields.message, &fields.rest)
}

/// The line that tells of lines nobody will read.
pub(super) fn dropped_line(format: LogFormat, count: u64) -> Vec<u8> {
    let mut fields = String::new();
    field(format, &mut fields, "dropped-lines", &count.to_string(), false);
    let caller = format!("logging/queue.rs:{}", line!());
    assemble(format, "warn", &caller, "log lines were dropped because the output did not keep up", &fields)
}

fn assemble(format: LogFormat, level: &str, caller: &str, message: &str, fields: &str) -> Vec<u8> {
    let mut out = String::with_capacity(96 + message.len() + fields.len());
    let now = timestamp(SystemTime::now());
    match format {
        LogFormat::Json => {
            let _ = write!(out, r#"{{"level":"{level}","ts":"{now}","caller":"#);
            quote(&mut out, caller);
            out.push_str(r#","msg":"#);
            quote(&mut out, message);
            out.push_str(fields);
            out.push_str("}\n");
        }
        LogFormat::Console => {
            let _ = write!(out, "{now}\t{level}\t{caller}\t{message}");
            if !fields.is_empty() {
                out.push('\t');
                out.push_str(fields.trim_start());
            }
            out.push('\n');
        }
    }
    out.into_bytes()
}

fn level(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The file and the directory it is in, as zap writes callers.
fn short(file: &str) -> &str {
    let mut slashes = file.rmatch_indices('/').map(|(at, _)| at);
    let _ = slashes.next();
    slashes.next().map_or(file, |at| &file[at + 1..])
}

/// JSON's quotes; a control character or a quote cannot break out of them.
fn quote(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// One field, with what separates it from the one before.
fn field(format: LogFormat, out: &mut String, name: &str, value: &str, is_text: bool) {
    // etcd's fields have dashes where Rust's names cannot.
    let name = name.strip_prefix("r#").unwrap_or(name).replace('_', "-");
    match format {
        LogFormat::Json => {
            out.push(',');
            quote(out, &name);
            out.push(':');
        }
        LogFormat::Console => {
            let _ = write!(out, " {name}=");
        }
    }
    let bare = format == LogFormat::Console && !value.contains([' ', '"', '=', '\n', '\t']) && !value.is_empty();
    if is_text && !bare {
        quote(out, value);
    } else {
        out.push_str(value);
    }
}

/// Collects an event's fields; the message is kept apart, as are the places that the `log` crate's records name.
struct Fields {
    format: LogFormat,
    message: String,
    file: Option<String>,
    line: Option<u32>,
    rest: String,
}

impl Fields {
    fn text(&mut self, name: &str, value: &str) {
        match name {
            "message" => value.clone_into(&mut self.message),
            "log.file" => self.file = Some(value.to_owned()),
            "log.target" | "log.module_path" => {}
            _ => field(self.format, &mut self.rest, name, value, true),
        }
    }

    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        field(self.format, &mut self.rest, name, &value.to_string(), false);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, f: &Field, value: &dyn fmt::Debug) {
        self.text(f.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, f: &Field, value: &str) {
        self.text(f.name(), value);
    }

    fn record_i64(&mut self, f: &Field, value: i64) {
        self.plain(f.name(), value);
    }

    fn record_u64(&mut self, f: &Field, value: u64) {
        if f.name() == "log.line" {
            self.line = u32::try_from(value).ok();
        } else {
            self.plain(f.name(), value);
        }
    }

    fn record_i128(&mut self, f: &Field, value: i128) {
        self.plain(f.name(), value);
    }

    fn record_u128(&mut self, f: &Field, value: u128) {
        self.plain(f.name(), value);
    }

    fn record_bool(&mut self, f: &Field, value: bool) {
        self.plain(f.name(), value);
    }

    fn record_f64(&mut self, f: &Field, value: f64) {
        if value.is_finite() {
            self.plain(f.name(), value);
        } else {
            // JSON has no such numbers.
            self.text(f.name(), &value.to_string());
        }
    }

    fn record_error(&mut self, f: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(f.name(), &value.to_string());
    }
}

/// UTC in etcd's form, `2006-01-02T15:04:05.000000Z`.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

/// Year, month and day of a number of days since 1970 (Howard Hinnant's algorithm, for dates from 1970 on).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is their last.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_etcds() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (951_868_799_999_999, "2000-02-29T23:59:59.999999Z"),
            (1_795_260_673_534_365, "2026-11-21T11:31:13.534365Z"),
            (4_107_542_399_000_000, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn callers_are_short() {
        assert_eq!(short("server/src/raft/log.rs"), "raft/log.rs");
        assert_eq!(short("src/main.rs"), "src/main.rs");
        assert_eq!(short("/a/main.rs"), "a/main.rs");
        assert_eq!(short("main.rs"), "main.rs");
    }

    #[test]
    fn dropped_lines_are_told_in_both_formats() {
        let json: serde_json::Value = serde_json::from_slice(&dropped_line(LogFormat::Json, 7)).expect("an object");
        assert_eq!((&json["level"], &json["dropped-lines"]), (&"warn".into(), &7.into()));
        let console = String::from_utf8(dropped_line(LogFormat::Console, 7)).expect("text");
        assert!(console.ends_with("\tdropped-lines=7\n"), "{console}");
    }
}
