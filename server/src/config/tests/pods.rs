//! The operator's pods are started with flags that a member takes. They are read from the files its own tests compare with.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_yaml::Value;

use super::super::{Config, Notice, Scheme};
use super::line;

/// The arguments of every pod in those files, as a kubelet gives them to the first one.
fn pods() -> Vec<(String, Vec<String>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/tests/golden");
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("the operator's files") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a file");
        for object in serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).expect("YAML")) {
            if object["kind"] != "StatefulSet" {
                continue;
            }
            let args = object["spec"]["template"]["spec"]["containers"][0]["args"].as_sequence().expect("arguments");
            let given = |arg: &Value| {
                arg.as_str().expect("a text").replace("$(POD_NAME)", "main-0").replace("$(POD_UID)", "some-uid")
            };
            all.push((path.display().to_string(), args.iter().map(given).collect()));
        }
    }
    all
}

fn read(file: &str, args: &[String]) -> Config {
    line(&args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_operators_pods_have_flags_that_are_understood() {
    let pods = pods();
    assert!(pods.len() >= 5, "{}", pods.len());
    for (file, args) in pods {
        let config = read(&file, &args);
        assert!(args.iter().all(|arg| !arg.contains("$(")), "{file}");
        assert_eq!((config.name.as_str(), config.permit_holder.as_str()), ("main-0", "some-uid"), "{file}");
        assert_eq!(config.join.len(), 5, "{file}");
        assert_eq!(config.permit_file, Some(PathBuf::from("/etc/keepstone/permit/permit")), "{file}");
        assert_eq!(config.fence_file, Some(PathBuf::from("/etc/keepstone/fence/fence")), "{file}");
        assert_eq!(config.listen_metrics_urls.len(), 1, "{file}");
        let advertised = config.initial_advertise_peer_urls[0].to_string();
        assert!(advertised.contains("://main-0."), "{file}: {advertised}");
    }
}

/// A flag that is accepted with a warning does nothing, or leaves something open.
#[test]
fn the_operators_pods_have_no_flag_that_is_warned_of() {
    for (file, args) in pods() {
        // Clients have one port; etcd's way of two is for proxies that don't know HTTP/2.
        assert_eq!(read(&file, &args).notices, vec![Notice::SinglePort], "{file}");
    }
}

/// A member that asks clients for certificates, and members for theirs, or none at all.
#[test]
fn the_operators_pods_are_as_closed_as_they_should_be() {
    for (file, args) in pods() {
        let config = read(&file, &args);
        let encrypted = config.listen_client_urls.iter().all(|url| url.scheme == Scheme::Https);
        assert_eq!(encrypted, !file.ends_with("disabled.yaml"), "{file}");
        if encrypted {
            assert!(config.client_tls.client_cert_auth && config.peer_tls.client_cert_auth, "{file}");
        }
    }
}
