//! TLS, users, and who may speak HTTP to a member. What would make a member less closed than its owner believes is
//! refused, never ignored.

use super::{Flag, Kind, inert, on, refused};

const USERS: &str = "users and their tokens are not in this version; only the default is accepted";

const fn file(name: &'static str, help: &'static str) -> Flag {
    on(name, Kind::Text, "", help)
}

const fn switch(name: &'static str, help: &'static str) -> Flag {
    on(name, Kind::Bool, "false", help)
}

const fn names(name: &'static str, help: &'static str) -> Flag {
    on(name, Kind::List, "", help)
}

pub(super) const FLAGS: &[Flag] = &[
    on("cors", Kind::Origins, "*", "Origins that browsers may call from, comma-separated; * means all."),
    on(
        "host-whitelist",
        Kind::Words,
        "*",
        "Host names that HTTP requests without TLS may carry, comma-separated; empty or * means all.",
    ),
    file(
        "cert-file",
        "Certificate and chain shown to clients on https:// URLs, PEM. All files below are read anew when they change.",
    ),
    file("key-file", "Key of --cert-file, PEM."),
    file("client-cert-file", "Certificate for connections to oneself; checked, and not used by Keepstone."),
    file("client-key-file", "Key of --client-cert-file, PEM."),
    switch("client-cert-auth", "Clients must show a certificate."),
    file("client-crl-file", "Revoked client certificates, DER or PEM."),
    names(
        "client-cert-allowed-hostname",
        "Names or IP addresses, one of which a client's certificate must be valid for.",
    ),
    file("trusted-ca-file", "CAs of client certificates, PEM; clients must then show one."),
    switch("auto-tls", "Make a certificate for clients where --cert-file is not given."),
    file("peer-cert-file", "Certificate and chain shown to other members, PEM."),
    file("peer-key-file", "Key of --peer-cert-file, PEM."),
    file("peer-client-cert-file", "Certificate for connections to other members, where it is not --peer-cert-file."),
    file("peer-client-key-file", "Key of --peer-client-cert-file, PEM."),
    switch("peer-client-cert-auth", "Other members must show a certificate."),
    file("peer-crl-file", "Revoked certificates of members, DER or PEM."),
    names("peer-cert-allowed-cn", "Common names, one of which a member's certificate must have."),
    names(
        "peer-cert-allowed-hostname",
        "Names or IP addresses, one of which a member's certificate must be valid for.",
    ),
    file("peer-trusted-ca-file", "CAs of members' certificates, PEM; members must then show one."),
    switch(
        "peer-auto-tls",
        "Make a certificate for members where --peer-cert-file is not given. Encrypts, trusts anybody.",
    ),
    switch("peer-skip-client-san-verification", "Don't compare a member's certificate with the address it comes from."),
    on(
        "self-signed-cert-validity",
        Kind::Uint,
        "1",
        "Years that a certificate of --auto-tls and --peer-auto-tls is valid.",
    ),
    on(
        "cipher-suites",
        Kind::List,
        "",
        "Cipher suites of TLS 1.2 by Go's names, comma-separated; empty means all. Those of TLS 1.3 are always on.",
    ),
    on("tls-min-version", Kind::Text, "TLS1.2", "TLS1.2 or TLS1.3."),
    on("tls-max-version", Kind::Text, "", "TLS1.2 or TLS1.3; empty means the newest."),
    refused("auth-token", Kind::Text, "simple", USERS),
    refused("bcrypt-cost", Kind::Uint, "10", USERS),
    inert("auth-token-ttl", Kind::Uint, "300", "users and their tokens are not in this version"),
];
