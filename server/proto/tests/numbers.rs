//! Names and numbers on the wire, as the descriptors tell them.

use std::collections::BTreeMap;

use keepstone_proto::{FILE_DESCRIPTOR_SET, etcdserverpb::InternalRaftRequest, keepstonepb};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set")
}

fn message(package: &str, name: &str) -> DescriptorProto {
    let files = descriptors().file;
    let mut messages = files.into_iter().filter(|file| file.package() == package).flat_map(|file| file.message_type);
    messages.find(|message| message.name() == name).expect(name)
}

fn numbers(package: &str, name: &str) -> BTreeMap<String, i32> {
    let fields = message(package, name).field;
    fields.iter().map(|field| (field.name().to_owned(), field.number())).collect()
}

/// etcd 3.6.16, api/etcdserverpb/raft_internal.proto.
const OF_ETCD: [(&str, i32); 32] = [
    ("ID", 1),
    ("range", 3),
    ("put", 4),
    ("delete_range", 5),
    ("txn", 6),
    ("compaction", 7),
    ("lease_grant", 8),
    ("lease_revoke", 9),
    ("alarm", 10),
    ("lease_checkpoint", 11),
    ("header", 100),
    ("auth_enable", 1000),
    ("auth_disable", 1011),
    ("authenticate", 1012),
    ("auth_status", 1013),
    ("auth_user_add", 1100),
    ("auth_user_delete", 1101),
    ("auth_user_get", 1102),
    ("auth_user_change_password", 1103),
    ("auth_user_grant_role", 1104),
    ("auth_user_revoke_role", 1105),
    ("auth_user_list", 1106),
    ("auth_role_list", 1107),
    ("auth_role_add", 1200),
    ("auth_role_delete", 1201),
    ("auth_role_get", 1202),
    ("auth_role_grant_permission", 1203),
    ("auth_role_revoke_permission", 1204),
    ("cluster_version_set", 1300),
    ("cluster_member_attr_set", 1301),
    ("downgrade_info_set", 1302),
    ("downgrade_version_test", 9900),
];

#[test]
fn a_replicated_request_has_etcd_s_numbers() {
    let ours = numbers("etcdserverpb", "InternalRaftRequest");
    for (name, number) in OF_ETCD {
        assert_eq!(ours.get(name), Some(&number), "{name}");
    }
    assert!(!ours.contains_key("v2"), "there is no v2 store");
    let own = ours.iter().filter(|(name, _)| OF_ETCD.iter().all(|(of_etcd, _)| of_etcd != name));
    for (name, number) in own {
        assert!(*number >= 20_000, "{name} = {number} could be etcd's one day");
    }
}

/// These are on disk, in the WAL: they never change.
#[test]
fn keepstone_s_requests_keep_their_numbers() {
    let ours = numbers("etcdserverpb", "InternalRaftRequest");
    let kept = [
        ("member_add", 20_000),
        ("member_remove", 20_001),
        ("member_promote", 20_002),
        ("member_update", 20_003),
        ("lease_expire", 20_010),
        ("member_bind", 20_011),
        ("cluster_init", 20_012),
    ];
    for (name, number) in kept {
        assert_eq!(ours.get(name), Some(&number), "{name}");
    }
    assert_eq!(numbers("keepstonepb", "Proposal"), BTreeMap::from([("requests".to_owned(), 1)]));
}

#[test]
fn fields_that_skip_numbers_skip_them() {
    assert_eq!(numbers("etcdserverpb", "WatchResponse")["events"], 11);
    assert_eq!(numbers("etcdserverpb", "Compare")["range_end"], 64);
    assert_eq!(numbers("etcdserverpb", "StatusResponse")["downgradeInfo"], 13);
    assert_eq!(numbers("etcdserverpb", "RangeStreamResponse")["range_response"], 1);
}

#[test]
fn every_service_is_there() {
    let files = descriptors().file;
    let calls: BTreeMap<String, usize> = files
        .iter()
        .flat_map(|file| {
            file.service.iter().map(|service| (format!("{}.{}", file.package(), service.name()), service.method.len()))
        })
        .collect();
    let expected = [
        ("etcdserverpb.Auth", 17),
        ("etcdserverpb.Cluster", 5),
        ("etcdserverpb.KV", 6),
        ("etcdserverpb.Lease", 5),
        ("etcdserverpb.Maintenance", 8),
        ("etcdserverpb.Watch", 1),
        ("keepstonepb.Peer", 5),
        ("v3electionpb.Election", 5),
        ("v3lockpb.Lock", 2),
    ];
    assert_eq!(calls, expected.map(|(name, calls)| (name.to_owned(), calls)).into());
}

#[test]
fn a_proposal_carries_requests_as_they_were_encoded() {
    let requests: Vec<_> = (1..4)
        .map(|id| InternalRaftRequest {
            id,
            lease_expire: Some(keepstonepb::LeaseExpire { ids: vec![7, 9] }),
            ..Default::default()
        })
        .collect();
    let proposal = keepstonepb::Proposal { requests: requests.iter().map(|one| one.encode_to_vec().into()).collect() };
    let read = keepstonepb::Proposal::decode(proposal.encode_to_vec().as_slice()).expect("sound");
    let read: Vec<_> = read.requests.into_iter().map(|one| InternalRaftRequest::decode(one).expect("sound")).collect();
    assert_eq!(read, requests);
}
