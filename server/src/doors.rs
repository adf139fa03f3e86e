//! The member's doors: what is bound before anything else, and who finds what where once it is opened.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::api::front::{Doors, Http2};
use crate::api::services::AllDoors;
use crate::config::{Config, ListenUrl};
use crate::listen::{Bound, ListenError, Serving};
use crate::runtime::Workers;
use crate::tls::{Acceptor, Sides};

/// Everything that is bound before any data is touched, so that a port in use changes nothing.
pub struct Listeners {
    pub client: Vec<Bound>,
    pub http: Vec<Bound>,
    pub metrics: Vec<Bound>,
    pub peer: Vec<Bound>,
}

impl Listeners {
    /// # Errors
    /// An address can't be bound.
    pub fn bind(config: &Config) -> Result<Self, ListenError> {
        let each =
            |urls: &[ListenUrl]| urls.iter().map(|url| Bound::bind(url, config.socket)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            peer: each(&config.listen_peer_urls)?,
            client: Bound::bind_all(&config.listen_client_urls, config.socket)?,
            http: Bound::bind_all(&config.listen_client_http_urls, config.socket)?,
            metrics: each(&config.listen_metrics_urls)?,
        })
    }
}

/// What clients find at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDoor {
    address: String,
    traffic: &'static str,
    secure: bool,
    insecure: bool,
}

impl OpenDoor {
    /// etcd's lines: people and scripts wait for them.
    pub fn log(&self) {
        let Self { address, traffic, .. } = self;
        tracing::info!("ready to serve client requests");
        if self.insecure {
            tracing::info!(traffic, address, "serving client traffic insecurely; this is strongly discouraged!");
        }
        if self.secure {
            tracing::info!(traffic, address, "serving client traffic securely");
        }
    }
}

/// Opens doors, which close when `stop` is true; who is still connected then holds a receiver of it.
pub struct Opener {
    http2: Http2,
    clients: Option<Acceptor>,
    scrapers: Option<Acceptor>,
    members: Acceptor,
    workers: Arc<Mutex<Workers>>,
    stop: watch::Sender<bool>,
    listening: JoinSet<()>,
}

impl Opener {
    #[must_use]
    pub fn new(config: &Config, tls: &Sides, workers: &Arc<Mutex<Workers>>, stop: &watch::Sender<bool>) -> Self {
        let keepalive = &config.keepalive;
        Self {
            http2: Http2 {
                max_concurrent_streams: config.max_concurrent_streams,
                keepalive_interval: keepalive.interval,
                keepalive_timeout: keepalive.timeout.unwrap_or(Duration::from_secs(20)),
            },
            clients: tls.client.clone().map(Acceptor::new),
            scrapers: tls.client.clone().map(Acceptor::with_address_check),
            members: Acceptor::with_address_check(tls.peer.clone()),
            workers: workers.clone(),
            stop: stop.clone(),
            listening: JoinSet::new(),
        }
    }

    /// `--listen-peer-urls`.
    pub fn members(&mut self, bounds: Vec<Bound>, doors: &Doors) {
        let acceptor = Some(self.members.clone());
        self.open(bounds, doors, acceptor, "peer");
    }

    /// All the others; tells what clients find where.
    pub fn clients(
        &mut self,
        client: Vec<Bound>,
        http: Vec<Bound>,
        metrics: Vec<Bound>,
        doors: AllDoors,
    ) -> Vec<OpenDoor> {
        let split = !http.is_empty();
        let (client_doors, traffic) = if split { (doors.grpc_only, "grpc") } else { (doors.client, "grpc+http") };
        let described = |traffic: &'static str| {
            move |bound: &Bound| OpenDoor {
                address: bound.urls[0].authority(),
                traffic,
                secure: bound.is_secure(),
                insecure: bound.is_insecure(),
            }
        };
        let open = client.iter().map(described(traffic)).chain(http.iter().map(described("http"))).collect();
        self.open(client, &client_doors, self.clients.clone(), "client");
        self.open(http, &doors.http_only, self.clients.clone(), "client");
        self.open(metrics, &doors.metrics, self.scrapers.clone(), "client");
        open
    }

    /// What runs as long as a door is open.
    #[must_use]
    pub fn into_listening(self) -> JoinSet<()> {
        self.listening
    }

    fn open(&mut self, bounds: Vec<Bound>, doors: &Doors, acceptor: Option<Acceptor>, endpoint: &'static str) {
        for bound in bounds {
            tracing::info!(endpoint, urls = ?bound.urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>(), "listening");
            let serving = Serving { doors: doors.clone(), http2: self.http2, acceptor: acceptor.clone(), endpoint };
            let accepting = bound.serve(serving, self.workers.clone(), self.stop.subscribe());
            self.listening.spawn(async move {
                if let Err(error) = accepting.await {
                    tracing::warn!(%error, "a listener ended");
                }
            });
        }
    }
}
