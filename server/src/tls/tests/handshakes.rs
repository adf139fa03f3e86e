//! Who is let in, who is not, and what is said of it.

use tokio::net::TcpListener;

use super::super::{Acceptor, PeerConnector, Side, Which, self_signed};
use super::pki::{Authority, Dir, Says};
use super::{accepts, limits, load, rejects, shake, shake_from, side};
use crate::config::{ListenUrl, Transport};

#[tokio::test]
async fn the_common_name_is_known_of_who_was_verified() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let server = side(dir.transport("s", &ca.issue(Says::default()), &ca.pem));
    let client = side(dir.transport("c", &ca.issue(Says { cn: "alice", ..Says::default() }), &ca.pem));
    let connection = accepts(&server, &client).await;
    assert!(connection.secure);
    let certificate = connection.certificate.expect("shown");
    assert_eq!((certificate.common_name.as_str(), certificate.serial.as_slice()), ("alice", &[7][..]));
}

#[tokio::test]
async fn without_a_ca_nobody_is_asked() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let mut transport = dir.transport("s", &ca.issue(Says::default()), &ca.pem);
    transport.trusted_ca_file = None;
    let client = side(dir.transport("c", &ca.issue(Says::default()), &ca.pem));
    let connection = accepts(&side(transport), &client).await;
    assert!(connection.secure && connection.certificate.is_none());
}

#[tokio::test]
async fn who_shows_nothing_or_something_foreign_stays_out() {
    let (ca, other, dir) = (Authority::new("ca"), Authority::new("other"), Dir::new());
    let server = side(dir.transport("s", &ca.issue(Says::default()), &ca.pem));
    let silent = Transport { trusted_ca_file: Some(dir.put("ca.crt", &ca.pem)), ..Transport::default() };
    assert_eq!(rejects(&server, &side(silent)).await, "tls: client didn't provide a certificate");
    let foreign = side(dir.transport("f", &other.issue(Says::default()), &ca.pem));
    assert_eq!(
        rejects(&server, &foreign).await,
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    let servers = side(dir.transport("v", &ca.issue(Says { server_only: true, ..Says::default() }), &ca.pem));
    let (accepted, connected) = shake(&server, &servers).await;
    assert_eq!(
        accepted.map(|_| ()).expect_err("of no use").why,
        "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage"
    );
    assert_eq!(connected.map(|_| ()), Err("remote error: tls: bad certificate".to_owned()));
    // The other way round: the client does not believe the server and says so.
    let suspicious = side(dir.transport("d", &ca.issue(Says::default()), &other.pem));
    assert_eq!(rejects(&server, &suspicious).await, "remote error: tls: unknown certificate authority");
}

#[tokio::test]
async fn names_that_are_not_allowed_stay_out() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let issued = ca.issue(Says::default());
    let with = |cns: &[&str], hosts: &[&str]| {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let transport = dir.transport("s", &issued, &ca.pem);
        side(Transport { allowed_cns: list(cns), allowed_hostnames: list(hosts), ..transport })
    };
    let says = Says { cn: "alice", names: &["*.clients.local", "10.1.1.1"], ..Says::default() };
    let client = side(dir.transport("c", &ca.issue(says), &ca.pem));
    accepts(&with(&["bob", "alice"], &[]), &client).await;
    accepts(&with(&[], &["a.clients.local"]), &client).await;
    accepts(&with(&[], &["10.1.1.1"]), &client).await;
    for server in [with(&["bob"], &[]), with(&[], &["alice"])] {
        let (accepted, connected) = shake(&server, &client).await;
        let rejected = accepted.map(|_| ()).expect_err("not allowed");
        assert_eq!(rejected.why, "client certificate authentication failed");
        assert_eq!(rejected.server_name, "localhost");
        assert_eq!(connected.map(|_| ()), Err("remote error: tls: bad certificate".to_owned()));
    }
}

#[tokio::test]
async fn the_revoked_stay_out() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let transport = dir.transport("s", &ca.issue(Says::default()), &ca.pem);
    let der = dir.put("crl.der", ca.revoke(&[0xbeef, 3]));
    let pem = dir.put("crl.pem", self_signed::pem("X509 CRL", &ca.revoke(&[0xbeef])));
    let revoked = side(dir.transport("r", &ca.issue(Says { serial: 0xbeef, ..Says::default() }), &ca.pem));
    let fine = side(dir.transport("f", &ca.issue(Says { serial: 4, ..Says::default() }), &ca.pem));
    for list in [der, pem] {
        let server = side(Transport { crl_file: Some(list), ..transport.clone() });
        assert_eq!(rejects(&server, &revoked).await, "transport: certificate serial beef revoked");
        accepts(&server, &fine).await;
    }
}

#[tokio::test]
async fn a_member_comes_from_where_its_certificate_says() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let server = side(dir.transport("s", &ca.issue(Says::default()), &ca.pem));
    let shown = |names: &[&str]| side(dir.transport("c", &ca.issue(Says { names, ..Says::default() }), &ca.pem));
    let acceptor = Acceptor::with_address_check(server.clone());
    let from = |text: &str| Some(text.parse().expect("an address"));
    for (names, address, why) in [
        (&["127.0.0.1"][..], "127.0.0.1:5", None),
        (&["localhost"], "127.0.0.1:5", None),
        (&[], "192.0.2.1:5", None),
        (&["127.0.0.1"], "192.0.2.1:5", Some("x509: certificate is valid for 127.0.0.1, not 192.0.2.1")),
        (&["localhost"], "192.0.2.1:5", Some(r#"tls: "192.0.2.1" does not match any of DNSNames ["localhost"]"#)),
    ] {
        let (accepted, _) = shake_from(&acceptor, &shown(names), from(address)).await;
        assert_eq!(accepted.map(|_| ()).err().map(|rejected| rejected.why).as_deref(), why, "{names:?} {address}");
    }
    let skipping = dir.transport("s", &ca.issue(Says::default()), &ca.pem);
    let skipping = Acceptor::with_address_check(side(Transport { skip_client_san_verification: true, ..skipping }));
    let (accepted, _) = shake_from(&skipping, &shown(&["127.0.0.1"]), from("192.0.2.1:5")).await;
    assert!(accepted.is_ok());
}

#[test]
fn a_bad_file_is_named_with_its_flag() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let good = dir.transport("s", &ca.issue(Says::default()), &ca.pem);
    let junk = dir.put("junk", "junk");
    let missing = dir.path().join("missing");
    let fails = |transport: Transport| load(Which::Peer, transport).map(|_| ()).expect_err("bad").to_string();
    let (j, m) = (junk.display(), missing.display());
    assert_eq!(
        fails(Transport { cert_file: Some(missing.clone()), ..good.clone() }),
        format!("open {m}: no such file or directory (--peer-cert-file)")
    );
    assert_eq!(
        fails(Transport { cert_file: Some(junk.clone()), ..good.clone() }),
        format!("{j}: tls: failed to find any PEM data in certificate input (--peer-cert-file)")
    );
    assert_eq!(
        fails(Transport { key_file: Some(junk.clone()), ..good.clone() }),
        format!("{j}: tls: failed to find any PEM data in key input (--peer-key-file)")
    );
    assert_eq!(
        fails(Transport { trusted_ca_file: Some(junk.clone()), ..good.clone() }),
        format!("{j}: no certificate in PEM (--peer-trusted-ca-file)")
    );
    assert_eq!(
        fails(Transport { crl_file: Some(junk.clone()), ..good.clone() }),
        format!("{j}: x509: malformed crl (--peer-crl-file)")
    );
    let other = dir.put("other.key", ca.issue(Says::default()).1);
    assert!(
        fails(Transport { key_file: Some(other), ..good }).starts_with("tls: private key does not match public key")
    );
}

/// A peer URL of a listener that shakes hands with one after the other.
async fn listening(side: &std::sync::Arc<Side>) -> ListenUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = Acceptor::with_address_check(side.clone());
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            drop(acceptor.accept(stream, Some(from)).await);
        }
    });
    ListenUrl::parse(&format!("https://127.0.0.1:{port}")).expect("a URL")
}

#[tokio::test]
async fn members_connect_to_members_they_believe() {
    let (ca, other, dir) = (Authority::new("ca"), Authority::new("other"), Dir::new());
    fn says<'a>(cn: &'a str, names: &'a [&'a str]) -> Says<'a> {
        Says { cn, names, ..Says::default() }
    }
    let member = |name: &str, of: &Authority, says: Says<'_>, cns: &[&str]| {
        let allowed_cns = cns.iter().map(|cn| (*cn).to_owned()).collect();
        load(Which::Peer, Transport { allowed_cns, ..dir.transport(name, &of.issue(says), &ca.pem) }).expect("good")
    };
    let asker = member("asker", &ca, says("m1", &["127.0.0.1"]), &["m1", "m2"]);
    let ask = async |url: &ListenUrl| PeerConnector::new(asker.clone()).connect(url).await.map(|_| ());
    ask(&listening(&member("a", &ca, says("m2", &["127.0.0.1"]), &[])).await).await.expect("believed");
    for (of, cn, names, why) in [
        (&other, "m2", "127.0.0.1", "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        (&ca, "m3", "127.0.0.1", "client certificate authentication failed"),
        (&ca, "m2", "10.0.0.1", "not valid for"),
    ] {
        let url = listening(&member("b", of, says(cn, &[names]), &[])).await;
        let error = ask(&url).await.expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn members_with_certificates_of_their_own_making_connect() {
    let dir = Dir::new();
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned(), "localhost".to_owned()];
    let (cert, key) = self_signed::ensure(Which::Peer, dir.path(), &hosts, 1).expect("made");
    let before = std::fs::read(&key).expect("kept");
    self_signed::ensure(Which::Peer, dir.path(), &hosts, 1).expect("there");
    assert_eq!(std::fs::read(&key).expect("kept"), before, "made once");
    let transport = Transport { cert_file: Some(cert), key_file: Some(key), auto: true, ..Transport::default() };
    let side = Side::load(Which::Peer, transport, true, &limits()).map(std::sync::Arc::new).expect("good");
    let url = listening(&side).await;
    PeerConnector::new(side).connect(&url).await.map(|_| ()).expect("connected");
}

#[tokio::test]
async fn unix_sockets_carry_tls_too() {
    let (ca, dir) = (Authority::new("ca"), Dir::new());
    let side = load(Which::Peer, dir.transport("m", &ca.issue(Says::default()), &ca.pem)).expect("good");
    let path = dir.path().join("localhost:1");
    let listener = tokio::net::UnixListener::bind(&path).expect("bound");
    let url =
        ListenUrl { scheme: crate::config::Scheme::Unixs, ..ListenUrl::parse("unix://localhost:1").expect("a URL") };
    let acceptor = Acceptor::with_address_check(side.clone());
    // The socket's path is relative, as etcd's are; the test can't change its directory, so it connects by hand.
    let stream = tokio::net::UnixStream::connect(&path).await.expect("connected");
    let (accepted, _) = listener.accept().await.expect("accepted");
    let name = super::super::connector::server_name(&url).expect("a name");
    let connector = tokio_rustls::TlsConnector::from(side.client().expect("a client"));
    let (served, connected) = tokio::join!(acceptor.accept(accepted, None), connector.connect(name, stream));
    assert!(served.is_ok() && connected.is_ok());
}
