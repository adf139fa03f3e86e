//! Where a member finds its files, and from which objects they come. Files of Secrets and ConfigMaps change under a running
//! member; it reads them again.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount};
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_plan::observed::Surface;

use crate::Blueprint;
use crate::names::Names;

pub const DATA: &str = "data";
pub const WAL: &str = "wal";

const DATA_MOUNT: &str = "/var/lib/keepstone";
const WAL_MOUNT: &str = "/var/lib/keepstone-wal";
const PERMIT_MOUNT: &str = "/etc/keepstone/permit";
const FENCE_MOUNT: &str = "/etc/keepstone/fence";

/// Below the mount, which has things of its own in it (`lost+found`), and can't be renamed.
pub const DATA_DIR: &str = "/var/lib/keepstone/member";
pub const WAL_DIR: &str = "/var/lib/keepstone-wal/log";
pub const PERMIT_FILE: &str = "/etc/keepstone/permit/permit";
pub const FENCE_FILE: &str = "/etc/keepstone/fence/fence";
pub const SERVER_CERTIFICATE: &str = "/etc/keepstone/tls/server";
pub const PEER_CERTIFICATE: &str = "/etc/keepstone/tls/peer";
pub const CLIENT_CA: &str = "/etc/keepstone/tls/client-ca";

/// Read by the owner and the group: the group is that of the pod's security context.
const MODE: i32 = 0o440;

/// The key of the permit in its ConfigMap.
pub const PERMIT_KEY: &str = "permit";
/// The key of the fence in its ConfigMap.
pub const FENCE_KEY: &str = "fence";
/// The key of CAs, wherever they are.
pub const CA_KEY: &str = "ca.crt";

/// The claim templates' names, of which the claims' names are made.
#[must_use]
pub fn claims(b: &Blueprint) -> Vec<&'static str> {
    if b.spec.storage_spec.wal_volume.is_some() { vec![DATA, WAL] } else { vec![DATA] }
}

#[must_use]
pub fn mounts(b: &Blueprint) -> Vec<VolumeMount> {
    let mut all = vec![mount(DATA, DATA_MOUNT, false)];
    if b.spec.storage_spec.wal_volume.is_some() {
        all.push(mount(WAL, WAL_MOUNT, false));
    }
    all.push(mount("permit", PERMIT_MOUNT, true));
    all.push(mount("fence", FENCE_MOUNT, true));
    if b.encrypts() {
        all.push(mount("server-tls", SERVER_CERTIFICATE, true));
        all.push(mount("peer-tls", PEER_CERTIFICATE, true));
    }
    if trusts_clients(b) {
        all.push(mount("client-ca", CLIENT_CA, true));
    }
    all
}

/// Those that are no claims.
#[must_use]
pub fn volumes(b: &Blueprint) -> Vec<Volume> {
    let mut all = vec![permit(&b.names), fence(&b.names)];
    if b.encrypts() {
        let (server, peer) = secrets(b);
        all.push(secret("server-tls", server, &["tls.crt", "tls.key"]));
        all.push(secret("peer-tls", peer, &["tls.crt", "tls.key", CA_KEY]));
    }
    if trusts_clients(b) {
        all.push(client_ca(b));
    }
    all
}

fn trusts_clients(b: &Blueprint) -> bool {
    b.encrypts() && b.spec.tls.client_cert_auth
}

/// The Secrets with what members show to clients and to each other.
fn secrets(b: &Blueprint) -> (String, String) {
    match &b.spec.tls.provider_cfg.secret_cfg {
        Some(given) if b.spec.tls.provider == TlsProvider::Secret => {
            (given.server_secret_ref.name.clone(), given.peer_secret_ref.name.clone())
        }
        _ => (b.names.leaf(Surface::Server), b.names.leaf(Surface::Peer)),
    }
}

fn client_ca(b: &Blueprint) -> Volume {
    match &b.spec.tls.provider_cfg.secret_cfg {
        Some(given) if b.spec.tls.provider == TlsProvider::Secret => {
            secret("client-ca", given.client_ca_secret_ref.name.clone(), &[CA_KEY])
        }
        _ => config_map("client-ca", b.names.trust(), CA_KEY, false),
    }
}

/// It comes and goes: a pod must start, and run, without it.
fn permit(names: &Names) -> Volume {
    config_map("permit", names.permit(), PERMIT_KEY, true)
}

/// It is there only while somebody must not start.
fn fence(names: &Names) -> Volume {
    config_map("fence", names.fence(), FENCE_KEY, true)
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn items(keys: &[&str]) -> Option<Vec<KeyToPath>> {
    let item = |key: &&str| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None };
    Some(keys.iter().map(item).collect())
}

fn secret(name: &str, secret: String, keys: &[&str]) -> Volume {
    let source = SecretVolumeSource {
        secret_name: Some(secret),
        items: items(keys),
        default_mode: Some(MODE),
        ..SecretVolumeSource::default()
    };
    Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() }
}

fn config_map(name: &str, map: String, key: &str, optional: bool) -> Volume {
    let source = ConfigMapVolumeSource {
        name: map,
        items: items(&[key]),
        default_mode: Some(MODE),
        optional: optional.then_some(true),
    };
    Volume { name: name.to_owned(), config_map: Some(source), ..Volume::default() }
}
