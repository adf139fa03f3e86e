//! How members are reached, and how many have to stay.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use keepstone_operator::objects::client_service::{self, Door};
use keepstone_operator::objects::permit::{self, Action, Permit};
use keepstone_operator::objects::{disruption_budget, fence, network_policy, peers_service};
use keepstone_operator_plan::ids::{Nonce, Ordinal, Uid};
use serde_json::json;

use crate::common::{cluster, flag, workload};

/// Without names for pods that are not ready no member finds another after all were restarted, and none becomes ready.
#[test]
fn members_find_each_other_before_any_is_ready() {
    let b = cluster(json!({}));
    let spec = peers_service::build(&b).spec.expect("a spec");
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(workload(&b).spec.and_then(|spec| spec.service_name), Some(b.names.peers()));
}

/// What a client writes to a seed that is thrown away again was acknowledged, and is lost.
#[test]
fn no_client_is_let_in_before_the_cluster_is_founded() {
    let b = cluster(json!({}));
    let selector = |door| client_service::build(&b, door).spec.and_then(|spec| spec.selector);
    assert_eq!(selector(Door::Shut), None);
    assert_eq!(selector(Door::Open), Some(b.names.selector()));
}

#[test]
fn clients_are_not_sent_to_members_that_are_not_ready() {
    let b = cluster(json!({}));
    assert_eq!(client_service::build(&b, Door::Open).spec.and_then(|spec| spec.publish_not_ready_addresses), None);
}

#[test]
fn a_fence_is_read_back_as_it_was_set() {
    let b = cluster(json!({"size": 3}));
    let places = [Ordinal(0), Ordinal(2)].into();
    let map = fence::build(&b, &places).expect("a fence");
    assert_eq!(map.metadata.name, Some(b.names.fence()));
    assert_eq!(map.data.as_ref().map(|data| data["fence"].as_str()), Some("demo-0\ndemo-2\n"));
    assert_eq!(fence::read(&b.names, &map), Ok(places));
    assert_eq!(fence::build(&b, &[].into()), None, "nobody is fenced by an object that names nobody");
}

/// Taken for nobody, it would let the old cluster come back.
#[test]
fn a_fence_that_makes_no_sense_is_not_taken_for_none() {
    let b = cluster(json!({}));
    let mut map = fence::build(&b, &[Ordinal(1)].into()).expect("a fence");
    map.data = Some([("fence".to_owned(), "demo-1\nother-2\n".to_owned())].into());
    assert_eq!(fence::read(&b.names, &map), Err(fence::NoFence("other-2".to_owned())));
}

/// A share is counted anew as members leave: a drain took a cluster of five down to two.
#[test]
fn a_drain_leaves_a_number_of_members_and_not_a_share() {
    let spec = disruption_budget::build(&cluster(json!({"size": 5})), 3).spec.expect("a spec");
    assert_eq!(spec.min_available, Some(IntOrString::Int(3)));
    assert_eq!(spec.max_unavailable, None);
    assert_eq!(spec.unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
}

#[test]
fn only_members_and_the_operator_reach_the_peer_port() {
    let spec = network_policy::build(&cluster(json!({}))).spec.expect("a spec");
    let rules = spec.ingress.expect("rules");
    let has = |port: i32| {
        let of = move |rule: &&k8s_openapi::api::networking::v1::NetworkPolicyIngressRule| {
            let ports = rule.ports.as_ref().expect("a rule without ports is for all of them");
            ports.iter().any(|one| one.port == Some(IntOrString::Int(port)))
        };
        rules.iter().filter(of).collect::<Vec<_>>()
    };
    let peers = has(2380);
    assert_eq!(peers.len(), 1);
    let from = peers[0].from.clone().expect("a rule without sources is for everybody");
    assert_eq!(from.len(), 2);
    // A pod selector alone means this namespace; beside a namespace's it must not stand alone.
    assert!(from[0].namespace_selector.is_none() && from[0].pod_selector.is_some());
    assert!(from[1].namespace_selector.is_some() && from[1].pod_selector.is_some());
    assert_eq!(has(2379).len(), 1);
    assert_eq!(has(2381).len(), 1, "a kubelet's probes, and monitoring");
}

fn seed(pod: Option<&str>, directory: Option<&str>) -> Permit {
    Permit {
        action: Action::Found,
        ordinal: Ordinal::SEED,
        pod: pod.map(Uid::from),
        claim: Uid::from("c"),
        directory: directory.map(str::to_owned),
        nonce: Nonce(7),
    }
}

#[test]
fn a_permit_is_read_back_as_it_was_given() {
    let b = cluster(json!({}));
    for given in [
        seed(Some("p"), Some("5f")),
        seed(None, None),
        Permit { action: Action::ForceNewClusterId, ordinal: Ordinal(2), ..seed(None, Some("aa")) },
    ] {
        assert_eq!(permit::read(&b.names, &permit::build(&b, &given)), Ok(Some(given)));
    }
}

/// A member takes the words in it for conditions: they have to be those it knows.
#[test]
fn a_permit_is_in_the_members_words() {
    let b = cluster(json!({}));
    let data = permit::build(&b, &seed(Some("p"), Some("5f"))).data.expect("data");
    let wanted = r#"{"action":"found","name":"demo-0","holder":"p","directory":"5f","nonce":"0000000000000007"}"#;
    assert_eq!(data["permit"], wanted);
    let force = Permit { action: Action::ForceNewClusterId, ..seed(None, None) };
    let data = permit::build(&b, &force).data.expect("data");
    assert_eq!(data["permit"], r#"{"action":"force-new-cluster-id","name":"demo-0","nonce":"0000000000000007"}"#);
    assert!(flag(&b, "permit-file").expect("a file").ends_with("/permit"));
}

/// Nobody knows what a member makes of it: it is not to be taken for no permit.
#[test]
fn a_permit_that_makes_no_sense_is_not_taken_for_none() {
    let b = cluster(json!({}));
    let good = permit::build(&b, &seed(Some("p"), None));
    for wrong in ["{", r#"{"action":"found","name":"other-0","nonce":"0000000000000007"}"#, r#"{"action":"dance"}"#] {
        let mut map = good.clone();
        map.data.as_mut().expect("data").insert("permit".to_owned(), wrong.to_owned());
        permit::read(&b.names, &map).expect_err(wrong);
    }
    let mut empty = good;
    empty.data = None;
    assert_eq!(permit::read(&b.names, &empty), Ok(None));
}
