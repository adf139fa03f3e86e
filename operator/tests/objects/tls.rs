//! Who has to show which certificate.

use keepstone_operator::objects::{certificate, mounts, trust};
use keepstone_operator::pki::{Bundle, profile};
use keepstone_operator_plan::ids::{Ordinal, Time};
use keepstone_operator_plan::observed::Surface;
use serde_json::json;

use crate::common::{args, cluster, container, flag, pod_spec, sample};

/// One CA signs for both.
#[test]
fn a_clients_certificate_makes_nobody_a_member() {
    for b in [sample("ten-lines.yaml"), sample("etcd-io-cert-manager.yaml")] {
        let members = flag(&b, "peer-cert-allowed-cn").expect("a name");
        assert_eq!(profile::of(&b, Surface::Peer).common_name, members);
        for surface in [Surface::Client, Surface::Operator, Surface::Server] {
            assert!(profile::of(&b, surface).common_name != members, "{surface:?}");
        }
        assert_eq!(flag(&b, "peer-client-cert-auth").as_deref(), Some("true"));
    }
}

/// A member asks a peer URL whose host must be in the certificate, and a client one of the Service or of a pod.
#[test]
fn certificates_are_valid_for_every_name_that_is_used() {
    let b = sample("ten-lines.yaml");
    let covers = |surface: Surface, host: &str| {
        profile::of(&b, surface).dns_names.iter().any(|name| match name.strip_prefix('*') {
            Some(rest) => host.strip_suffix(rest).is_some_and(|first| !first.contains('.')),
            None => name == host,
        })
    };
    let host = |url: String| {
        let (_, authority) = url.split_once("://").expect("a URL");
        authority.rsplit_once(':').expect("a port").0.to_owned()
    };
    for n in 0..9 {
        assert!(covers(Surface::Peer, &host(b.names.peer_url("https", Ordinal(n)))));
        assert!(covers(Surface::Server, &host(b.names.client_url("https", Ordinal(n)))));
    }
    for name in ["demo-client", "demo-client.default", "demo-client.default.svc", "localhost"] {
        assert!(covers(Surface::Server, name), "{name}");
    }
    assert!(covers(Surface::Server, "demo-client.default.svc.cluster.local"));
}

#[test]
fn names_of_the_user_come_to_those_that_are_needed() {
    let common = json!({"altNames": {"dnsNames": ["kv.example"], "ipAddresses": ["10.1.2.3"]}, "organizations": ["o"],
        "commonName": "kv", "validityDuration": "10d"});
    let b = cluster(json!({"tls": {"provider": "auto", "providerCfg": {"autoCfg": common}}}));
    let server = profile::of(&b, Surface::Server);
    assert!(server.dns_names.contains(&"kv.example".to_owned()) && server.dns_names.len() > 5);
    assert!(server.ip_addresses.contains(&"10.1.2.3".to_owned()));
    assert_eq!((server.common_name.as_str(), server.organizations), ("kv", vec!["o".to_owned()]));
    assert_eq!(profile::of(&b, Surface::Peer).common_name, "demo-peer");
    let day = 24 * 3600;
    assert_eq!((profile::validity(&b), profile::renew_before(&b)), (10 * day, 10 * day / 3));
}

/// A certificate that is due as soon as it is made would be made for ever.
#[test]
fn no_certificate_is_due_when_it_is_made() {
    for (valid, before) in [("1m", "2m"), ("90d", "90d"), ("0s", "1s")] {
        let common = json!({"validityDuration": valid, "renewBefore": before});
        let b = cluster(json!({"tls": {"provider": "auto", "providerCfg": {"autoCfg": common}}}));
        assert!(profile::renew_before(&b) < profile::validity(&b), "{valid} {before}");
    }
}

/// A member with a CA for clients asks them for certificates, whatever else it is told.
#[test]
fn clients_need_no_certificate_where_none_is_asked_for() {
    let b = cluster(json!({"tls": {"clientCertAuth": false}}));
    assert_eq!((flag(&b, "trusted-ca-file"), flag(&b, "client-cert-auth")), (None, None));
    assert!(flag(&b, "cert-file").is_some() && flag(&b, "peer-trusted-ca-file").is_some());
}

#[test]
fn without_tls_there_are_no_certificates() {
    let b = cluster(json!({"tls": {"provider": "disabled"}}));
    assert!(args(&b).iter().all(|arg| !arg.contains("cert") && !arg.contains("https")));
    assert!(pod_spec(&b).volumes.expect("volumes").iter().all(|volume| volume.secret.is_none()));
}

#[test]
fn with_tls_nothing_but_probes_goes_unencrypted() {
    for b in [sample("ten-lines.yaml"), sample("every-field.yaml"), sample("etcd-io-cert-manager.yaml")] {
        let plain = args(&b).into_iter().filter(|arg| arg.contains("http://")).collect::<Vec<_>>();
        assert_eq!(plain, ["--listen-metrics-urls=http://0.0.0.0:2381"]);
    }
}

/// Whoever reads it can make himself a member.
#[test]
fn no_pod_has_the_cas_key() {
    for name in ["ten-lines.yaml", "every-field.yaml", "etcd-io-cert-manager.yaml"] {
        let b = sample(name);
        for volume in pod_spec(&b).volumes.expect("volumes") {
            let secret = volume.secret.and_then(|secret| secret.secret_name);
            assert!(secret != Some(b.names.ca_key(false)) && secret != Some(b.names.ca_key(true)));
        }
    }
}

/// Every file that a flag names is in a volume, under that name.
#[test]
fn every_certificate_file_is_mounted() {
    for b in [sample("ten-lines.yaml"), sample("every-field.yaml"), sample("etcd-io-cert-manager.yaml")] {
        let mounted = container(&b).volume_mounts.expect("mounts");
        let volumes = pod_spec(&b).volumes.expect("volumes");
        for flag_name in
            ["cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file"]
        {
            let file = flag(&b, flag_name).expect(flag_name);
            let (dir, key) = file.rsplit_once('/').expect("a path");
            let mount = mounted.iter().find(|mount| mount.mount_path == dir).expect("a mount");
            let volume = volumes.iter().find(|volume| volume.name == mount.name).expect("a volume");
            let items = match (&volume.secret, &volume.config_map) {
                (Some(secret), None) => secret.items.clone(),
                (None, Some(map)) => map.items.clone(),
                _ => None,
            };
            assert!(items.expect("items").iter().any(|item| item.key == key && item.path == key), "{file}");
        }
    }
    assert_eq!(mounts::CA_KEY, "ca.crt");
}

#[test]
fn secrets_of_the_user_are_mounted_as_he_named_them() {
    let volumes = pod_spec(&sample("every-field.yaml")).volumes.expect("volumes");
    let secrets: Vec<String> =
        volumes.into_iter().filter_map(|volume| volume.secret.and_then(|secret| secret.secret_name)).collect();
    assert_eq!(secrets, ["server", "peer", "clients"]);
}

/// The user's CAs are for clients; they are not to be taken for the cluster's own when it is looked at again.
#[test]
fn cas_of_the_user_are_kept_apart_from_the_clusters_own() {
    let b = sample("ten-lines.yaml");
    let map = trust::build(&b, &Bundle::default(), Some("theirs\n"), Time(5));
    assert_eq!(map.data.as_ref().expect("data")["ca.crt"], "theirs\n");
    assert_eq!(trust::read(&map), Ok((Bundle::default(), Some(Time(5)))));
}

#[test]
fn cert_manager_writes_the_secrets_that_pods_mount() {
    let b = sample("etcd-io-cert-manager.yaml");
    let volumes = pod_spec(&b).volumes.expect("volumes");
    for surface in [Surface::Server, Surface::Peer] {
        let made = certificate::build(&b, surface).expect("a certificate");
        let secret = made["spec"]["secretName"].as_str().expect("a name");
        let mounted = |volume: &k8s_openapi::api::core::v1::Volume| {
            volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()) == Some(secret)
        };
        assert!(volumes.iter().any(mounted), "{secret}");
    }
    assert_eq!(certificate::build(&sample("ten-lines.yaml"), Surface::Server), None);
}
