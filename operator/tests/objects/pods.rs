//! The members' pods.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::core::v1::Probe;
use keepstone_operator::Blueprint;
use keepstone_operator::objects::{pod, probes, prometheus_rule, service_account};
use serde_json::json;

use crate::common::{args, cluster, container, flag, here, pod_spec, sample};

const SAMPLES: &[&str] =
    &["ten-lines.yaml", "every-field.yaml", "etcd-io-every-field.yaml", "etcd-io-cert-manager.yaml"];

/// Else each step of a scale would make every pod anew.
#[test]
fn a_pod_is_the_same_whatever_the_size() {
    let config = |size: i32| pod::config(&cluster(json!({ "size": size })));
    assert!((1..=9).all(|size| config(size) == config(3)));
}

/// A pod that could found by itself would make a second cluster of a blank volume.
#[test]
fn every_pod_joins_and_founds_only_with_a_permit() {
    for name in SAMPLES {
        let b = sample(name);
        assert!(flag(&b, "join").is_some_and(|urls| urls.split(',').count() == 5), "{name}");
        assert_eq!(flag(&b, "permit-file").as_deref(), Some("/etc/keepstone/permit/permit"));
        assert_eq!(flag(&b, "permit-holder").as_deref(), Some("$(POD_UID)"));
        assert_eq!(flag(&b, "initial-cluster"), None);
        assert!(args(&b).iter().all(|arg| !arg.starts_with("--force-new-cluster")), "{name}");
        let permit = pod_spec(&b).volumes.expect("volumes").into_iter().find(|volume| volume.name == "permit");
        let map = permit.and_then(|volume| volume.config_map).expect("a ConfigMap");
        assert_eq!(map.optional, Some(true), "a pod starts without a permit");
    }
}

/// Two clusters that bear one name one after the other must not take each other for themselves.
#[test]
fn a_cluster_made_again_under_its_name_has_another_token() {
    let one = cluster(json!({}));
    let other = Blueprint { uid: "another".to_owned(), ..one.clone() };
    assert!(flag(&one, "initial-cluster-token") != flag(&other, "initial-cluster-token"));
}

#[test]
fn flags_of_the_user_never_win_over_the_operators() {
    let b = cluster(json!({"etcdOptions": ["--data-dir=/tmp", "--snapshot-count=5", "--quota-backend-bytes=1"]}));
    assert_eq!(flag(&b, "data-dir").as_deref(), Some("/var/lib/keepstone/member"));
    assert_eq!(flag(&b, "quota-backend-bytes"), Some((5_u64 << 30).to_string()));
    assert_eq!(flag(&b, "snapshot-count").as_deref(), Some("5"));
}

/// An upgrade is told from a change of the configuration by the version alone.
#[test]
fn a_change_of_version_alone_is_no_change_of_configuration() {
    let b = cluster(json!({}));
    let (one, two) = (pod::template(&b, "v0.1.0"), pod::template(&b, "v0.2.0"));
    let annotation = |template: &k8s_openapi::api::core::v1::PodTemplateSpec, key: &str| {
        template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref()?.get(key).cloned()).expect(key)
    };
    assert_eq!(annotation(&one, pod::CONFIG_ANNOTATION), annotation(&two, pod::CONFIG_ANNOTATION));
    assert_eq!(annotation(&two, pod::VERSION_ANNOTATION), "v0.2.0");
    assert_eq!(two.spec.expect("a spec").containers[0].image.as_deref(), Some("registry.example/keepstone:v0.2.0"));
}

/// etcd-io's first operator saw changes of the size, and no other.
#[test]
fn every_other_change_makes_pods_anew() {
    let mut configs = BTreeSet::new();
    let changes = [
        json!({}),
        json!({"imageRegistry": "other.example/keepstone"}),
        json!({"etcdOptions": ["--snapshot-count=5"]}),
        json!({"quotaBackendBytes": "1Gi"}),
        json!({"tls": {"provider": "disabled"}}),
        json!({"tls": {"clientCertAuth": false}}),
        json!({"podTemplate": {"metadata": {"labels": {"team": "a"}}}}),
        json!({"podTemplate": {"metadata": {"annotations": {"team": "a"}}}}),
        json!({"podTemplate": {"spec": {"nodeSelector": {"disk": "fast"}}}}),
        json!({"podTemplate": {"spec": {"resources": {"requests": {"cpu": "1"}}}}}),
        json!({"podTemplate": {"spec": {"topologySpreadConstraints": []}}}),
        json!({"podTemplate": {"spec": {"tolerations": [{"operator": "Exists"}]}}}),
        json!({"podTemplate": {"spec": {"priorityClassName": "high"}}}),
        json!({"podTemplate": {"spec": {"terminationGracePeriodSeconds": 90}}}),
        json!({"imagePullSecrets": [{"name": "regcred"}]}),
    ];
    let count = changes.len();
    configs.extend(changes.into_iter().map(|change| pod::config(&cluster(change))));
    let restarted = Blueprint { restart: Some("now".to_owned()), ..cluster(json!({})) };
    configs.insert(pod::config(&restarted));
    assert_eq!(configs.len(), count + 1);
}

/// What is for the objects around the pods leaves them alone.
#[test]
fn a_change_that_is_not_for_pods_makes_none_anew() {
    let before = pod::config(&cluster(json!({})));
    for change in [
        json!({"clientService": {"type": "NodePort"}}),
        json!({"monitoring": {"podMonitor": {"enabled": true}}}),
        json!({"deletionPolicy": "Delete"}),
        json!({"paused": true}),
        json!({"maintenance": {"defragment": {"schedule": "@daily"}}}),
        json!({"tls": {"provider": "auto", "providerCfg": {"autoCfg": {"validityDuration": "10d"}}}}),
    ] {
        assert_eq!(pod::config(&cluster(change.clone())), before, "{change}");
    }
}

/// Kubernetes puts `ETCD_PORT` and the like of a Service named `etcd` into the environment, and members read ETCD_*.
#[test]
fn a_service_called_etcd_gives_members_no_settings() {
    assert_eq!(pod_spec(&cluster(json!({}))).enable_service_links, Some(false));
}

fn patience(probe: &Probe) -> i32 {
    probe.period_seconds.expect("a period") * probe.failure_threshold.expect("a threshold")
}

/// A member waits for its operator, or loads its data, before it answers: killed for it, it would never be done.
#[test]
fn a_member_that_waits_is_not_killed() {
    assert!(patience(&probes::startup()) >= 3600);
}

/// A liveness probe of 25 seconds killed members that recovered, in a loop.
#[test]
fn a_member_that_recovers_is_not_killed() {
    let probe = probes::liveness();
    assert!(patience(&probe) >= 120);
    let path = probe.http_get.and_then(|get| get.path).expect("a path");
    assert!(path.starts_with("/livez"), "no question that needs a leader");
}

/// The alarm is the cluster's: every member tells of it.
#[test]
fn one_corrupt_member_takes_no_other_out_of_the_service() {
    let path = probes::readiness().http_get.and_then(|get| get.path).expect("a path");
    assert_eq!(path, "/readyz?exclude=data_corruption");
}

/// A kubelet has no certificate.
#[test]
fn probes_go_where_no_certificate_is_asked_for() {
    for name in SAMPLES {
        let b = sample(name);
        let container = container(&b);
        for probe in [container.startup_probe, container.readiness_probe, container.liveness_probe] {
            let get = probe.and_then(|probe| probe.http_get).expect("a probe");
            assert_eq!(get.scheme.as_deref(), Some("HTTP"));
            assert_eq!(serde_json::to_value(get.port).expect("JSON"), json!("metrics"));
        }
        assert_eq!(flag(&b, "listen-metrics-urls").as_deref(), Some("http://0.0.0.0:2381"));
        let ports = container.ports.expect("ports");
        assert!(ports.iter().any(|port| port.name.as_deref() == Some("metrics") && port.container_port == 2381));
    }
}

/// The bounds of Kubernetes' "restricted" profile, and a root that can't be written.
#[test]
fn pods_are_restricted() {
    for name in SAMPLES {
        let spec = pod_spec(&sample(name));
        let pod = spec.security_context.expect("a context");
        assert_eq!(pod.run_as_non_root, Some(true));
        assert!(pod.run_as_user.is_some_and(|user| user > 0), "a kubelet can't tell a name from root's");
        assert_eq!(pod.seccomp_profile.map(|profile| profile.type_).as_deref(), Some("RuntimeDefault"));
        let container = spec.containers[0].security_context.clone().expect("a context");
        assert_eq!(container.allow_privilege_escalation, Some(false));
        assert_eq!(container.read_only_root_filesystem, Some(true));
        assert_eq!(container.capabilities.and_then(|c| c.drop), Some(vec!["ALL".to_owned()]));
        assert!(spec.host_network.is_none() && spec.host_pid.is_none() && spec.host_ipc.is_none());
        let kinds = spec.volumes.expect("volumes");
        assert!(kinds.iter().all(|volume| volume.secret.is_some() || volume.config_map.is_some()), "{name}");
    }
}

#[test]
fn members_have_no_token_of_the_api_server() {
    let b = cluster(json!({}));
    assert_eq!(pod_spec(&b).automount_service_account_token, Some(false));
    assert_eq!(service_account::build(&b).automount_service_account_token, Some(false));
}

/// A leader hands over within an election timeout, of which 50 s is the longest.
#[test]
fn a_leader_has_the_time_to_hand_over() {
    assert!(pod_spec(&cluster(json!({}))).termination_grace_period_seconds.expect("a time") > 50);
}

/// A spread constraint alone puts a second member onto a node once each node has one.
#[test]
fn no_node_has_two_members() {
    let apart = |b: &Blueprint| {
        let affinity = pod_spec(b).affinity?.pod_anti_affinity?;
        affinity.required_during_scheduling_ignored_during_execution
    };
    let b = cluster(json!({}));
    let terms = apart(&b).expect("a rule");
    assert_eq!(terms.len(), 1);
    assert_eq!(terms[0].topology_key, "kubernetes.io/hostname");
    let selected = terms[0].label_selector.clone().and_then(|selector| selector.match_labels).expect("labels");
    let labels = pod::template(&b, "v0.1.0").metadata.and_then(|meta| meta.labels).expect("labels");
    assert!(selected.iter().all(|(key, value)| labels.get(key) == Some(value)), "it is about members");
    let zones = pod_spec(&b).topology_spread_constraints.expect("a constraint");
    assert_eq!(zones[0].when_unsatisfiable, "ScheduleAnyway", "one zone will do");
    // Beside what the user says of other pods.
    let given = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "greedy"}}},
    ]}});
    let both = cluster(json!({"podTemplate": {"spec": {"affinity": given}}}));
    assert_eq!(apart(&both).expect("rules").len(), 2);
}

/// Who has one node only says so with an empty list.
#[test]
fn who_says_how_to_spread_is_not_overruled() {
    let b = cluster(json!({"podTemplate": {"spec": {"topologySpreadConstraints": []}}}));
    assert_eq!(pod_spec(&b).affinity, None);
    assert_eq!(pod_spec(&b).topology_spread_constraints, None);
}

#[test]
fn labels_of_the_user_never_replace_the_operators() {
    let labels = json!({"keepstone.io/cluster": "other", "team": "a"});
    let b = cluster(json!({"podTemplate": {"metadata": {"labels": labels}}}));
    let labels = pod::template(&b, "v0.1.0").metadata.and_then(|meta| meta.labels).expect("labels");
    assert_eq!((labels["keepstone.io/cluster"].as_str(), labels["team"].as_str()), ("demo", "a"));
}

/// Without a selector Kubernetes counts no pods, and spreads nothing.
#[test]
fn a_spread_that_names_no_pods_is_about_members() {
    let b = sample("every-field.yaml");
    let constraints = pod_spec(&b).topology_spread_constraints.expect("a constraint");
    let selected = constraints[0].label_selector.clone().and_then(|selector| selector.match_labels);
    assert_eq!(selected, Some(b.names.selector()));
}

/// An image's tag can't have a plus sign.
#[test]
fn a_version_with_a_build_has_an_image() {
    assert_eq!(cluster(json!({})).image("v0.1.0+3"), "registry.example/keepstone:v0.1.0_3");
}

/// The log, snapshots and compaction need room beside the store.
#[test]
fn a_full_store_leaves_room_on_its_volume() {
    let quota = |size: &str| cluster(json!({"storageSpec": {"volumeSizeRequest": size}})).quota;
    assert_eq!(quota("10Gi"), 5 << 30);
    assert_eq!(quota("100Gi"), 8 << 30);
}

/// An alert about a metric that isn't there never fires.
#[test]
fn alerts_ask_for_metrics_that_members_have() {
    let mut sources = String::new();
    let mut dirs = vec![here().join("../server/src/metrics")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                sources += &fs::read_to_string(path).expect("a source");
            }
        }
    }
    for metric in prometheus_rule::metrics() {
        assert!(sources.contains(&format!("\"{metric}\"")), "{metric}");
    }
    assert!(prometheus_rule::metrics().len() >= 6);
}

/// A planned sleep woke whoever was on call.
#[test]
fn nobody_is_missed_in_a_cluster_that_is_to_sleep() {
    let asked = |hibernate: bool| {
        let spec = json!({"hibernate": hibernate, "monitoring": {"prometheusRule": {"enabled": true}}});
        let rule = prometheus_rule::build(&cluster(spec)).expect("it was asked for").to_string();
        rule.matches(" < 0\"").count()
    };
    assert_eq!((asked(false), asked(true)), (0, 2));
}
