//! The flags a member is started with. They are the same for every pod: what differs comes from the pod's own name and UID,
//! which Kubernetes puts in for `$(POD_NAME)` and `$(POD_UID)`.
//!
//! Every pod joins. Only a permit lets one found a cluster, so that a blank volume never makes a second one.

use crate::Blueprint;
use crate::names::{CLIENT_PORT, METRICS_PORT, PEER_PORT};
use crate::objects::mounts::{
    CLIENT_CA, DATA_DIR, FENCE_FILE, PEER_CERTIFICATE, PERMIT_FILE, SERVER_CERTIFICATE, WAL_DIR,
};
use crate::pki;

/// The user's flags come first: of a flag that is given twice the last counts, and it is ours.
#[must_use]
pub fn args(b: &Blueprint) -> Vec<String> {
    let mut args = b.spec.etcd_options.clone();
    args.extend(identity(b));
    args.extend(addresses(b));
    args.extend(tls(b));
    args
}

fn identity(b: &Blueprint) -> Vec<String> {
    let mut args = vec!["--name=$(POD_NAME)".to_owned(), format!("--data-dir={DATA_DIR}")];
    if b.spec.storage_spec.wal_volume.is_some() {
        args.push(format!("--wal-dir={WAL_DIR}"));
    }
    args.extend([
        format!("--quota-backend-bytes={}", b.quota),
        format!("--initial-cluster-token={}", b.token()),
        format!("--join={}", b.names.asked(b.scheme()).join(",")),
        format!("--fence-file={FENCE_FILE}"),
        format!("--permit-file={PERMIT_FILE}"),
        "--permit-holder=$(POD_UID)".to_owned(),
    ]);
    args
}

fn addresses(b: &Blueprint) -> [String; 5] {
    let (scheme, host) = (b.scheme(), b.names.host("$(POD_NAME)"));
    [
        format!("--listen-client-urls={scheme}://0.0.0.0:{CLIENT_PORT}"),
        format!("--listen-peer-urls={scheme}://0.0.0.0:{PEER_PORT}"),
        format!("--listen-metrics-urls=http://0.0.0.0:{METRICS_PORT}"),
        format!("--advertise-client-urls={scheme}://{host}:{CLIENT_PORT}"),
        format!("--initial-advertise-peer-urls={scheme}://{host}:{PEER_PORT}"),
    ]
}

fn tls(b: &Blueprint) -> Vec<String> {
    if !b.encrypts() {
        return Vec::new();
    }
    let mut args =
        vec![format!("--cert-file={SERVER_CERTIFICATE}/tls.crt"), format!("--key-file={SERVER_CERTIFICATE}/tls.key")];
    if b.spec.tls.client_cert_auth {
        args.push("--client-cert-auth=true".to_owned());
        args.push(format!("--trusted-ca-file={CLIENT_CA}/ca.crt"));
    }
    args.extend([
        format!("--peer-cert-file={PEER_CERTIFICATE}/tls.crt"),
        format!("--peer-key-file={PEER_CERTIFICATE}/tls.key"),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-trusted-ca-file={PEER_CERTIFICATE}/ca.crt"),
        // A member's address is looked up in DNS, on which members must not depend to find a quorum.
        "--peer-skip-client-san-verification=true".to_owned(),
    ]);
    if b.names_certificates() {
        // The same CA signs clients' certificates: without it a client could be a member.
        args.push(format!("--peer-cert-allowed-cn={}", pki::profile::peer_name(b)));
    }
    args
}
