//! What a member tells Prometheus: etcd's family names, labels and buckets, filled with this member's own facts.
//!
//! Counters that hot paths touch are resolved once and held as fields: counting is one atomic addition. What can be
//! asked for is not counted but read when somebody scrapes ([`Observed`]). Nothing here decides anything, and nothing
//! here is read by the member itself.

mod client;
mod foreign;
mod groups;
mod grpc;
mod network;
mod observed;
mod process;
mod server;
mod text;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Registry;

pub use client::ClientRequests;
pub use groups::{Disk, Health, Leases, Mvcc, Proposals, Snapshots};
pub use grpc::{GrpcMethod, GrpcMethods, Kind};
pub use network::{Network, Peer};
pub use observed::{ActiveAlarm, Feature, Observed};
pub use process::Process;
pub use prometheus::{Histogram, IntCounter, IntGauge};
pub use server::{ApplyDurations, Server};

use text::Families;

/// The content type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// What is fixed when a member starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--metrics=extensive`: also how long calls take.
    pub extensive: bool,
    /// Also show families that only etcd's implementation has (Go's runtime, bbolt, the v2 store, the gRPC proxy), all
    /// zero: for suites that compare lists of names.
    pub foreign: bool,
    /// `--warning-apply-duration`: an entry that takes longer counts as slow and is warned of. None: no entry.
    pub slow_apply: Option<Duration>,
}

type Collect = Box<dyn Fn(&mut Observed) + Send + Sync>;

/// All of a member's metrics.
pub struct Metrics {
    pub proposals: Proposals,
    pub disk: Disk,
    pub mvcc: Mvcc,
    pub leases: Leases,
    pub network: Network,
    pub server: Server,
    pub snapshots: Snapshots,
    pub health: Health,
    pub clients: ClientRequests,
    pub grpc: GrpcMethods,
    registry: Registry,
    collect: OnceLock<Collect>,
    options: Options,
}

impl Metrics {
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let registry = Registry::new();
        Arc::new(Self {
            proposals: Proposals::new(&registry),
            disk: Disk::new(&registry),
            mvcc: Mvcc::new(&registry),
            leases: Leases::new(&registry),
            network: Network::new(&registry),
            server: Server::new(&registry),
            snapshots: Snapshots::new(&registry),
            health: Health::new(&registry),
            clients: ClientRequests::new(&registry),
            grpc: GrpcMethods::new(&registry, options.extensive),
            registry,
            collect: OnceLock::new(),
            options,
        })
    }

    /// See [`Options::slow_apply`].
    #[must_use]
    pub fn slow_apply(&self) -> Option<Duration> {
        self.options.slow_apply
    }

    /// Says how the member's state is read when somebody scrapes. Only the first call counts. `collect` runs on the
    /// scraping connection's thread: it has to be short and must not wait for anything slow.
    pub fn observe(&self, collect: impl Fn(&mut Observed) + Send + Sync + 'static) {
        drop(self.collect.set(Box::new(collect)));
    }

    /// What the member says of itself now; all zero before [`Self::observe`].
    #[must_use]
    pub fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        if let Some(collect) = self.collect.get() {
            collect(&mut observed);
        }
        observed
    }

    /// Everything in Prometheus' text format, families in the order of their names.
    #[must_use]
    pub fn render(&self) -> String {
        let mut families = Families::default();
        for family in self.registry.gather() {
            families.add_gathered(&family);
        }
        self.observed().add_to(&mut families);
        Process::read().add_to(&mut families);
        if self.options.foreign {
            foreign::add_to(&mut families);
        }
        families.into_text()
    }
}

#[cfg(test)]
mod tests;
