//! Certificates of the cluster's own, checked as the other side checks them, and one CA taking another's place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keepstone_operator::Settings;
use keepstone_operator::blueprint::{Blueprint, OperatorPods};
use keepstone_operator::objects::{tls_secret, trust};
use keepstone_operator::pki::{Authority, Bundle, Ca, Error, LIFE, Leaf, SystemKeys, issue, profile};
use keepstone_operator_plan::ids::{Seconds, Time};
use keepstone_operator_plan::observed::Surface;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

const NOW: Time = Time(1_800_000_000);
const DAY: Seconds = Seconds(24 * 3600);

fn blueprint() -> Blueprint {
    let cluster = serde_json::json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "u"}, "spec": {"version": "v0.1.0"},
    });
    let operator = OperatorPods { namespace: "keepstone-system".to_owned(), labels: Vec::new() };
    let settings = Settings {
        image: "keepstone".to_owned(),
        domain: "cluster.local".to_owned(),
        agent: "agent".to_owned(),
        operator,
    };
    Blueprint::read(&serde_json::from_value(cluster).expect("a cluster"), &settings).expect("it can be read")
}

fn roots(bundle: &Bundle) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for ca in bundle.cas() {
        roots.add(ca.der().clone()).expect("a CA");
    }
    Arc::new(roots)
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).expect("a certificate")
}

/// Whether who trusts `bundle` lets the one with `leaf` connect.
fn admits(bundle: &Bundle, leaf: &Leaf, now: Time) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    if bundle.cas().is_empty() {
        return false;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(bundle), provider).build().expect("a verifier");
    verifier.verify_client_cert(&der(leaf), &[], UnixTime::since_unix_epoch(Duration::from_secs(now.0))).is_ok()
}

/// Whether who trusts `bundle` and asks for `host` believes the one with `leaf`.
fn believes(bundle: &Bundle, leaf: &Leaf, host: &str, now: Time) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    if bundle.cas().is_empty() {
        return false;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(bundle), provider).build().expect("a verifier");
    let host = ServerName::try_from(host.to_owned()).expect("a host");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.0));
    verifier.verify_server_cert(&der(leaf), &[], &host, &[], now).is_ok()
}

fn sign(authority: &Authority, b: &Blueprint, now: Time) -> Authority {
    let ca = authority.issuer.as_ref().expect("a CA").certificate.id.clone();
    Surface::ALL.iter().fold(authority.clone(), |all, surface| {
        all.sign(*surface, &ca, &profile::of(b, *surface), Seconds(90 * DAY.0), now, &mut SystemKeys).expect("signed")
    })
}

fn first(b: &Blueprint) -> Authority {
    let made = Authority::default().create(false, "demo", LIFE, NOW, &mut SystemKeys).expect("a CA");
    let ids = BTreeSet::from([made.issuer.as_ref().expect("a CA").certificate.id.clone()]);
    sign(&made.publish(&ids, NOW).expect("published"), b, NOW)
}

#[test]
fn members_believe_each_other_and_their_clients() {
    let b = blueprint();
    let a = first(&b);
    let (server, peer) = (&a.leaves[&Surface::Server], &a.leaves[&Surface::Peer]);
    for host in ["demo-0.demo-peers.default.svc.cluster.local", "demo-8.demo-peers.default.svc"] {
        assert!(believes(&a.bundle, server, host, NOW) && believes(&a.bundle, peer, host, NOW), "{host}");
    }
    for host in ["demo-client.default.svc", "127.0.0.1", "::1", "localhost"] {
        assert!(believes(&a.bundle, server, host, NOW), "{host}");
    }
    assert!(!believes(&a.bundle, server, "other-client.default.svc", NOW));
    assert!(!believes(&a.bundle, server, "demo-0.demo-peers.other.svc.cluster.local", NOW));
    for surface in [Surface::Peer, Surface::Operator, Surface::Client] {
        assert!(admits(&a.bundle, &a.leaves[&surface], NOW), "{surface:?}");
    }
}

/// What a client is given must not let it pose as a member, nor what members show to clients let anybody in.
#[test]
fn a_certificate_is_for_one_purpose() {
    let a = first(&blueprint());
    assert!(!admits(&a.bundle, &a.leaves[&Surface::Server], NOW));
    for surface in [Surface::Client, Surface::Operator] {
        assert!(!believes(&a.bundle, &a.leaves[&surface], "demo-client", NOW));
    }
}

#[test]
fn a_certificate_ends_and_begins_before_it_was_made() {
    let a = first(&blueprint());
    let leaf = &a.leaves[&Surface::Client];
    let facts = leaf.facts().expect("facts");
    assert_eq!((facts.issued, facts.not_after), (NOW, NOW.after(Seconds(90 * DAY.0))));
    assert!(admits(&a.bundle, leaf, Time(NOW.0 - 1800)), "a clock that is half an hour slow");
    assert!(!admits(&a.bundle, leaf, Time(facts.not_after.0 + 1)));
}

/// Else it would be trusted by nobody while it still says that it is valid.
#[test]
fn no_certificate_outlives_its_ca() {
    let ca = Ca::create("demo", NOW, DAY, &mut SystemKeys).expect("a CA");
    let profile = profile::of(&blueprint(), Surface::Client);
    let leaf = issue(&ca, &profile, Seconds(90 * DAY.0), NOW, &mut SystemKeys).expect("signed");
    assert_eq!(leaf.facts().expect("facts").not_after, NOW.after(DAY));
    let late = issue(&ca, &profile, DAY, NOW.after(DAY), &mut SystemKeys);
    assert_eq!(late, Err(Error::Ended(ca.certificate.id.clone())));
}

#[test]
fn every_certificate_has_a_key_of_its_own() {
    let a = first(&blueprint());
    let keys: BTreeSet<&str> = a.leaves.values().map(|leaf| leaf.key_pem.as_str()).collect();
    assert_eq!(keys.len(), 4);
}

/// The Secrets are all there is: what is read from them goes on where it was.
#[test]
fn a_ca_goes_on_signing_after_it_was_written_and_read() {
    let b = blueprint();
    let a = first(&b);
    let ca = a.issuer.clone().expect("a CA");
    let read = tls_secret::read_ca(&tls_secret::ca(&b, &ca, false)).expect("a CA");
    assert_eq!(read.certificate, ca.certificate);
    let leaf = issue(&read, &profile::of(&b, Surface::Client), DAY, NOW, &mut SystemKeys).expect("signed");
    assert!(admits(&a.bundle, &leaf, NOW));
    let secret = tls_secret::leaf(&b, Surface::Client, &leaf, &a.bundle);
    assert_eq!(tls_secret::read_leaf(&secret), Ok(leaf));
    let (bundle, since) = trust::read(&trust::build(&b, &a.bundle, None, NOW)).expect("a bundle");
    assert_eq!((bundle, since), (a.bundle, Some(NOW)));
}

#[test]
fn a_ca_with_another_cas_key_is_refused() {
    let [one, two] = [1, 2].map(|n| Ca::create("demo", Time(NOW.0 + n), DAY, &mut SystemKeys).expect("a CA"));
    let mixed = Ca::from_pem(&one.certificate.to_pem(), &two.key_pem());
    assert_eq!(mixed.err(), Some(Error::Key("it is not the certificate's".to_owned())));
    let leaf = issue(&one, &profile::of(&blueprint(), Surface::Client), DAY, NOW, &mut SystemKeys).expect("signed");
    Ca::from_pem(&leaf.certificate_pem, &leaf.key_pem).expect_err("no CA");
}

#[test]
fn a_name_that_is_none_is_refused_and_not_left_out() {
    let ca = Ca::create("demo", NOW, DAY, &mut SystemKeys).expect("a CA");
    for (dns, ip) in [("käse.example", ""), ("a b", ""), ("", ""), ("fine.example", "10.0.0.300")] {
        let mut profile = profile::of(&blueprint(), Surface::Server);
        profile.dns_names.push(dns.to_owned());
        if !ip.is_empty() {
            profile.ip_addresses.push(ip.to_owned());
        }
        let issued = issue(&ca, &profile, DAY, NOW, &mut SystemKeys);
        assert!(matches!(issued, Err(Error::Name(_))), "{dns} {ip}");
    }
}

/// Everything that is in force at the same time works with everything else: `now` and `then` are what some have read already,
/// and others have not.
fn assert_together(now: &Authority, then: &Authority, time: Time) {
    let host = "demo-1.demo-peers.default.svc.cluster.local";
    for trusting in [now, then] {
        for showing in [now, then] {
            for surface in [Surface::Server, Surface::Peer] {
                assert!(believes(&trusting.bundle, &showing.leaves[&surface], host, time), "{surface:?}");
            }
            for surface in [Surface::Peer, Surface::Operator, Surface::Client] {
                assert!(admits(&trusting.bundle, &showing.leaves[&surface], time), "{surface:?}");
            }
        }
    }
}

#[test]
fn nobody_is_locked_out_while_one_ca_takes_anothers_place() {
    let b = blueprint();
    let start = first(&b);
    let later = NOW.after(DAY);
    let old = start.issuer.clone().expect("a CA").certificate.id;
    let made = start.create(true, "demo", LIFE, later, &mut SystemKeys).expect("the next CA");
    let new = made.next.clone().expect("the next CA").certificate.id;
    let both = made.publish(&BTreeSet::from([old.clone(), new.clone()]), later).expect("both are trusted");
    let switched = both.switch(&new).expect("the next CA signs");
    let mut stages = vec![start, made, both, switched.clone()];
    let mut signed = switched;
    for surface in Surface::ALL {
        signed = signed
            .sign(surface, &new, &profile::of(&b, surface), DAY, later, &mut SystemKeys)
            .expect("the new CA signs");
        stages.push(signed.clone());
    }
    stages.push(signed.publish(&BTreeSet::from([new.clone()]), later).expect("the old one goes"));
    for pair in stages.windows(2) {
        assert_together(&pair[0], &pair[1], later);
    }
    let end = stages.last().expect("a stage").observed();
    assert_eq!(end.bundle, BTreeSet::from([new.clone()]));
    assert!(end.leaves.values().all(|leaf| leaf.ca == new) && end.leaves.len() == 4);
    assert_eq!(end.issuer.map(|ca| ca.id), Some(new));
    assert_eq!(end.bundle_since, Some(later));
}

/// Out of order each step would lock somebody out; it is refused.
#[test]
fn a_step_out_of_order_is_refused() {
    let b = blueprint();
    let start = first(&b);
    let old = start.issuer.clone().expect("a CA").certificate.id;
    let made = start.create(true, "demo", LIFE, NOW, &mut SystemKeys).expect("the next CA");
    let new = made.next.clone().expect("the next CA").certificate.id;
    let set = |ids: &[&Arc<str>]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<_>>();
    let client = profile::of(&b, Surface::Client);
    let sign = |a: &Authority, ca: &str| a.sign(Surface::Client, ca, &client, DAY, NOW, &mut SystemKeys).err();

    assert_eq!(made.switch(&new).err(), Some(Error::Untrusted(new.clone())));
    assert_eq!(sign(&made, &new), Some(Error::UnknownCa(new.clone())));
    assert_eq!(made.publish(&set(&[&new]), NOW).err(), Some(Error::InUse(old.clone())));
    let stranger: Arc<str> = "0123456789abcdef".into();
    assert_eq!(made.publish(&set(&[&old, &stranger]), NOW).err(), Some(Error::UnknownCa(stranger)));

    let both = made.publish(&set(&[&old, &new]), NOW).expect("both are trusted");
    let switched = both.switch(&new).expect("the next CA signs");
    assert_eq!(switched.publish(&set(&[&new]), NOW).err(), Some(Error::InUse(old.clone())), "its leaves are in use");
    assert_eq!(sign(&switched, &old), Some(Error::UnknownCa(old)));

    let untrusting = Authority { bundle: Bundle::default(), ..switched };
    assert_eq!(sign(&untrusting, &new), Some(Error::Untrusted(new)));
}

#[test]
fn a_step_done_twice_changes_nothing() {
    let start = first(&blueprint());
    let id = start.issuer.clone().expect("a CA").certificate.id;
    let again = start.create(false, "demo", LIFE, NOW.after(DAY), &mut SystemKeys).expect("a CA");
    assert_eq!(again.issuer.map(|ca| ca.certificate.id), Some(id.clone()));
    let published = start.publish(&BTreeSet::from([id.clone()]), NOW.after(DAY)).expect("published");
    assert_eq!(published.since, Some(NOW), "else it would never be old enough");
    let next = start.create(true, "demo", LIFE, NOW, &mut SystemKeys).expect("the next CA");
    let new = next.next.clone().expect("a CA").certificate.id;
    let both = next.publish(&BTreeSet::from([id, new.clone()]), NOW).expect("published");
    let twice = both.switch(&new).and_then(|once| once.switch(&new)).expect("switched");
    assert!(twice.next.is_none());
    assert_eq!(twice.issuer.map(|ca| ca.certificate.id), Some(new));
}

/// A certificate of a CA that nobody knows is no certificate: the planner has it made anew.
#[test]
fn a_certificate_of_a_strangers_is_not_counted() {
    let start = first(&blueprint());
    let other = first(&blueprint());
    let mixed = Authority { leaves: other.leaves, ..start };
    assert_eq!(mixed.observed().leaves, BTreeMap::new());
}
