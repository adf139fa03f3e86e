//! What the spec asks for, with every default filled in and every text parsed.

use std::sync::Arc;

use crate::ids::{Seconds, Template, Time};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Desired {
    /// 1 to 9.
    pub size: u32,
    pub template: Template,
    /// Bytes of each volume.
    pub storage: u64,
    pub paused: bool,
    pub hibernate: bool,
    /// What becomes of volumes when the cluster is deleted.
    pub deletion_policy: Retention,
    /// What becomes of a volume when its member leaves.
    pub retain_policy: Retention,
    pub quota: u64,
    pub tls: Tls,
    pub update: Update,
    pub recovery: Recovery,
    pub maintenance: Maintenance,
    pub backup: Option<BackupPolicy>,
    /// There is a policy, and it is not to be followed now.
    pub backup_suspended: bool,
    /// The backup a new cluster begins with.
    pub source: Option<Arc<str>>,
    pub deadlines: Deadlines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retention {
    Retain,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tls {
    Disabled,
    /// Certificates come from cert-manager or from the user's secrets; here it is only seen whether they are there.
    Given,
    Auto {
        renew_before: Seconds,
        ca_renew_before: Seconds,
        /// How long a changed bundle takes to reach every member: kubelets look once in a minute or so.
        settle: Seconds,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Update {
    /// How long a member has to be well before the next one is touched.
    pub pause_between: Seconds,
    pub allow_downgrade: bool,
    /// A backup before a version change; counts only where there is a backup policy.
    pub snapshot_before: bool,
    /// How many entries a restarted member may be behind and count as caught up.
    pub max_lag: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recovery {
    pub replace: bool,
    pub after_restarts: u32,
    pub min_unhealthy: Seconds,
    /// Whether a majority that is lost for good is given up without being asked.
    pub automatic: bool,
    /// How long a quorum has to be lost before that.
    pub after: Seconds,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Maintenance {
    pub compact: Option<Compaction>,
    pub defragment: Option<Defragmentation>,
}

/// A cron expression in its time zone, as far as it matters now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// The last time it named that is not after now; none if it never did.
    pub latest: Option<Time>,
    /// The next.
    pub next: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Compaction {
    pub schedule: Schedule,
    /// Revisions to keep; none where a duration is kept (`Observed::keep_from`).
    pub keep: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Defragmentation {
    pub schedule: Schedule,
    pub rule: Rule,
}

/// When defragmenting a member is worth it, in bytes and percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// That much to gain is reason enough.
    pub free_above: u64,
    /// A file that fills so much of the quota is reason for less.
    pub quota_percent: u8,
    /// Less than this is never worth it.
    pub min_reclaim: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackupPolicy {
    pub schedule: Schedule,
    /// How many complete ones are kept, at least 1.
    pub keep: u32,
    /// Whether the first is taken without waiting for its time.
    pub immediate: bool,
}

/// How long the operator waits for others before it says so, and changes course.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Deadlines {
    pub bootstrap: Seconds,
    /// Since a learner last got on.
    pub learner: Seconds,
    /// For a restarted pod to be well.
    pub restart: Seconds,
    /// For a leader to hand over.
    pub hand_over: Seconds,
    /// For a founding from a backup, however large: longer than the Job that fetches it may take.
    pub restore: Seconds,
    /// For everything else.
    pub other: Seconds,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            bootstrap: Seconds(300),
            learner: Seconds(600),
            restart: Seconds(600),
            hand_over: Seconds(30),
            restore: Seconds(7 * 3600),
            other: Seconds(1800),
        }
    }
}
