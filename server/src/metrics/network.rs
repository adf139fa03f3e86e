//! Bytes to and from clients and other members.

use std::time::Instant;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tonic::{Code, Status};

use super::groups::{counter, doubling, register};

/// What goes through this member's sockets.
#[derive(Debug)]
pub struct Network {
    /// Bytes of gRPC messages, the five before each included.
    pub client_received: IntCounter,
    pub client_sent: IntCounter,
    stream_failures: IntCounterVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    sent: IntCounterVec,
    received: IntCounterVec,
    send_failures: IntCounterVec,
    receive_failures: IntCounterVec,
    round_trip: HistogramVec,
    snapshots_sent: IntCounterVec,
    snapshots_sending: IntGaugeVec,
    snapshot_send_failures: IntCounterVec,
    snapshot_send: HistogramVec,
    snapshots_received: IntCounterVec,
    snapshots_receiving: IntGaugeVec,
    snapshot_receive_failures: IntCounterVec,
    snapshot_receive: HistogramVec,
}

/// The traffic with one other member.
#[derive(Clone, Debug)]
pub struct Peer {
    /// 1 while connected.
    pub active: IntGauge,
    pub disconnected: IntCounter,
    pub sent_bytes: IntCounter,
    pub received_bytes: IntCounter,
    pub send_failures: IntCounter,
    pub receive_failures: IntCounter,
    /// Seconds.
    pub round_trip: Histogram,
}

/// Snapshots to or from one other member.
#[derive(Clone, Debug)]
pub struct SnapshotTransfer {
    pub succeeded: IntCounter,
    pub inflight: IntGauge,
    pub failed: IntCounter,
    /// Seconds.
    pub duration: Histogram,
}

impl SnapshotTransfer {
    /// A snapshot is on its way from now on.
    #[must_use]
    pub fn begin(self) -> Transferring {
        self.inflight.inc();
        Transferring { counters: self, began: Instant::now(), done: false }
    }
}

/// A snapshot on its way. One that is given up has failed.
#[derive(Debug)]
pub struct Transferring {
    counters: SnapshotTransfer,
    began: Instant,
    done: bool,
}

impl Transferring {
    /// It is there.
    pub fn succeeded(mut self) {
        self.done = true;
        self.counters.succeeded.inc();
        self.counters.duration.observe(self.began.elapsed().as_secs_f64());
    }
}

impl Drop for Transferring {
    fn drop(&mut self) {
        self.counters.inflight.dec();
        if !self.done {
            self.counters.failed.inc();
        }
    }
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(r, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn durations(r: &Registry, name: &str, help: &str, first: f64, count: usize, label: &str) -> HistogramVec {
    register(r, HistogramVec::new(doubling(name, help, first, count), &[label]))
}

impl Network {
    pub(super) fn new(r: &Registry) -> Self {
        let (to, from, pair) = (&["To"], &["From"], &["Local", "Remote"]);
        Self {
            client_received: counter(
                r,
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes received from gRPC clients.",
            ),
            client_sent: counter(r, "etcd_network_client_grpc_sent_bytes_total", "Bytes sent to gRPC clients."),
            stream_failures: counters(
                r,
                "etcd_network_server_stream_failures_total",
                "Streams with clients that broke.",
                &["Type", "API"],
            ),
            active: gauges(r, "etcd_network_active_peers", "1 for a member that is connected.", pair),
            disconnected: counters(r, "etcd_network_disconnected_peers_total", "Connections lost to a member.", pair),
            sent: counters(r, "etcd_network_peer_sent_bytes_total", "Bytes sent to a member.", to),
            received: counters(r, "etcd_network_peer_received_bytes_total", "Bytes received from a member.", from),
            send_failures: counters(
                r,
                "etcd_network_peer_sent_failures_total",
                "Messages to a member that failed.",
                to,
            ),
            receive_failures: counters(
                r,
                "etcd_network_peer_received_failures_total",
                "Messages from a member that failed.",
                from,
            ),
            round_trip: durations(
                r,
                "etcd_network_peer_round_trip_time_seconds",
                "Round trips to a member.",
                0.0001,
                16,
                "To",
            ),
            snapshots_sent: counters(r, "etcd_network_snapshot_send_success", "Snapshots sent to a member.", to),
            snapshots_sending: gauges(
                r,
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots being sent to a member.",
                to,
            ),
            snapshot_send_failures: counters(
                r,
                "etcd_network_snapshot_send_failures",
                "Snapshots not sent to a member.",
                to,
            ),
            snapshot_send: durations(
                r,
                "etcd_network_snapshot_send_total_duration_seconds",
                "Time of sending a snapshot to a member.",
                0.1,
                10,
                "To",
            ),
            snapshots_received: counters(
                r,
                "etcd_network_snapshot_receive_success",
                "Snapshots received from a member.",
                from,
            ),
            snapshots_receiving: gauges(
                r,
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received from a member.",
                from,
            ),
            snapshot_receive_failures: counters(
                r,
                "etcd_network_snapshot_receive_failures",
                "Snapshots not received from a member.",
                from,
            ),
            snapshot_receive: durations(
                r,
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Time of receiving a snapshot from a member.",
                0.1,
                10,
                "From",
            ),
        }
    }

    /// A client's stream broke. `kind` is "send" or "receive", `api` is "watch" or "lease-keepalive".
    pub fn stream_failed(&self, kind: &str, api: &str) {
        self.stream_failures.with_label_values(&[kind, api]).inc();
    }

    /// What a client sent on a stream could not be read. One that went away has broken nothing.
    pub fn received_badly(&self, api: &str, error: &Status) {
        if error.code() != Code::Cancelled {
            self.stream_failed("receive", api);
        }
    }

    /// The counters of the traffic with `remote`. Resolve them once per connection.
    #[must_use]
    pub fn peer(&self, local: u64, remote: u64) -> Peer {
        let (local, remote) = (hex(local), hex(remote));
        let (pair, one) = ([local.as_str(), &remote], [remote.as_str()]);
        Peer {
            active: self.active.with_label_values(&pair),
            disconnected: self.disconnected.with_label_values(&pair),
            sent_bytes: self.sent.with_label_values(&one),
            received_bytes: self.received.with_label_values(&one),
            send_failures: self.send_failures.with_label_values(&one),
            receive_failures: self.receive_failures.with_label_values(&one),
            round_trip: self.round_trip.with_label_values(&one),
        }
    }

    /// The counters of snapshots to `remote`.
    #[must_use]
    pub fn snapshots_to(&self, remote: u64) -> SnapshotTransfer {
        let remote = [hex(remote)];
        SnapshotTransfer {
            succeeded: self.snapshots_sent.with_label_values(&remote),
            inflight: self.snapshots_sending.with_label_values(&remote),
            failed: self.snapshot_send_failures.with_label_values(&remote),
            duration: self.snapshot_send.with_label_values(&remote),
        }
    }

    /// The counters of snapshots from `remote`.
    #[must_use]
    pub fn snapshots_from(&self, remote: u64) -> SnapshotTransfer {
        let remote = [hex(remote)];
        SnapshotTransfer {
            succeeded: self.snapshots_received.with_label_values(&remote),
            inflight: self.snapshots_receiving.with_label_values(&remote),
            failed: self.snapshot_receive_failures.with_label_values(&remote),
            duration: self.snapshot_receive.with_label_values(&remote),
        }
    }
}

/// A member's ID as etcd's labels have it.
pub(super) fn hex(id: u64) -> String {
    format!("{id:x}")
}
