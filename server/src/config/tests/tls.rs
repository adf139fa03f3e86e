//! The rules between TLS settings, in etcd's words where etcd has them.

use std::path::PathBuf;

use super::super::{Config, Notice, Scheme, TlsVersion};
use super::{fails, line};

const PAIR: [&str; 2] = ["--cert-file=/c", "--key-file=/k"];
const HTTPS: [&str; 2] = ["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"];

fn with(args: &[&str], more: &[&str]) -> Vec<String> {
    args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn good(args: &[String]) -> Config {
    line(&args.iter().map(String::as_str).collect::<Vec<_>>()).expect("valid")
}

#[test]
fn flags_reach_their_side() {
    let c = good(&with(
        &PAIR,
        &[
            "--trusted-ca-file=/ca",
            "--client-cert-auth",
            "--client-crl-file=/crl",
            "--client-cert-allowed-hostname=b,a",
            "--peer-cert-file=/pc",
            "--peer-key-file=/pk",
            "--peer-trusted-ca-file=/pca",
            "--peer-cert-allowed-cn=m",
            "--experimental-peer-skip-client-san-verification",
            "--tls-min-version=TLS1.2",
            "--self-signed-cert-validity=3",
        ],
    ));
    assert_eq!(c.client_tls.cert_file, Some(PathBuf::from("/c")));
    assert!(c.client_tls.client_cert_auth && c.client_tls.wants_certificate());
    assert_eq!(c.client_tls.allowed_hostnames, ["a", "b"]);
    assert_eq!(c.client_tls.crl_file, Some(PathBuf::from("/crl")));
    assert!(!c.peer_tls.client_cert_auth && c.peer_tls.wants_certificate());
    assert_eq!(c.peer_tls.allowed_cns, ["m"]);
    assert!(c.peer_tls.skip_client_san_verification && !c.client_tls.skip_client_san_verification);
    assert_eq!((c.tls.min_version, c.tls.max_version), (TlsVersion::Tls12, TlsVersion::Tls13));
    assert_eq!(c.tls.self_signed_years, 3);
}

#[test]
fn what_can_not_be_is_refused() {
    let ca = "--trusted-ca-file=/ca";
    let cns = "--client-cert-allowed-cn=a";
    for (args, message) in [
        (
            with(&HTTPS, &[]),
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS \
             scheme",
        ),
        (with(&["--cert-file=/c"], &[]), "KeyFile and CertFile must both be present[key: , cert: /c]"),
        (
            with(&PAIR, &["--client-cert-file=/x"]),
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: /x]",
        ),
        (
            with(&PAIR, &[ca, cns, "--client-cert-allowed-hostname=b,c"]),
            r#"AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b" "c"])"#,
        ),
        (
            with(&PAIR, &[cns]),
            "allowed names and revocation lists of client certificates need certificates: set --trusted-ca-file too",
        ),
        (
            with(&["--listen-peer-urls=https://127.0.0.1:2"], &[]),
            "cannot listen on TLS for 127.0.0.1:2: KeyFile and CertFile are not presented \
             (--peer-cert-file, --peer-key-file)",
        ),
        (
            with(&["--listen-metrics-urls=https://127.0.0.1:3"], &[]),
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (
            with(&["--listen-client-http-urls=http://localhost:2379"], &[]),
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://localhost:2379",
        ),
        (
            with(&["--auto-tls", "--self-signed-cert-validity=0"], &[]),
            "selfSignedCertValidity is invalid,it should be greater than 0",
        ),
        (
            with(&["--auto-tls", "--client-cert-auth"], &[]),
            "--auto-tls with --client-cert-auth needs --trusted-ca-file: no CA vouches for certificates that a member \
             makes itself",
        ),
        (
            with(&["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"], &[]),
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (with(&["--cipher-suites=foo"], &[]), r#"unexpected TLS cipher suite "foo""#),
        (
            with(&["--tls-min-version=TLS1.1"], &[]),
            r#"unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3) (--tls-min-version)"#,
        ),
        (
            with(&["--tls-max-version=TLS1.2", "--cipher-suites=TLS_RSA_WITH_RC4_128_SHA"], &[]),
            "--cipher-suites=TLS_RSA_WITH_RC4_128_SHA: none of them is served for TLS 1.2",
        ),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_eq!(fails(&args), (message.to_owned(), 1));
    }
    let (message, _) = fails(&["--peer-auto-tls", "--peer-client-cert-auth"]);
    assert!(message.contains("--peer-auto-tls can't be combined"), "{message}");
}

#[test]
fn what_is_passed_over_is_told() {
    let c = good(&with(&PAIR, &["--client-cert-auth", "--auto-tls"]));
    let told = |notice: &Notice| c.notices.contains(notice);
    assert!(told(&Notice::AutoTlsIgnored("client")));
    let url = "http://localhost:2379".to_owned();
    assert!(told(&Notice::PlainThoughCertificate { which: "client", url: url.clone() }));
    assert!(told(&Notice::PlainThoughAuth { which: "client", url }));
}

#[test]
fn one_port_may_have_both_schemes() {
    let both = "http://127.0.0.1:1,https://127.0.0.1:1";
    let urls = [format!("--listen-client-urls={both}"), format!("--advertise-client-urls={both}")];
    let c = good(&with(&[&urls[0], &urls[1], "--auto-tls"], &[]));
    let schemes: Vec<Scheme> = c.listen_client_urls.iter().map(|url| url.scheme).collect();
    assert_eq!(schemes, [Scheme::Http, Scheme::Https]);
}
