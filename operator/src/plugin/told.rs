//! What a member says of itself, on the port that probes and monitoring ask: its card and its metrics. Pure.

use serde::Serialize;
use serde_json::Value;

/// A member's answer. What it did not say is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Told {
    /// In hex.
    #[serde(rename = "memberID", skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// In hex.
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub leads: bool,
    /// Whether it knows who leads: it serves.
    pub has_leader: bool,
    pub learner: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_in_use_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raft_applied_index: Option<i64>,
}

impl Told {
    /// Reads `/keepstone/member` and `/metrics`.
    #[must_use]
    pub fn read(card: &Value, metrics: &str) -> Self {
        let text = |key: &str| card.get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |name| number(metrics, name).is_some_and(|value| value != 0);
        Self {
            member_id: text("memberID"),
            cluster_id: text("clusterID"),
            version: text("version").map(|version| format!("v{version}")),
            leads: flag("etcd_server_is_leader"),
            has_leader: flag("etcd_server_has_leader"),
            learner: flag("etcd_server_is_learner"),
            db_size_bytes: number(metrics, "etcd_mvcc_db_total_size_in_bytes"),
            db_size_in_use_bytes: number(metrics, "etcd_mvcc_db_total_size_in_use_in_bytes"),
            raft_applied_index: number(metrics, "etcd_server_proposals_applied_total"),
        }
    }
}

/// The value of a metric without labels.
fn number(metrics: &str, name: &str) -> Option<i64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    let value: f64 = value.trim().parse().ok()?;
    // Whole numbers below 2^53 are exact.
    (value.is_finite() && value.abs() < 9e15).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_is_read_from_its_metrics() {
        let metrics = "# HELP etcd_server_is_leader x\netcd_server_is_leader 1\netcd_server_has_leader 1\n\
                       etcd_server_is_learner 0\netcd_mvcc_db_total_size_in_bytes 2.5e+06\n\
                       etcd_mvcc_db_total_size_in_use_in_bytes 1024\n";
        let told = Told::read(&json!({"memberID": "8e", "clusterID": "cd", "state": "member"}), metrics);
        let wanted = Told {
            member_id: Some("8e".to_owned()),
            cluster_id: Some("cd".to_owned()),
            leads: true,
            has_leader: true,
            db_size_bytes: Some(2_500_000),
            db_size_in_use_bytes: Some(1024),
            ..Told::default()
        };
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_is_no_number_is_not_told() {
        for text in ["", "a NaN\n", "a +Inf\n", "ab 1\n", "a{x=\"y\"} 1\n"] {
            assert_eq!(number(text, "a"), None, "{text:?}");
        }
    }
}
