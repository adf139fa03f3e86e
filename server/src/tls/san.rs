//! Whether a certificate may come from the address it comes from, as etcd asks of members. Asks the resolver.

use std::net::IpAddr;

use super::certificate::Certificate;
use super::names;

/// A certificate that names nobody may come from anywhere; else the address is one of its own, or belongs to one of
/// its names.
///
/// # Errors
/// Why not, in etcd's words.
pub(super) async fn check(certificate: &Certificate, from: IpAddr) -> Result<(), String> {
    if certificate.ip_addresses.is_empty() && certificate.dns_names.is_empty() {
        return Ok(());
    }
    let host = from.to_string();
    if !certificate.ip_addresses.is_empty() {
        let answer = names::valid_for(certificate, &host);
        if answer.is_ok() || certificate.dns_names.is_empty() {
            return answer;
        }
    }
    let mut failure = String::new();
    let (wildcards, exact): (Vec<&str>, Vec<&str>) =
        certificate.dns_names.iter().map(String::as_str).partition(|name| name.starts_with("*."));
    for name in &exact {
        match tokio::net::lookup_host((*name, 0)).await {
            Ok(mut found) => {
                if found.any(|address| address.ip().to_canonical() == from) {
                    return Ok(());
                }
            }
            Err(error) => failure = format!(" (lookup {name}: {})", super::words::of_io(&error)),
        }
    }
    // The name of the address, for wildcards above all: a name can't be guessed from `*.example.com`.
    if let Ok(Ok(name)) = tokio::task::spawn_blocking(move || dns_lookup::lookup_addr(&from)).await {
        let name = name.trim_end_matches('.');
        if exact.contains(&name) || wildcards.iter().any(|wildcard| name.ends_with(&wildcard[1..])) {
            return Ok(());
        }
    }
    let quoted: Vec<String> = certificate.dns_names.iter().map(|name| format!("{name:?}")).collect();
    Err(format!("tls: {host:?} does not match any of DNSNames [{}]{failure}", quoted.join(" ")))
}
