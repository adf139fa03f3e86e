//! What can be asked for. Names and meaning of the orders are those of `EtcdOperation`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use keepstone_operator_api::Span;

#[derive(Parser, Debug)]
#[command(
    name = "kubectl keepstone",
    bin_name = "kubectl keepstone",
    version,
    about = "Keepstone clusters and orders to them"
)]
pub struct Arguments {
    #[command(flatten)]
    pub reach: Reach,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Which Kubernetes, and where in it: as kubectl has them.
#[derive(Args, Debug, Default, Clone)]
pub struct Reach {
    /// The namespace; that of the context where absent.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The kubeconfig; $KUBECONFIG and then ~/.kube/config where absent.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the operator runs, for who may not look for it everywhere.
    #[arg(long, global = true, default_value = "keepstone-system", value_name = "NAMESPACE")]
    pub operator_namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Json,
    Yaml,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Shows how a cluster is; a list where there are several and none is named.
    Status {
        cluster: Option<String>,
        /// The clusters of all namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[arg(short, long)]
        output: Option<Output>,
    },
    /// Shows the members, their pods and volumes.
    Members {
        cluster: Option<String>,
        #[arg(short, long)]
        output: Option<Output>,
    },
    /// Takes a backup.
    Backup(Backup),
    /// Gives free space of the stores back, one member at a time.
    Defrag {
        #[command(flatten)]
        order: Order,
        /// Pods; all members where none is named.
        members: Vec<String>,
    },
    /// Forgets old revisions.
    Compact {
        #[command(flatten)]
        order: Order,
        #[command(flatten)]
        upto: Upto,
    },
    /// Hands leadership over.
    MoveLeader {
        #[command(flatten)]
        order: Order,
        /// The pod that leads from then on; a healthy follower where absent.
        #[arg(long, value_name = "POD")]
        to: Option<String>,
    },
    /// Removes a member with its data, and adds a new one in its place.
    ReplaceMember {
        #[command(flatten)]
        order: Order,
        /// Its pod.
        member: String,
    },
    /// Restarts members, one at a time, the leader last.
    Restart {
        #[command(flatten)]
        order: Order,
        /// Pods; all members where none is named.
        members: Vec<String>,
    },
    /// Takes an alarm back whose cause is gone.
    DisarmAlarm {
        #[command(flatten)]
        order: Order,
        alarm: Alarm,
        /// The pod whose alarm it is; that of all where absent.
        #[arg(long, value_name = "POD")]
        member: Option<String>,
    },
    /// Goes on with one survivor after a majority is lost for good; what only the others knew is lost.
    RecoverQuorum {
        #[command(flatten)]
        order: Order,
        /// The pod whose data is gone on with; the condition names the one that knows most.
        #[arg(long, value_name = "POD")]
        survivor: String,
        /// NAME/ID of the cluster that is given up; as it is now where absent. The operator refuses while there is a quorum.
        #[arg(long, value_name = "NAME/ID")]
        confirm: Option<String>,
    },
    /// Puts a backup in the place of what the cluster holds.
    Restore {
        #[command(flatten)]
        order: Order,
        /// The EtcdBackup.
        #[arg(long, value_name = "NAME")]
        backup: String,
        /// NAME/ID of the cluster whose data is replaced.
        #[arg(long, value_name = "NAME/ID")]
        confirm: String,
        /// How many revisions are skipped, so that none that a client may have seen comes again.
        #[arg(long)]
        bump_revision: Option<u64>,
        /// Saves nothing of what is there.
        #[arg(long)]
        no_snapshot: bool,
    },
    /// Puts all that tells how a cluster is into one file, for whoever is to help; without what Secrets hold.
    Report {
        cluster: Option<String>,
        /// keepstone-report-NAMESPACE-NAME-TIME.tar.gz where absent.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How much of logs is taken in all.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=4096), value_name = "MIB")]
        log_megabytes: u64,
    },
}

/// What all orders have in common.
#[derive(Args, Debug, Clone)]
pub struct Order {
    /// The EtcdCluster.
    pub cluster: String,
    /// Waits for the end, and fails where the order does.
    #[arg(short, long)]
    pub wait: bool,
    /// How long is waited; the order goes on all the same.
    #[arg(long, default_value = "10m", value_name = "TIME")]
    timeout: String,
    /// Prints the object, and makes none.
    #[arg(long)]
    pub dry_run: bool,
    #[arg(short, long)]
    pub output: Option<Output>,
}

impl Order {
    /// # Errors
    /// It is no length of time.
    pub fn timeout(&self) -> anyhow::Result<Duration> {
        Span::new(&self.timeout)
            .duration()
            .with_context(|| format!("--timeout {:?} is none such as 1h30m", self.timeout))
    }
}

/// Up to where.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = false)]
pub struct Upto {
    /// This revision, and all before it.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    pub revision: Option<i64>,
    /// All but so many.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    pub keep_revisions: Option<i64>,
    /// All but those of so long, such as 1h.
    #[arg(long, value_name = "TIME")]
    pub keep_duration: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Alarm {
    #[value(name = "NOSPACE", alias = "nospace")]
    NoSpace,
    #[value(name = "CORRUPT", alias = "corrupt")]
    Corrupt,
}

/// Where nothing is said of the store, it is that of the cluster's schedule.
#[derive(Args, Debug, Clone)]
pub struct Backup {
    #[command(flatten)]
    pub order: Order,
    /// What the EtcdBackup is called; after the cluster where absent.
    #[arg(long)]
    pub name: Option<String>,
    /// Keeps the record out of the schedule's retention.
    #[arg(long)]
    pub keep: bool,
    /// Stores it in this PersistentVolumeClaim.
    #[arg(long, value_name = "NAME", conflicts_with = "bucket")]
    pub claim: Option<String>,
    /// The directory in the claim.
    #[arg(long, requires = "claim", value_name = "PATH")]
    pub sub_path: Option<String>,
    /// Stores it in this bucket.
    #[arg(long, value_name = "NAME")]
    pub bucket: Option<String>,
    /// The bucket's server; Amazon's where absent.
    #[arg(long, requires = "bucket", value_name = "URL")]
    pub endpoint: Option<String>,
    /// What its key begins with.
    #[arg(long, requires = "bucket")]
    pub prefix: Option<String>,
    #[arg(long, requires = "bucket")]
    pub region: Option<String>,
    /// Has the bucket stand in the path.
    #[arg(long, requires = "bucket")]
    pub path_style: bool,
    /// The Secret with `accessKeyID` and `secretAccessKey`.
    #[arg(long, requires = "bucket", value_name = "NAME")]
    pub credentials: Option<String>,
    /// The Secret with `ca.crt`, for a server that no public CA vouches for.
    #[arg(long, requires = "bucket", value_name = "NAME")]
    pub ca: Option<String>,
}

impl Verb {
    /// What it has in common with other orders, where it is one to the operator.
    #[must_use]
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Status { .. } | Self::Members { .. } | Self::Report { .. } => None,
            Self::Backup(backup) => Some(&backup.order),
            Self::Defrag { order, .. }
            | Self::Compact { order, .. }
            | Self::MoveLeader { order, .. }
            | Self::ReplaceMember { order, .. }
            | Self::Restart { order, .. }
            | Self::DisarmAlarm { order, .. }
            | Self::RecoverQuorum { order, .. }
            | Self::Restore { order, .. } => Some(order),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn where_to_look_may_stand_anywhere() {
        for line in
            [["-n", "prod", "status", "main"], ["status", "-n", "prod", "main"], ["status", "main", "-n", "prod"]]
        {
            let arguments =
                Arguments::try_parse_from(["kubectl-keepstone"].into_iter().chain(line)).expect("it is right");
            assert_eq!(arguments.reach.namespace.as_deref(), Some("prod"));
            assert!(matches!(arguments.verb, Verb::Status { cluster: Some(name), .. } if name == "main"));
        }
    }

    /// Compacting everything must be said in so many words.
    #[test]
    fn a_compaction_says_up_to_where() {
        let parse =
            |line: &[&str]| Arguments::try_parse_from(["kubectl-keepstone", "compact", "main"].iter().chain(line));
        assert!(parse(&[]).is_err() && parse(&["--revision", "0"]).is_err());
        assert!(parse(&["--revision", "7", "--keep-revisions", "9"]).is_err());
        assert!(parse(&["--keep-duration", "1h"]).is_ok());
    }
}
