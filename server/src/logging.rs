//! The member's log: etcd's JSON lines (`level`, `ts`, `caller`, `msg`, then the fields) or text for people.
//!
//! Whoever logs only copies a line into memory: a pipe that nobody reads, or a full disk, never holds up a request.
//! Past [`QUEUE_BYTES`] lines are dropped and counted, and the log says so when it can write again.

mod format;
mod queue;

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};
use queue::Queue;

/// Bytes of lines that may wait to be written.
pub const QUEUE_BYTES: usize = 8 << 20;
/// How long the end of the process waits for the last lines.
const LAST_FLUSH: Duration = Duration::from_secs(2);
/// Libraries whose info and debug lines tell an operator nothing, and a lot of it.
const QUIET: &[&str] = &["openraft", "h2", "hyper", "hyper_util", "tonic", "tower", "sled", "rustls"];

/// Those that warn of a member that is away ten times a second for as long as it is. It is told once, by whom it counts for.
const REPEATING: &[&str] =
    &["openraft::core::heartbeat", "openraft::replication", "openraft::engine::handler::replication_handler"];

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("--log-outputs {path:?}: {source}")]
    Open { path: std::path::PathBuf, source: std::io::Error },
    #[error("KEEPSTONE_LOG {text:?}: {reason} (allowed: directives such as openraft=debug,keepstone=debug)")]
    Directives { text: String, reason: String },
    #[error("the log's thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("there already is a log in this process")]
    AlreadyThere,
}

/// The log of this process. Dropping it writes what is still waiting, for at most two seconds.
#[must_use = "the last lines are lost without it"]
pub struct LogGuard {
    control: &'static LogControl,
}

/// The log of this process, from anywhere: [`control`].
pub struct LogControl {
    queue: Arc<Queue>,
}

static CONTROL: OnceLock<LogControl> = OnceLock::new();

/// The log's controls, once [`init`] has run.
#[must_use]
pub fn control() -> Option<&'static LogControl> {
    CONTROL.get()
}

/// Sets up the log of this process. `directives` are a developer's: levels by target, such as `openraft=debug`.
///
/// # Errors
/// [`LogError`].
pub fn init(config: &LogConfig, directives: Option<&str>) -> Result<LogGuard, LogError> {
    let directives = parse_directives(directives)?;
    let queue = Arc::new(Queue::new(QUEUE_BYTES));
    let lines = Lines { format: config.format, queue: Arc::clone(&queue) };
    let mut outputs = open(&config.outputs)?;
    let (writer, format) = (Arc::clone(&queue), config.format);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.write_to(&mut outputs, |count| format::dropped_line(format, count)))
        .map_err(LogError::Thread)?;
    let levels = targets(config.level, &directives);
    tracing_subscriber::registry().with(levels).with(lines).try_init().map_err(|_| LogError::AlreadyThere)?;
    let control = CONTROL.get_or_init(|| LogControl { queue });
    Ok(LogGuard { control })
}

impl LogControl {
    /// Waits until everything logged so far is written; false after `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        self.queue.flush(patience)
    }
}

impl std::ops::Deref for LogGuard {
    type Target = LogControl;

    fn deref(&self) -> &LogControl {
        self.control
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush(LAST_FLUSH);
    }
}

fn parse_directives(text: Option<&str>) -> Result<Targets, LogError> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(Targets::new());
    }
    text.parse().map_err(|e: tracing_subscriber::filter::ParseError| LogError::Directives {
        text: text.to_owned(),
        reason: e.to_string(),
    })
}

fn targets(level: LogLevel, directives: &Targets) -> Targets {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let quiet = QUIET.iter().map(|target| (*target, level.min(LevelFilter::WARN)));
    let repeating = REPEATING.iter().map(|target| (*target, LevelFilter::ERROR));
    Targets::new()
        .with_default(directives.default_level().unwrap_or(level))
        .with_targets(quiet)
        .with_targets(repeating)
        .with_targets(directives.iter())
}

fn open(outputs: &[LogOutput]) -> Result<Vec<Box<dyn Write + Send>>, LogError> {
    outputs
        .iter()
        .map(|output| -> Result<Box<dyn Write + Send>, LogError> {
            Ok(match output {
                LogOutput::Stderr => Box::new(std::io::stderr()),
                LogOutput::Stdout => Box::new(std::io::stdout()),
                LogOutput::File(path) => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    Box::new(file.map_err(|source| LogError::Open { path: path.clone(), source })?)
                }
            })
        })
        .collect()
}

/// Turns events into lines and hands them to the queue.
struct Lines {
    format: LogFormat,
    queue: Arc<Queue>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _ctx: Context<'_, S>) {
        self.queue.push(&format::line(self.format, event));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc;

    use super::*;

    /// A writer that hands over what it gets.
    struct Pipe(mpsc::Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs `work` under a log and gives back what was written.
    fn logged(level: LogLevel, directives: &str, format: LogFormat, work: impl FnOnce()) -> String {
        let queue = Arc::new(Queue::new(QUEUE_BYTES));
        let (sender, receiver) = mpsc::channel();
        let writer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            let mut outputs: Vec<Box<dyn Write + Send>> = vec![Box::new(Pipe(sender))];
            writer.write_to(&mut outputs, |n| format::dropped_line(format, n));
        });
        let directives = parse_directives(Some(directives)).expect("valid");
        let subscriber = tracing_subscriber::registry()
            .with(targets(level, &directives))
            .with(Lines { format, queue: Arc::clone(&queue) });
        tracing::subscriber::with_default(subscriber, work);
        queue.close();
        thread.join().expect("the writer ends");
        let bytes: Vec<u8> = receiver.iter().flatten().collect();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn json_lines_have_etcds_fields() {
        let text = logged(LogLevel::Info, "", LogFormat::Json, || {
            let took = "1\"2\n";
            tracing::info!("local-member-id" = "8e9e05c52164694d", took, count = 3u64, ok = true, "it {}", "works");
            tracing::warn!(error = %io::Error::other("gone"), some_list = ?[1, 2], ratio = 0.5, minus = -1, "bad");
            tracing::debug!("unseen");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|l| serde_json::from_str(l).expect("one object a line")).collect();
        assert_eq!(lines.len(), 2);
        assert!(text.starts_with(r#"{"level":"info","ts":""#), "{text}");
        assert_eq!(lines[0]["msg"], "it works");
        assert_eq!(lines[0]["local-member-id"], "8e9e05c52164694d");
        assert_eq!(lines[0]["took"], "1\"2\n");
        assert_eq!((&lines[0]["count"], &lines[0]["ok"]), (&3.into(), &true.into()));
        let caller = lines[0]["caller"].as_str().expect("a text");
        assert!(caller.starts_with("src/logging.rs:"), "{caller}");
        assert_eq!((&lines[1]["level"], &lines[1]["error"]), (&"warn".into(), &"gone".into()));
        assert_eq!(lines[1]["some-list"], "[1, 2]");
        assert_eq!((&lines[1]["ratio"], &lines[1]["minus"]), (&0.5.into(), &(-1).into()));
    }

    #[test]
    fn console_lines_are_for_people() {
        let text = logged(LogLevel::Debug, "", LogFormat::Console, || {
            tracing::debug!(name = "a b", count = 1, "hello");
        });
        let columns: Vec<&str> = text.trim_end().split('\t').collect();
        assert_eq!(columns.len(), 5, "{text}");
        assert_eq!((columns[1], columns[3], columns[4]), ("debug", "hello", r#"name="a b" count=1"#));
    }

    #[test]
    fn libraries_are_quiet_unless_asked() {
        let work = || {
            tracing::info!(target: "openraft::core", "chatter");
            tracing::warn!(target: "openraft::core", "trouble");
            tracing::warn!(target: "openraft::core::heartbeat::worker", "the same trouble, ten times a second");
            tracing::info!("ours");
        };
        let count = |level, directives| logged(level, directives, LogFormat::Json, work).lines().count();
        assert_eq!(count(LogLevel::Debug, ""), 2);
        assert_eq!(count(LogLevel::Info, ""), 2);
        assert_eq!(count(LogLevel::Error, ""), 0);
        assert_eq!(count(LogLevel::Info, "openraft=info"), 3);
        assert_eq!(count(LogLevel::Info, "openraft::core=off"), 1);
        assert!(parse_directives(Some("a=b=c")).is_err());
    }

    #[test]
    fn a_file_is_appended_to_and_a_bad_path_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("k.log");
        for _ in 0..2 {
            let mut outputs = open(&[LogOutput::File(path.clone())]).expect("opens");
            outputs[0].write_all(b"x\n").expect("written");
        }
        assert_eq!(std::fs::read(&path).expect("there"), b"x\nx\n");
        let error = open(&[LogOutput::File(dir.path().join("no/dir"))]).err().expect("no directory");
        assert!(error.to_string().starts_with("--log-outputs "), "{error}");
    }
}
