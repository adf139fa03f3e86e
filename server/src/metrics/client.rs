//! Which client libraries call: requests by the version that a client names of itself.

use parking_lot::RwLock;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::groups::register;

/// Versions told apart; clients that name yet another one are counted as "other". A client can't make a member
/// remember without bound.
const VERSIONS: usize = 64;

/// `etcd_server_client_requests_total`.
#[derive(Debug)]
pub struct ClientRequests {
    all: IntCounterVec,
    unknown: [IntCounter; 2],
    known: RwLock<Vec<(String, [IntCounter; 2])>>,
}

impl ClientRequests {
    pub(super) fn new(r: &Registry) -> Self {
        let opts =
            Opts::new("etcd_server_client_requests_total", "Requests by the version their client names of itself.");
        let all = register(r, IntCounterVec::new(opts, &["type", "client_api_version"]));
        let unknown = resolve(&all, "unknown");
        Self { all, unknown, known: RwLock::default() }
    }

    /// Counts one call. `version` is the metadata `client-api-version`, if there is one.
    pub fn count(&self, stream: bool, version: Option<&str>) {
        let number = usize::from(stream);
        let Some(version) = version.filter(|v| !v.is_empty()) else {
            self.unknown[number].inc();
            return;
        };
        if let Some((_, counters)) = self.known.read().iter().find(|(known, _)| known == version) {
            counters[number].inc();
            return;
        }
        let mut known = self.known.write();
        if let Some((_, counters)) = known.iter().find(|(known, _)| known == version) {
            counters[number].inc();
        } else if known.len() < VERSIONS {
            let counters = resolve(&self.all, version);
            counters[number].inc();
            known.push((version.to_owned(), counters));
        } else {
            resolve(&self.all, "other")[number].inc();
        }
    }
}

fn resolve(all: &IntCounterVec, version: &str) -> [IntCounter; 2] {
    ["unary", "stream"].map(|kind| all.with_label_values(&[kind, version]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_name_versions_without_end() {
        let requests = ClientRequests::new(&Registry::new());
        for n in 0..VERSIONS + 10 {
            requests.count(false, Some(&format!("3.{n}")));
        }
        requests.count(true, None);
        requests.count(true, Some("3.0"));
        let get = |kind, version| requests.all.with_label_values(&[kind, version]).get();
        assert_eq!(get("unary", "3.0"), 1);
        assert_eq!(get("stream", "3.0"), 1);
        assert_eq!(get("unary", "other"), 10);
        assert_eq!(get("stream", "unknown"), 1);
        assert_eq!(requests.known.read().len(), VERSIONS);
    }
}
