//! Metrics, in Prometheus' text format. What is said of a cluster is what its last pass saw.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use keepstone_operator_api::metrics as names;
use keepstone_operator_api::status::EtcdClusterStatus;
use parking_lot::Mutex;

use crate::controller::kind::Name;
use crate::controller::pass::Report;

/// Upper ends of the histogram's buckets, in seconds.
const BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

#[derive(Debug, Default)]
pub struct Metrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    leads: bool,
    took: [u64; BUCKETS.len()],
    passes: u64,
    seconds: f64,
    errors: BTreeMap<(Name, String), u64>,
    clusters: BTreeMap<Name, Cluster>,
}

#[derive(Debug, Default)]
struct Cluster {
    size: u32,
    quota: u64,
    status: EtcdClusterStatus,
}

impl Metrics {
    pub fn leader(&self, leads: bool) {
        let mut state = self.0.lock();
        state.leads = leads;
        if !leads {
            // Who does not look has nothing to say.
            state.clusters.clear();
        }
    }

    pub fn took(&self, time: Duration) {
        let mut state = self.0.lock();
        state.passes += 1;
        state.seconds += time.as_secs_f64();
        for (n, end) in BUCKETS.iter().enumerate() {
            state.took[n] += u64::from(time.as_secs_f64() <= *end);
        }
    }

    pub fn report(&self, name: &Name, report: &Report) {
        if report.failed.is_some() {
            let reason = report.act.as_ref().map_or("NotWritten", |_| "ActFailed");
            self.failed(name, reason);
        }
        let Some(look) = &report.look else { return };
        let status = look.objects.cluster.get("status").cloned().unwrap_or_default();
        let cluster = Cluster {
            size: look.desired.size,
            quota: look.desired.quota,
            status: serde_json::from_value(status).unwrap_or_default(),
        };
        self.0.lock().clusters.insert(name.clone(), cluster);
    }

    pub fn failed(&self, name: &Name, reason: &str) {
        *self.0.lock().errors.entry((name.clone(), reason.to_owned())).or_default() += 1;
    }

    pub fn forget(&self, name: &Name) {
        let mut state = self.0.lock();
        state.clusters.remove(name);
        state.errors.retain(|(of, _), _| of != name);
    }

    pub fn text(&self) -> String {
        let state = self.0.lock();
        let mut text = Text::default();
        text.head(names::LEADER, "gauge");
        text.line(names::LEADER, "", u8::from(state.leads));
        text.head(names::RECONCILE_ERRORS, "counter");
        for ((name, reason), count) in &state.errors {
            text.line(names::RECONCILE_ERRORS, &format!("{},reason=\"{reason}\"", labels(name)), count);
        }
        text.head(names::RECONCILE_DURATION, "histogram");
        let (bucket, total) = (format!("{}_bucket", names::RECONCILE_DURATION), state.passes);
        for (end, count) in BUCKETS.iter().zip(state.took) {
            text.line(&bucket, &format!("le=\"{end}\""), count);
        }
        text.line(&bucket, "le=\"+Inf\"", total);
        text.line(&format!("{}_sum", names::RECONCILE_DURATION), "", state.seconds);
        text.line(&format!("{}_count", names::RECONCILE_DURATION), "", total);
        for (metric, read) in GAUGES {
            text.head(metric, "gauge");
            for (name, cluster) in &state.clusters {
                for (more, value) in read(cluster) {
                    text.line(metric, &format!("{}{more}", labels(name)), value);
                }
            }
        }
        text.0
    }
}

type Read = fn(&Cluster) -> Vec<(String, i64)>;

const GAUGES: [(&str, Read); 8] = [
    (names::CONDITION, conditions),
    (names::SIZE, |c| vec![(String::new(), c.size.into())]),
    (names::MEMBERS_READY, |c| vec![(String::new(), c.status.ready_members.into())]),
    (names::DB_SIZE, |c| {
        let largest = c.status.members.iter().filter_map(|member| member.db_size_bytes).max();
        largest.into_iter().map(|bytes| (String::new(), bytes)).collect()
    }),
    (names::QUOTA, |c| vec![(String::new(), i64::try_from(c.quota).unwrap_or(i64::MAX))]),
    (names::OPERATION_STARTED, |c| {
        let record = c.status.operation.iter();
        record.map(|it| (format!(",operation=\"{:?}\"", it.kind), it.started_at.0.as_second())).collect()
    }),
    (names::CERTIFICATE_EXPIRY, |c| {
        let Some(ends) = &c.status.certificates else { return Vec::new() };
        let planes = [
            ("ca", &ends.ca_not_after),
            ("server", &ends.server_not_after),
            ("peer", &ends.peer_not_after),
            ("client", &ends.client_not_after),
        ];
        let end = |(plane, end): (&str, &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>)| {
            Some((format!(",plane=\"{plane}\""), end.as_ref()?.0.as_second()))
        };
        planes.into_iter().filter_map(end).collect()
    }),
    (names::BACKUP_LAST_SUCCESS, |c| {
        c.status.last_backup.iter().map(|backup| (String::new(), backup.time.0.as_second())).collect()
    }),
];

fn conditions(cluster: &Cluster) -> Vec<(String, i64)> {
    let one = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        let labels = format!(",condition=\"{}\",reason=\"{}\"", condition.type_, condition.reason);
        (labels, i64::from(condition.status == "True"))
    };
    cluster.status.conditions.iter().map(one).collect()
}

/// Names of objects have no character that would have to be escaped.
fn labels(name: &Name) -> String {
    format!("namespace=\"{}\",name=\"{}\"", name.namespace, name.name)
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, metric: &str, kind: &str) {
        let _ = writeln!(self.0, "# TYPE {metric} {kind}");
    }

    fn line(&mut self, metric: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{metric} {value}"),
            labels => writeln!(self.0, "{metric}{{{labels}}} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_the_chart_asks_for_is_told() {
        let metrics = Metrics::default();
        let text = metrics.text();
        for name in names::ALL {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn the_histogram_adds_up() {
        let metrics = Metrics::default();
        for millis in [40, 400, 90_000] {
            metrics.took(Duration::from_millis(millis));
        }
        let text = metrics.text();
        let of = |end: &str| text.lines().find(|line| line.contains(&format!("le=\"{end}\""))).map(str::to_owned);
        assert!(of("0.05").is_some_and(|line| line.ends_with(" 1")), "{text}");
        assert!(of("60").is_some_and(|line| line.ends_with(" 2")), "{text}");
        assert!(of("+Inf").is_some_and(|line| line.ends_with(" 3")), "{text}");
    }
}
