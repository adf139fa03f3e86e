//! A PrometheusRule with a cluster's alerts, when asked for. It names its metrics by the label that our PodMonitor gives them.

use serde_json::{Value, json};

use crate::Blueprint;

struct Alert {
    name: &'static str,
    /// `{}` stands for the labels of this cluster, `SIZE` and `QUORUM` for those numbers.
    expr: &'static str,
    wait: &'static str,
    severity: &'static str,
    summary: &'static str,
}

/// Every alert says something that somebody can do.
const ALERTS: &[Alert] = &[
    Alert {
        name: "KeepstoneQuorumLost",
        expr: "(count(etcd_server_has_leader{} == 1) or vector(0)) < QUORUM",
        wait: "1m",
        severity: "critical",
        summary: "too few members have a leader; nothing can be written",
    },
    Alert {
        name: "KeepstoneMembersMissing",
        expr: "(count(etcd_server_has_leader{} == 1) or vector(0)) < SIZE",
        wait: "10m",
        severity: "warning",
        summary: "a member is down, or does not follow the leader",
    },
    Alert {
        name: "KeepstoneLeaderChanges",
        expr: "max(increase(etcd_server_leader_changes_seen_total{}[15m])) >= 4",
        wait: "5m",
        severity: "warning",
        summary: "the leader changes often: disks or network are slow",
    },
    Alert {
        name: "KeepstoneSlowDisk",
        expr: "histogram_quantile(0.99, sum by (pod, le) (rate(etcd_disk_wal_fsync_duration_seconds_bucket{}[5m]))) > 0.5",
        wait: "10m",
        severity: "warning",
        summary: "a member's disk takes long to sync",
    },
    Alert {
        name: "KeepstoneQuotaLow",
        expr: "max(etcd_mvcc_db_total_size_in_use_in_bytes{} / etcd_server_quota_backend_bytes{}) > 0.8",
        wait: "10m",
        severity: "warning",
        summary: "the store comes near its quota, at which writes are refused",
    },
    Alert {
        name: "KeepstoneProposalsFail",
        expr: "sum(rate(etcd_server_proposals_failed_total{}[15m])) > 0",
        wait: "15m",
        severity: "warning",
        summary: "writes fail",
    },
];

/// None where it is not asked for.
#[must_use]
pub fn build(b: &Blueprint) -> Option<Value> {
    b.monitoring().prometheus_rule.enabled.then(|| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": b.metadata(b.names.main()),
            "spec": { "groups": [{
                "name": format!("keepstone.{}.{}", b.names.namespace, b.names.cluster),
                "rules": ALERTS.iter().map(|alert| rule(b, alert)).collect::<Vec<_>>(),
            }] },
        })
    })
}

fn rule(b: &Blueprint, alert: &Alert) -> Value {
    let (namespace, cluster) = (&b.names.namespace, &b.names.cluster);
    let labels = format!("{{namespace=\"{namespace}\",keepstone_io_cluster=\"{cluster}\"}}");
    // Of a cluster that is to sleep nobody is missed.
    let size = if b.spec.hibernate { 0 } else { b.spec.size.max(1) };
    let quorum = if b.spec.hibernate { 0 } else { size / 2 + 1 };
    let expr =
        alert.expr.replace("{}", &labels).replace("QUORUM", &quorum.to_string()).replace("SIZE", &size.to_string());
    json!({
        "alert": alert.name,
        "expr": expr,
        "for": alert.wait,
        "labels": { "severity": alert.severity, "cluster": cluster },
        "annotations": { "summary": format!("keepstone cluster {namespace}/{cluster}: {}", alert.summary) },
    })
}

/// The metrics that the alerts ask for.
#[must_use]
pub fn metrics() -> Vec<&'static str> {
    let words = ALERTS.iter().flat_map(|alert| alert.expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with("etcd_")).map(|word| word.trim_end_matches("_bucket")).collect()
}
