//! A PodMonitor of the Prometheus operator, when asked for.

use serde_json::{Value, json};

use crate::Blueprint;
use crate::objects::probes::METRICS;

/// None where it is not asked for.
#[must_use]
pub fn build(b: &Blueprint) -> Option<Value> {
    let asked = &b.monitoring().pod_monitor;
    asked.enabled.then(|| {
        json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": b.metadata(b.names.main()),
            "spec": {
                "selector": { "matchLabels": b.names.selector() },
                // Alerts and dashboards tell clusters apart by it.
                "podTargetLabels": [keepstone_operator_api::CLUSTER_LABEL],
                "podMetricsEndpoints": [{
                    "port": METRICS,
                    "path": "/metrics",
                    "interval": prometheus_duration(asked.interval.duration().map_or(30, |span| span.as_secs())),
                }],
            },
        })
    })
}

/// Whole seconds: Prometheus knows the same units, and wants them in an order.
fn prometheus_duration(seconds: u64) -> String {
    format!("{}s", seconds.max(1))
}
