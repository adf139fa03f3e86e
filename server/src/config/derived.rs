//! What etcd derives from the rest where nothing was said: the advertised host, the cluster of one, the directory.

use std::path::PathBuf;

use super::Config;
use super::notice::Notice;
use super::url::{self, Address, ListenUrl};

const DEFAULT_NAME: &str = "default";
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";

/// The host of the machine's default route, if it has one.
pub(super) type DefaultHost<'a> = &'a dyn Fn() -> Option<String>;

/// Fills in, and notes what is worth a line in the log.
pub(super) fn fill_in_defaults(config: &mut Config, default_host: DefaultHost<'_>) {
    let peer_port = wildcard_port(&config.listen_peer_urls)
        .filter(|_| url::join(&config.initial_advertise_peer_urls) == DEFAULT_PEER_URL);
    let client_port = wildcard_port(&config.listen_client_urls)
        .filter(|_| url::join(&config.advertise_client_urls) == DEFAULT_CLIENT_URL);
    if (peer_port.is_some() || client_port.is_some())
        && let Some(host) = default_host()
    {
        if let Some(port) = peer_port {
            readdress(&mut config.initial_advertise_peer_urls, &host, port);
        }
        if let Some(port) = client_port {
            readdress(&mut config.advertise_client_urls, &host, port);
        }
        config.notices.push(Notice::DefaultHost(host));
    }
    if config.name != DEFAULT_NAME && config.initial_cluster == DEFAULT_CLUSTER {
        let name = if config.name.is_empty() { DEFAULT_NAME } else { &config.name };
        let pairs: Vec<String> = config.initial_advertise_peer_urls.iter().map(|u| format!("{name}={u}")).collect();
        config.initial_cluster = pairs.join(",");
    }
    if config.listen_client_http_urls.is_empty() {
        config.notices.push(Notice::SinglePort);
    }
    if config.name == DEFAULT_NAME {
        config.notices.push(Notice::DefaultName);
    }
    if config.data_dir.as_os_str().is_empty() {
        let dir = format!("{}.etcd", config.name);
        config.data_dir = PathBuf::from(&dir);
        config.notices.push(Notice::DefaultDataDir(dir));
    }
}

/// The port of a member that listens on every address.
fn wildcard_port(urls: &[ListenUrl]) -> Option<u16> {
    let (host, port) = urls.first()?.host_port()?;
    (host == "0.0.0.0").then_some(port)
}

fn readdress(urls: &mut [ListenUrl], host: &str, port: u16) {
    for url in urls {
        url.address = Address::Tcp { host: host.to_owned(), port };
    }
}
