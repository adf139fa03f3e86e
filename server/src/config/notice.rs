//! What reading the configuration has to tell the operator. Collected first and logged later, because the log's own
//! settings are part of the configuration.

use tracing::{info, warn};

/// One thing to log once the log is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Info: a variable gave a setting.
    EnvironmentUsed { variable: String, value: String },
    /// `NAME=value` that begins like ours and is none.
    UnknownEnvironment(String),
    /// The file alone counts; `ignored` names the flags given beside it.
    FileLoaded { path: String, ignored: Vec<String> },
    /// A key of the file that is no setting.
    UnknownKey { path: String, key: String },
    /// A known setting with a value that changes nothing here.
    NoEffect { flag: String, value: String, why: &'static str },
    /// An old name.
    Deprecated { flag: &'static str, instead: String },
    /// A flag etcd dropped long ago.
    Retired(&'static str),
    /// HTTP and gRPC share a port.
    SinglePort,
    /// `--name` was not given.
    DefaultName,
    /// `--data-dir` was not given.
    DefaultDataDir(String),
    /// The advertised host was taken from the machine's default route.
    DefaultHost(String),
    /// Checkpoints that do not survive a restart.
    CheckpointWithoutPersist,
    /// `--auto-tls` beside a certificate; the text is `client` or `peer`.
    AutoTlsIgnored(&'static str),
    /// A URL without TLS though there is a certificate.
    PlainThoughCertificate { which: &'static str, url: String },
    /// A URL without TLS though certificates are asked for.
    PlainThoughAuth { which: &'static str, url: String },
    /// A value was moved into the allowed range.
    Adjusted { flag: &'static str, given: String, used: String },
}

impl Notice {
    /// Writes it to the log, in etcd's words where etcd has them.
    pub fn log(&self) {
        match self {
            Self::EnvironmentUsed { variable, value } => {
                info!("variable-name" = variable, "variable-value" = value, "recognized and used environment variable")
            }
            Self::UnknownEnvironment(pair) => {
                warn!("environment-variable" = pair, "unrecognized environment variable");
            }
            Self::FileLoaded { path, ignored } if ignored.is_empty() => info!(
                path,
                "loaded server configuration, other configuration command line flags and environment variables \
                 will be ignored if provided"
            ),
            Self::FileLoaded { path, ignored } => warn!(
                path,
                ignored = ignored.join(","),
                "loaded server configuration, other configuration command line flags and environment variables \
                 are ignored"
            ),
            Self::UnknownKey { path, key } => {
                warn!(path, key, "unrecognized key in the config file")
            }
            Self::NoEffect { flag, value, why } => warn!(flag, value, why, "setting has no effect"),
            Self::Deprecated { flag, instead } => {
                warn!("--{flag} is deprecated in v3.6 and will be decommissioned in v3.7. Use '{instead}' instead.");
            }
            Self::Retired(flag) => {
                warn!("flag-name" = flag, "flag is no longer supported - ignoring")
            }
            Self::SinglePort => {
                warn!("Running http and grpc server on single port. This is not recommended for production.");
            }
            Self::DefaultName => warn!(
                name = "default",
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might run \
                 into issue when multiple members have the same default name"
            ),
            Self::DefaultDataDir(dir) => {
                warn!("data-dir" = dir, "'data-dir' was empty; using default")
            }
            Self::DefaultHost(host) => info!(host, "detected default host for advertise"),
            Self::CheckpointWithoutPersist => warn!(
                "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
                 LeaseCheckpointPersist"
            ),
            Self::AutoTlsIgnored(which) => warn!("ignoring {which} auto TLS since certs given"),
            Self::PlainThoughCertificate { which: "peer", url } => {
                warn!(
                    "peer-url" = url,
                    "scheme is HTTP while key and cert files are present; ignoring key and cert files"
                );
            }
            Self::PlainThoughCertificate { url, .. } => warn!(
                "client-url" = url,
                "scheme is http or unix while key and cert files are present; ignoring key and cert files"
            ),
            Self::PlainThoughAuth { which: "peer", url } => warn!(
                "peer-url" = url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            ),
            Self::PlainThoughAuth { url, .. } => warn!(
                "client-url" = url,
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL"
            ),
            Self::Adjusted { flag, given, used } => {
                warn!(flag, given, used, "setting was moved into the allowed range");
            }
        }
    }
}
