//! Calls by method, as go-grpc-prometheus counts them. Every method and code there is has its counter from the start:
//! a call adds to fields it holds and looks no label up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::groups::register;

/// Code names as Go has them, by their number.
pub(super) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Methods of gRPC's own health service, and whether they answer with a stream.
const HEALTH: (&str, [(&str, Kind); 3]) =
    ("grpc.health.v1.Health", [("Check", Kind::Unary), ("List", Kind::Unary), ("Watch", Kind::ServerStream)]);

/// Who may send more than one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unary,
    ClientStream,
    ServerStream,
    BidiStream,
}

impl Kind {
    fn of(client_streaming: bool, server_streaming: bool) -> Self {
        match (client_streaming, server_streaming) {
            (false, false) => Self::Unary,
            (true, false) => Self::ClientStream,
            (false, true) => Self::ServerStream,
            (true, true) => Self::BidiStream,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// Every method of every service a member has, by its path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GrpcMethods {
    by_path: Arc<HashMap<String, Arc<GrpcMethod>>>,
}

/// One method's counters.
#[derive(Debug)]
pub struct GrpcMethod {
    pub kind: Kind,
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    handled: [IntCounter; CODES.len()],
    seconds: Option<Histogram>,
}

struct Vectors {
    started: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handled: IntCounterVec,
    seconds: Option<HistogramVec>,
}

impl GrpcMethods {
    /// `extensive` also keeps how long calls take.
    pub(super) fn new(registry: &Registry, extensive: bool) -> Self {
        let vectors = Vectors::new(registry, extensive);
        let mut by_path = HashMap::new();
        for (service, method, kind) in methods() {
            let counters = Arc::new(vectors.resolve(&service, &method, kind));
            by_path.insert(format!("/{service}/{method}"), counters);
        }
        Self { by_path: Arc::new(by_path) }
    }

    /// The method of a request's path: "/etcdserverpb.KV/Range".
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Arc<GrpcMethod>> {
        self.by_path.get(path)
    }

    /// All paths, in no order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.by_path.keys().map(String::as_str)
    }
}

impl GrpcMethod {
    /// A call begins. Give what comes back to [`Self::handled_since`] when it ends.
    pub fn started(&self) -> Option<Instant> {
        self.started.inc();
        if matches!(self.kind, Kind::Unary | Kind::ServerStream) {
            self.received.inc();
        }
        self.seconds.as_ref().map(|_| Instant::now())
    }

    /// A call has ended.
    pub fn handled(&self, code: Code) {
        if code == Code::Ok && matches!(self.kind, Kind::Unary | Kind::ClientStream) {
            self.sent.inc();
        }
        self.handled[code as usize].inc();
    }

    /// A call has ended that began then; with extensive metrics its time is kept.
    pub fn handled_since(&self, code: Code, started: Option<Instant>) {
        self.handled(code);
        if let Some((seconds, started)) = self.seconds.as_ref().zip(started) {
            seconds.observe(started.elapsed().as_secs_f64());
        }
    }

    /// A client's stream brought a message. The one message of a unary call is counted by [`Self::started`].
    pub fn received(&self) {
        self.received.inc();
    }

    /// A stream's message went out. The one answer of a unary call is counted by [`Self::handled`].
    pub fn sent(&self) {
        self.sent.inc();
    }
}

impl Vectors {
    fn new(r: &Registry, extensive: bool) -> Self {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        let counters = |name: &str, help: &str| register(r, IntCounterVec::new(Opts::new(name, help), &labels));
        let handled = Opts::new("grpc_server_handled_total", "Calls that have ended, by their code.");
        let seconds = HistogramOpts::new("grpc_server_handling_seconds", "Time of a call.");
        Self {
            started: counters("grpc_server_started_total", "Calls that have begun."),
            received: counters("grpc_server_msg_received_total", "Messages received from clients."),
            sent: counters("grpc_server_msg_sent_total", "Messages sent to clients."),
            handled: register(r, IntCounterVec::new(handled, &["grpc_code", labels[0], labels[1], labels[2]])),
            seconds: extensive.then(|| register(r, HistogramVec::new(seconds, &labels))),
        }
    }

    fn resolve(&self, service: &str, method: &str, kind: Kind) -> GrpcMethod {
        let labels = [method, service, kind.name()];
        GrpcMethod {
            kind,
            started: self.started.with_label_values(&labels),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handled: CODES.map(|code| self.handled.with_label_values(&[code, method, service, kind.name()])),
            seconds: self.seconds.as_ref().map(|seconds| seconds.with_label_values(&labels)),
        }
    }
}

/// Service, method and kind of everything that may be called.
fn methods() -> Vec<(String, String, Kind)> {
    let files =
        FileDescriptorSet::decode(keepstone_proto::FILE_DESCRIPTOR_SET).expect("the build wrote the descriptors");
    let mut all = Vec::new();
    // What members say to one another is counted elsewhere.
    for file in files.file.iter().filter(|file| file.package() != "keepstonepb") {
        for service in &file.service {
            for method in &service.method {
                let kind = Kind::of(method.client_streaming(), method.server_streaming());
                all.push((format!("{}.{}", file.package(), service.name()), method.name().to_owned(), kind));
            }
        }
    }
    let (service, methods) = HEALTH;
    all.extend(methods.map(|(method, kind)| (service.to_owned(), method.to_owned(), kind)));
    all
}
