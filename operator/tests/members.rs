//! Calls to a real member.

mod server;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use keepstone_operator::controller::members::{Change, Credentials, Failure, Members as _, Target};
use keepstone_operator::members::{CallError, Dialer, Live, Member, Refusal, card};
use keepstone_operator::pki::profile::Profile;
use keepstone_operator::pki::{Ca, LIFE, Leaf, SystemKeys, issue};
use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{MemberId, Revision, Seconds, Time};

use server::{Server, free_port};

#[tokio::test]
async fn a_member_is_asked_and_changed() {
    let mut server = Server::start(tempfile::tempdir().expect("a directory"), "http", &[]);
    let dialer = Dialer::plain();
    let mut member = server.ready(&dialer).await;

    let status = member.status().await.expect("a status");
    assert_eq!(status.leader, Some(status.member_id));
    assert!(!status.learner && status.cluster_id.0 != 0 && status.errors.is_empty());
    let table = member.members().await.expect("the table");
    assert_eq!((table.len(), table[0].id, table[0].name.as_str()), (1, status.member_id, "m"));
    assert_eq!(table[0].peer_urls, [server.peer.clone()]);

    let url = format!("http://127.0.0.1:{}", free_port());
    let learner = member.add_learner(&url).await.expect("it is added");
    assert_eq!(member.add_learner(&url).await, Err(CallError::Refused(Refusal::PeerUrlExists)));
    let other = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(member.add_learner(&other).await, Err(CallError::Refused(Refusal::TooManyLearners)));
    assert!(member.members().await.expect("the table").iter().any(|row| row.id == learner && row.learner));
    assert_eq!(member.promote(learner).await, Err(CallError::Refused(Refusal::LearnerNotReady)));
    assert_eq!(member.promote(status.member_id).await, Err(CallError::Refused(Refusal::NotALearner)));
    assert_eq!(member.move_leader(learner).await, Err(CallError::Refused(Refusal::BadTransferee)));
    assert_eq!(member.remove(learner).await, Ok(()));
    assert_eq!(member.remove(learner).await, Err(CallError::Refused(Refusal::MemberNotFound)));

    assert_eq!(member.alarms().await, Ok(Vec::new()));
    assert_eq!(member.disarm(MemberId(7), Alarm::NoSpace).await, Ok(()));
    assert_eq!(member.defragment().await, Ok(()));
    let hash = member.hash(None).await.expect("a hash");
    assert_eq!(member.hash(Some(hash.revision)).await, Ok(hash));
    assert_eq!(member.compact(Revision(1_000)).await, Err(CallError::Refused(Refusal::FutureRevision)));
}

fn now() -> Time {
    Time(std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs())
}

fn profile(name: &str) -> Profile {
    Profile {
        common_name: name.to_owned(),
        ip_addresses: vec!["127.0.0.1".to_owned()],
        serves: true,
        connects: true,
        ..Profile::default()
    }
}

fn leaf(ca: &Ca, name: &str) -> Leaf {
    issue(ca, &profile(name), Seconds(3600), now(), &mut SystemKeys).expect("signed")
}

fn credentials(ca: &Ca, name: &str) -> Credentials {
    let leaf = leaf(ca, name);
    Credentials {
        certificate: leaf.certificate_pem.into_bytes(),
        key: leaf.key_pem.into_bytes(),
        ca: ca.certificate.to_pem().into_bytes(),
    }
}

fn dialer(ca: &Ca, name: &str) -> Dialer {
    Dialer::encrypted(&credentials(ca, name)).expect("credentials")
}

/// Writes what the member is started with.
fn files(dir: &Path, ca: &Ca) -> Vec<String> {
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let ca_file = put("ca.crt", ca.certificate.to_pem());
    let mut args = Vec::new();
    for (prefix, name) in [("", "server"), ("peer-", "demo-peer")] {
        let leaf = leaf(ca, name);
        let certificate = put(&format!("{name}.crt"), leaf.certificate_pem);
        let key = put(&format!("{name}.key"), leaf.key_pem);
        args.extend([format!("--{prefix}cert-file={certificate}"), format!("--{prefix}key-file={key}")]);
        args.extend([format!("--{prefix}trusted-ca-file={ca_file}"), format!("--{prefix}client-cert-auth=true")]);
    }
    args.extend(["--peer-skip-client-san-verification=true".to_owned(), "--peer-cert-allowed-cn=demo-peer".to_owned()]);
    args
}

/// What our CA makes a member takes, and a member believes whom it should, on both of its ports.
#[tokio::test]
async fn a_member_with_certificates_of_ours_lets_in_whom_it_should() {
    let ca = Ca::create("demo", now(), LIFE, &mut SystemKeys).expect("a CA");
    let dir = tempfile::tempdir().expect("a directory");
    let args = files(dir.path(), &ca);
    let mut server = Server::start(dir, "https", &args);
    let client = dialer(&ca, "demo-client");
    let mut member = server.ready(&client).await;
    let status = member.status().await.expect("a status");

    // A member's certificate opens the peer port, a client's does not.
    let told = card(&server.peer, &dialer(&ca, "demo-peer")).await.expect("a card");
    assert_eq!((told.name.as_str(), told.state.as_str()), ("m", "member"));
    assert_eq!(told.member_id, Some(status.member_id.to_string()));
    assert_eq!(card(&server.metrics, &Dialer::plain()).await, Ok(told));
    let refused = card(&server.peer, &client).await;
    assert!(matches!(refused, Err(CallError::Silence(_))), "{refused:?}");

    // Strangers, whoever of both it is; and nobody speaks in the clear.
    let stranger = Ca::create("demo", now(), LIFE, &mut SystemKeys).expect("a CA");
    for dialer in [dialer(&stranger, "demo-client"), Dialer::plain()] {
        let mut other = Member::new(&server.client, &dialer).expect("a URL");
        let refused = other.status().await;
        assert!(matches!(refused, Err(CallError::Silence(_))), "{refused:?}");
    }
    let clear = server.client.replace("https", "http");
    let refused = Member::new(&clear, &client).expect("a URL").status().await;
    assert!(matches!(refused, Err(CallError::Silence(_))), "{refused:?}");
}

/// As the controller does it: the card comes with the status, and what is done already is done.
#[tokio::test]
async fn the_controllers_calls_reach_a_real_member() {
    let ca = Ca::create("demo", now(), LIFE, &mut SystemKeys).expect("a CA");
    let dir = tempfile::tempdir().expect("a directory");
    let args = files(dir.path(), &ca);
    let mut server = Server::start(dir, "https", &args);
    let target = Target {
        client_url: server.client.clone(),
        metrics_url: server.metrics.clone(),
        credentials: Some(Arc::new(credentials(&ca, "demo-operator"))),
    };
    server.ready(&dialer(&ca, "demo-operator")).await;

    let live = Live::default();
    let answer = live.status(&target).await.expect("a status");
    assert_eq!((answer.status.leader, answer.permit), (Some(answer.status.member_id), None));
    // Its own, not that of the etcd as which it behaves.
    assert_eq!(answer.release.map(|it| it.to_string()), Some(format!("v{}", env!("CARGO_PKG_VERSION"))));
    let table = live.table(&target).await.expect("the table");
    assert_eq!((table.len(), table[0].peer_urls.clone()), (1, vec![server.peer.clone()]));
    assert!(live.alarms(&target).await.expect("the alarms").is_empty());

    let add = Change::Add { peer_url: format!("https://127.0.0.1:{}", free_port()) };
    assert_eq!(live.change(&target, &add).await, Ok(()));
    assert_eq!(live.change(&target, &add).await, Ok(()), "it is there already");
    let learner =
        live.table(&target).await.expect("the table").into_iter().find(|row| row.learner).expect("a learner").id;
    let promoted = live.change(&target, &Change::Promote { id: learner }).await;
    assert!(matches!(promoted, Err(Failure::Refused(_))), "{promoted:?}");
    assert_eq!(
        live.change(&target, &Change::Promote { id: answer.status.member_id }).await,
        Ok(()),
        "it is one already"
    );
    assert_eq!(live.change(&target, &Change::Remove { id: learner }).await, Ok(()));
    assert_eq!(live.change(&target, &Change::Remove { id: learner }).await, Ok(()), "it is gone already");
    assert_eq!(live.change(&target, &Change::Defragment).await, Ok(()));

    // Other credentials, another connection: the one that is there would have answered.
    let stranger = Ca::create("demo", now(), LIFE, &mut SystemKeys).expect("a CA");
    let other = Target { credentials: Some(Arc::new(credentials(&stranger, "demo-operator"))), ..target.clone() };
    let refused = live.status(&other).await;
    assert!(matches!(refused, Err(Failure::Silence(_))), "{refused:?}");
    // That nobody tells of a permit is not that there was none.
    let blind = Target { metrics_url: format!("http://127.0.0.1:{}", free_port()), ..target };
    let unknown = live.status(&blind).await;
    assert!(matches!(unknown, Err(Failure::Silence(_))), "{unknown:?}");
}

/// A pass over a cluster goes on to the next member.
#[tokio::test]
async fn a_member_that_hangs_does_not_hold_up_the_one_that_asks() {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    let mut member = Member::new(&url, &Dialer::plain()).expect("a URL");
    assert!(matches!(member.status().await, Err(CallError::Silence(_))));
    assert!(matches!(card(&url, &Dialer::plain()).await, Err(CallError::Silence(_))));
}

#[tokio::test]
async fn what_is_no_url_is_not_called() {
    for url in ["", "127.0.0.1", "http://", "http://host", "not a url"] {
        assert!(matches!(Member::new(url, &Dialer::plain()), Err(CallError::Url(_))), "{url}");
    }
}
