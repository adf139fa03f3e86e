//! TLS, users, and who may speak HTTP to a member. What would make a member less closed than its owner believes is
//! refused, never ignored.

use super::{Flag, Kind, inert, on, refused};

/// Why a TLS setting stops the start.
pub(crate) const TLS: &str = "TLS is not in this version; listen on http:// URLs in a network you trust";
const USERS: &str = "users and their tokens are not in this version; only the default is accepted";
// Without a certificate etcd reads and ignores these too, and its own sample file sets them.
const NO_TLS: &str = "it only matters with TLS, which is not in this version";

const fn tls(name: &'static str) -> Flag {
    refused(name, Kind::Text, "", TLS)
}

const fn tls_switch(name: &'static str) -> Flag {
    refused(name, Kind::Bool, "false", TLS)
}

const fn tls_list(name: &'static str) -> Flag {
    refused(name, Kind::List, "", TLS)
}

pub(super) const FLAGS: &[Flag] = &[
    on("cors", Kind::Origins, "*", "Origins that browsers may call from, comma-separated; * means all."),
    on(
        "host-whitelist",
        Kind::Words,
        "*",
        "Host names that HTTP requests may carry, comma-separated; empty or * means all.",
    ),
    tls("cert-file"),
    tls("key-file"),
    tls("client-cert-file"),
    tls("client-key-file"),
    tls_switch("client-cert-auth"),
    tls("client-crl-file"),
    tls_list("client-cert-allowed-hostname"),
    tls("trusted-ca-file"),
    tls_switch("auto-tls"),
    tls("peer-cert-file"),
    tls("peer-key-file"),
    tls("peer-client-cert-file"),
    tls("peer-client-key-file"),
    tls_switch("peer-client-cert-auth"),
    tls("peer-crl-file"),
    tls_list("peer-cert-allowed-cn"),
    tls_list("peer-cert-allowed-hostname"),
    tls("peer-trusted-ca-file"),
    tls_switch("peer-auto-tls"),
    tls_switch("peer-skip-client-san-verification"),
    inert("self-signed-cert-validity", Kind::Uint, "1", NO_TLS),
    inert("cipher-suites", Kind::List, "", NO_TLS),
    inert("tls-min-version", Kind::Text, "TLS1.2", NO_TLS),
    inert("tls-max-version", Kind::Text, "", NO_TLS),
    refused("auth-token", Kind::Text, "simple", USERS),
    refused("bcrypt-cost", Kind::Uint, "10", USERS),
    inert("auth-token-ttl", Kind::Uint, "300", "users and their tokens are not in this version"),
];
