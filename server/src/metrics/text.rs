//! Prometheus' text format, with numbers as Go prints them: what compares a line of etcd's with ours finds them equal.

use std::collections::BTreeMap;
use std::fmt::Write;

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Families by name, each already as text.
#[derive(Debug, Default)]
pub(super) struct Families(BTreeMap<String, String>);

impl Families {
    /// A family without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.labelled(name, kind, help, [(String::new(), value)]);
    }

    /// A family with one value per set of labels, given as they are printed: `name="a",stage="b"`. A family without
    /// values is left out, as Go's client does.
    pub(super) fn labelled(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        values: impl IntoIterator<Item = (String, f64)>,
    ) {
        let mut text = head(name, kind, help);
        let before = text.len();
        for (labels, value) in values {
            line(&mut text, name, "", &labels, value);
        }
        if text.len() > before {
            self.0.insert(name.to_owned(), text);
        }
    }

    /// A histogram or summary that never saw anything.
    pub(super) fn empty_distribution(&mut self, name: &str, kind: Kind, help: &str) {
        let mut text = head(name, kind, help);
        if kind == Kind::Histogram {
            line(&mut text, name, "_bucket", &label("le", "+Inf"), 0.0);
        }
        line(&mut text, name, "_sum", "", 0.0);
        line(&mut text, name, "_count", "", 0.0);
        self.0.insert(name.to_owned(), text);
    }

    /// A family that the registry counted.
    pub(super) fn add_gathered(&mut self, family: &MetricFamily) {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::HISTOGRAM => Kind::Histogram,
            _ => Kind::Gauge,
        };
        let name = family.name();
        let mut text = head(name, kind, family.help());
        for metric in family.get_metric() {
            let labels = printed(metric.get_label());
            match kind {
                Kind::Counter => line(&mut text, name, "", &labels, metric.get_counter().get_value()),
                Kind::Gauge | Kind::Summary => line(&mut text, name, "", &labels, metric.get_gauge().get_value()),
                Kind::Histogram => {
                    let histogram = metric.get_histogram();
                    let comma = if labels.is_empty() { "" } else { "," };
                    let count = histogram.get_sample_count() as f64;
                    let buckets = histogram.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count() as f64));
                    let buckets = buckets.filter(|(bound, _)| bound.is_finite()).chain([(f64::INFINITY, count)]);
                    for (bound, count) in buckets {
                        let labels = format!("{labels}{comma}le=\"{}\"", number(bound));
                        line(&mut text, name, "_bucket", &labels, count);
                    }
                    line(&mut text, name, "_sum", &labels, histogram.get_sample_sum());
                    line(&mut text, name, "_count", &labels, count);
                }
            }
        }
        self.0.insert(name.to_owned(), text);
    }

    pub(super) fn into_text(self) -> String {
        self.0.into_values().collect()
    }
}

fn head(name: &str, kind: Kind, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name())
}

fn line(text: &mut String, name: &str, suffix: &str, labels: &str, value: f64) {
    let value = number(value);
    let written = if labels.is_empty() {
        writeln!(text, "{name}{suffix} {value}")
    } else {
        writeln!(text, "{name}{suffix}{{{labels}}} {value}")
    };
    written.expect("a String takes everything");
}

fn printed(labels: &[LabelPair]) -> String {
    let pairs: Vec<_> = labels.iter().map(|pair| label(pair.name(), pair.value())).collect();
    pairs.join(",")
}

/// One label as it is printed.
pub(super) fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// Powers of ten between which Go's `%g` prints the shortest digits without an exponent.
const WITHOUT_EXPONENT: std::ops::Range<i32> = -4..6;

/// The shortest digits that are this number, as Go's client prints them.
pub(super) fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust's own format");
    let exponent: i32 = exponent.parse().expect("Rust's own format");
    if value == 0.0 || WITHOUT_EXPONENT.contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
