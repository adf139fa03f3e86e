use keepstone_operator_plan::desired::Rule;
use keepstone_operator_plan::ids::{Time, Version};

use super::*;

fn uid(text: &str) -> Uid {
    text.into()
}

fn permit_of(kind: PermitKind, pod: Option<&str>) -> Permit {
    Permit { kind, ordinal: Ordinal(0), pod: pod.map(uid), claim: uid("claim"), nonce: Nonce(u64::MAX) }
}

fn of_all(names: [&str; 2]) -> BTreeMap<Ordinal, Uid> {
    // Twelve comes before two where places are ordered as text.
    BTreeMap::from([(Ordinal(2), uid(names[0])), (Ordinal(12), uid(names[1]))])
}

/// At least one of each, with every field that may be absent both there and absent.
fn intents() -> Vec<Intent> {
    let join = Join {
        ordinal: Ordinal(2),
        leaver: Some(MemberId(u64::MAX)),
        stale: Some(uid("c")),
        attempt: 3,
        applied: 1 << 60,
    };
    let bare = Join { ordinal: Ordinal(0), leaver: None, stale: None, attempt: 1, applied: 0 };
    let template = Template { config: "5f3a".into(), version: Version { major: 1, minor: 4, patch: 2 } };
    let rule = Rule { free_above: 200 << 20, quota_percent: 80, min_reclaim: (32 << 20) + 1 };
    let some = BTreeSet::from([Ordinal(0), Ordinal(2)]);
    let permits = [
        None,
        Some(permit_of(PermitKind::Found, Some("pod"))),
        Some(permit_of(PermitKind::FoundFrom("{\"backup\"}".into()), None)),
        Some(permit_of(PermitKind::ForceNew, None)),
    ];
    let mut all: Vec<Intent> = permits
        .into_iter()
        .map(|permit| {
            Intent::Bootstrap(Bootstrap {
                attempt: 2,
                permit,
                spoiled: Some(uid("c")),
                source: Some("b".into()),
                lost: Some(ClusterId(7)),
            })
        })
        .collect();
    all.extend([
        Intent::Bootstrap(Bootstrap { attempt: 1, permit: None, spoiled: None, source: None, lost: None }),
        Intent::ScaleUp(bare),
        Intent::ReplaceMember(join),
        Intent::ScaleDown(Leave { ordinal: Ordinal(4), member: Some(MemberId(7)), claim: Some(uid("c")) }),
        Intent::ScaleDown(Leave { ordinal: Ordinal(4), member: None, claim: None }),
        Intent::Roll(Roll { ordinal: Ordinal(1), pod: uid("p"), template }),
        Intent::Hibernate { replicas: 5 },
        Intent::RecoverQuorum(Recover {
            survivor: Ordinal(1),
            claim: uid("c"),
            lost: ClusterId(0xcdf8_1819_4e3a_8c32),
            nonce: Nonce(0),
            fenced: true,
            pods: of_all(["p", "q"]),
            claims: of_all(["c", "d"]),
        }),
        Intent::Restore(Restore { source: "b".into(), lost: ClusterId(1), save: false, claims: BTreeMap::new() }),
        Intent::Defragment(Defragment { rule: Some(rule), members: some.clone(), done: BTreeSet::new() }),
        Intent::Defragment(Defragment { rule: None, members: BTreeSet::new(), done: some.clone() }),
        Intent::MakeRoom(MakeRoom { compacted: true, done: some }),
        Intent::Compact { revision: Revision(i64::MAX) },
        Intent::MoveLeader { to: Ordinal(8) },
        Intent::DisarmAlarm,
    ]);
    all
}

fn operations() -> Vec<Operation> {
    let of = |(seq, intent)| Operation {
        seq,
        intent,
        started: Time(1_795_000_000),
        deadline: Time(1_795_000_600),
        generation: 7,
        request: (seq % 2 == 0).then(|| uid("order")),
    };
    (1..).zip(intents()).map(of).collect()
}

#[test]
fn nothing_is_lost_on_the_way_through_status() {
    for operation in operations() {
        let record = write("main", &operation);
        let text = serde_json::to_string(&record).expect("it is JSON");
        let back: OperationRecord = serde_json::from_str(&text).expect("what we write we read");
        assert_eq!(read(&back).as_ref(), Ok(&operation), "{text}");
    }
}

/// JSON's numbers are 64 bits with a sign to the API server.
#[test]
fn every_number_is_one_the_api_server_takes() {
    for operation in operations() {
        let record = serde_json::to_value(write("main", &operation)).expect("it is JSON");
        let mut left = vec![&record];
        while let Some(value) = left.pop() {
            match value {
                serde_json::Value::Object(object) => left.extend(object.values()),
                serde_json::Value::Array(list) => left.extend(list),
                serde_json::Value::Number(number) => assert!(number.is_i64(), "{number} in {record}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_record_without_its_part_is_refused() {
    for operation in operations().into_iter().filter(|operation| operation.intent != Intent::DisarmAlarm) {
        let mut record = serde_json::to_value(write("main", &operation)).expect("it is JSON");
        let parts = ["seq", "type", "member", "startedAt", "deadline", "generation", "requestUID"];
        record.as_object_mut().expect("an object").retain(|key, _| parts.contains(&key.as_str()));
        let record: OperationRecord = serde_json::from_value(record).expect("it has what must be there");
        assert!(read(&record).is_err(), "{record:?}");
    }
}

#[test]
fn it_says_which_pod_it_is_about() {
    let member = |intent: &Intent| about(intent).map(|ordinal| pod("main", ordinal));
    assert_eq!(member(&Intent::MoveLeader { to: Ordinal(8) }).as_deref(), Some("main-8"));
    assert_eq!(member(&Intent::DisarmAlarm), None);
}
