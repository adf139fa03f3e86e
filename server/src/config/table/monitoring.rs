//! Profiling, metrics, logging and tracing.

use super::{Flag, Kind, inert, on};

const TRACING: &str = "distributed tracing is not in this version";
const ROTATION: &str = "log files are not rotated by the member; use logrotate with copytruncate";

pub(super) const FLAGS: &[Flag] = &[
    on("enable-pprof", Kind::Bool, "false", "Serve /debug/pprof/ on the client URLs."),
    on("metrics", Kind::Text, "basic", "'extensive' adds a histogram for every gRPC method to the metrics."),
    on("listen-metrics-urls", Kind::Urls, "", "More URLs to serve /metrics, /health, /livez and /readyz on."),
    on("logger", Kind::OneOf(&["zap", "capnslog"]), "zap", "Only 'zap', etcd's JSON lines."),
    on(
        "log-outputs",
        Kind::List,
        "default",
        "'stderr', 'stdout', 'default' (stderr) or paths of files, comma-separated.",
    ),
    on("log-level", Kind::Text, "info", "debug, info, warn, error, panic or fatal."),
    on("log-format", Kind::Text, "json", "'json' or 'console' (text for people)."),
    inert("enable-log-rotation", Kind::Bool, "false", ROTATION),
    inert(
        "log-rotation-config-json",
        Kind::Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        ROTATION,
    ),
    on("warning-apply-duration", Kind::Duration, "100ms", "Warn about a request whose application takes longer."),
    on(
        "warning-unary-request-duration",
        Kind::Duration,
        "0s",
        "Warn about a unary request that takes longer; 0 means 300ms.",
    ),
    inert("enable-distributed-tracing", Kind::Bool, "false", TRACING),
    inert("distributed-tracing-address", Kind::Text, "localhost:4317", TRACING),
    inert("distributed-tracing-service-name", Kind::Text, "etcd", TRACING),
    inert("distributed-tracing-instance-id", Kind::Text, "", TRACING),
    inert("distributed-tracing-sampling-rate", Kind::Int, "0", TRACING),
];
