//! Standing policies of a cluster: how it changes, what is repaired without asking, and its housekeeping.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refs::null_is_default;
use crate::span::Span;

/// What becomes of what is no longer needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

/// How pods are renewed: unhealthy ones first, then followers, the leader last, and always one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// How many members may be down by the operator's hand. One, and only one: it stands here so that nobody guesses.
    #[schemars(range(min = 1, max = 1))]
    pub max_unavailable: i32,
    /// How long a renewed member must have been healthy before the next one goes.
    pub pause_between: Span,
    /// Whether `version` may go down by a minor version.
    pub allow_downgrade: bool,
    /// What is taken before a version change: nothing, or a full backup, without which no pod is touched.
    pub snapshot_before: SnapshotBefore,
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        Self {
            max_unavailable: 1,
            pause_between: Span::new("20s"),
            allow_downgrade: false,
            snapshot_before: SnapshotBefore::None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotBefore {
    #[default]
    None,
    Full,
}

/// What is repaired without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Recovery {
    /// A member that doesn't come back, while the others have a quorum.
    #[serde(deserialize_with = "null_is_default")]
    pub replace_member: ReplaceMemberPolicy,
    /// A cluster that has lost its quorum for good.
    #[serde(deserialize_with = "null_is_default")]
    pub quorum_loss: QuorumLossPolicy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplaceMemberPolicy {
    /// Whether such a member is removed, its volume deleted, and a new one added. A member whose volume is gone is
    /// replaced in any case: it has nothing to come back with.
    pub enabled: bool,
    /// Only after its container was started again this often.
    #[schemars(range(min = 1, max = 100))]
    pub after_restarts: i32,
    /// Only when it has been unhealthy for this long.
    pub min_unhealthy: Span,
}

impl Default for ReplaceMemberPolicy {
    fn default() -> Self {
        Self { enabled: true, after_restarts: 5, min_unhealthy: Span::new("10m") }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct QuorumLossPolicy {
    /// `Manual`: the condition names the command to run. `Automatic`: the operator goes on with the survivor that knows
    /// most, and what only the lost members knew is lost.
    pub mode: QuorumLossMode,
    /// How long the quorum must have been gone.
    pub after: Span,
}

impl Default for QuorumLossPolicy {
    fn default() -> Self {
        Self { mode: QuorumLossMode::Manual, after: Span::new("15m") }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QuorumLossMode {
    #[default]
    Manual,
    Automatic,
}

/// Housekeeping by schedule. Each run is an `EtcdOperation`. One that was missed runs once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Maintenance {
    /// Forgets old revisions. Absent: nobody does, unless a client (as Kubernetes does) or `--auto-compaction-*`; but a member
    /// whose quota is used up has all of them forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compact: Option<CompactSchedule>,
    /// Gives free space back, one member at a time, the leader last. Absent: only to end an alarm for space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defragment: Option<DefragmentSchedule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompactSchedule {
    #[serde(flatten)]
    pub when: Schedule,
    /// What is kept.
    pub keep: Keep,
}

/// What a compaction keeps: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keep {
    /// All revisions of this last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// So many last revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub revisions: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DefragmentSchedule {
    #[serde(flatten)]
    pub when: Schedule,
    /// Which members are worth it; the others are left alone.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rule: DefragmentRule,
}

/// A member is defragmented when it has `freeSpaceAbove` to give back; or when it is above `quotaUsageAbove` and has at
/// least `minReclaim`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DefragmentRule {
    /// Free space that is worth it by itself.
    pub free_space_above: Quantity,
    /// How full a store must be for less to be worth it.
    #[schemars(length(max = 4), regex(pattern = "^(100|[1-9]?[0-9])%$"))]
    pub quota_usage_above: String,
    /// The least that is worth anything.
    pub min_reclaim: Quantity,
}

impl Default for DefragmentRule {
    fn default() -> Self {
        Self {
            free_space_above: Quantity("200Mi".to_owned()),
            quota_usage_above: "80%".to_owned(),
            min_reclaim: Quantity("32Mi".to_owned()),
        }
    }
}

/// A time that comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Cron: minute, hour, day of month, month, day of week; or `@daily` and its like.
    #[schemars(length(min = 1, max = 128))]
    pub schedule: String,
    /// Whose clock it is, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Objects for the Prometheus operator. Where its CRDs are not installed, the cluster says so and goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Monitoring {
    /// A PodMonitor of the members.
    #[serde(deserialize_with = "null_is_default")]
    pub pod_monitor: PodMonitorPolicy,
    /// A PrometheusRule with the cluster's alerts.
    #[serde(deserialize_with = "null_is_default")]
    pub prometheus_rule: PrometheusRulePolicy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PodMonitorPolicy {
    /// Whether it is made.
    pub enabled: bool,
    /// How often members are scraped.
    pub interval: Span,
}

impl Default for PodMonitorPolicy {
    fn default() -> Self {
        Self { enabled: false, interval: Span::new("30s") }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PrometheusRulePolicy {
    /// Whether it is made.
    pub enabled: bool,
}
