//! Orders as the objects that the operator finds. Pure; whether they can be carried out is the operator's to say, but for what
//! it could not be told at all.

use anyhow::{Context as _, bail};
use keepstone_operator_api::KEEP_ANNOTATION;
use serde_json::{Map, Value, json};

use super::args::{Alarm, Backup, Upto, Verb};
use crate::controller::api::text;
use crate::controller::kind::Kind;

/// An `EtcdOperation` that gets its name from the API server.
#[must_use]
pub fn operation(namespace: &str, cluster: &str, verb: &str, with: &Value) -> Value {
    json!({
        "apiVersion": Kind::Operation.api_version(),
        "kind": "EtcdOperation",
        "metadata": {"namespace": namespace, "generateName": format!("{cluster}-{}-", verb.to_lowercase())},
        "spec": {"clusterRef": {"name": cluster}, verb: with},
    })
}

/// The order's verb in the API's words, and what it is about.
///
/// # Errors
/// The cluster has no ID that could be given up, or it is no such order.
pub fn verb(verb: &Verb, cluster: &Value) -> anyhow::Result<(&'static str, Value)> {
    Ok(match verb {
        Verb::Defrag { members, .. } => ("defragment", some([("members", named(members))])),
        Verb::Compact { upto, .. } => ("compact", compact(upto)),
        Verb::MoveLeader { to, .. } => ("moveLeader", some([("to", to.clone().map(Value::from))])),
        Verb::ReplaceMember { member, .. } => ("replaceMember", json!({"member": member})),
        Verb::Restart { members, .. } => ("restartMembers", some([("members", named(members))])),
        Verb::DisarmAlarm { alarm, member, .. } => {
            let alarm = match alarm {
                Alarm::NoSpace => "NOSPACE",
                Alarm::Corrupt => "CORRUPT",
            };
            let of = member.clone().map(Value::from);
            ("disarmAlarm", some([("alarm", Some(alarm.into())), ("member", of)]))
        }
        Verb::RecoverQuorum { survivor, confirm, .. } => {
            let confirm = match confirm {
                Some(given) => given.clone(),
                None => identity(cluster)?,
            };
            ("recoverQuorum", json!({"survivor": survivor, "confirm": confirm}))
        }
        Verb::Restore { backup, confirm, bump_revision, no_snapshot, .. } => {
            let mut with = json!({"from": {"backupRef": {"name": backup}}, "confirm": confirm});
            if let Some(revisions) = bump_revision {
                with["bumpRevision"] = json!(revisions);
            }
            if *no_snapshot {
                with["snapshotCurrentFirst"] = json!(false);
            }
            ("restore", with)
        }
        Verb::Status { .. } | Verb::Members { .. } | Verb::Report { .. } | Verb::Backup(_) => bail!("it is no order"),
    })
}

/// As `confirm` wants it.
fn identity(cluster: &Value) -> anyhow::Result<String> {
    let (name, id) = (text(cluster, "/metadata/name"), text(cluster, "/status/clusterID"));
    if id.is_empty() {
        bail!("{name} has no ID yet: it was never founded, so that there is nothing to recover");
    }
    Ok(format!("{name}/{id}"))
}

fn compact(upto: &Upto) -> Value {
    let keep = some([
        ("revisions", upto.keep_revisions.map(Value::from)),
        ("duration", upto.keep_duration.clone().map(Value::from)),
    ]);
    match upto.revision {
        Some(revision) => json!({"revision": revision}),
        None => json!({"keep": keep}),
    }
}

fn named(members: &[String]) -> Option<Value> {
    (!members.is_empty()).then(|| json!(members))
}

fn some<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let there = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(there.collect::<Map<_, _>>())
}

/// An `EtcdBackup`, to the store that was said, or to that of the cluster's schedule.
///
/// # Errors
/// Neither is there.
pub fn backup(order: &Backup, namespace: &str, cluster: &Value) -> anyhow::Result<Value> {
    let name = &order.order.cluster;
    let mut metadata = match &order.name {
        Some(given) => json!({"namespace": namespace, "name": given}),
        None => json!({"namespace": namespace, "generateName": format!("{name}-manual-")}),
    };
    if order.keep {
        metadata["annotations"] = json!({KEEP_ANNOTATION: "true"});
    }
    let store = store(order).or_else(|| cluster.pointer("/spec/backup/store").cloned());
    let store = store.with_context(|| format!("{name} has no backup policy: say --claim or --bucket"))?;
    Ok(json!({
        "apiVersion": Kind::Backup.api_version(),
        "kind": "EtcdBackup",
        "metadata": metadata,
        "spec": {"clusterRef": {"name": name}, "store": store},
    }))
}

fn store(order: &Backup) -> Option<Value> {
    let said = |it: &Option<String>| it.clone().map(Value::from);
    let secret = |it: &Option<String>| it.as_ref().map(|name| json!({"name": name}));
    if order.claim.is_some() {
        return Some(json!({"pvc": some([("claimName", said(&order.claim)), ("subPath", said(&order.sub_path))])}));
    }
    order.bucket.as_ref()?;
    Some(json!({"s3": some([
        ("bucket", said(&order.bucket)),
        ("endpoint", said(&order.endpoint)),
        ("prefix", said(&order.prefix)),
        ("region", said(&order.region)),
        ("forcePathStyle", order.path_style.then(|| true.into())),
        ("credentialsSecretRef", secret(&order.credentials)),
        ("caSecretRef", secret(&order.ca)),
    ])}))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use keepstone_operator_api::{EtcdBackup, EtcdOperation};

    use super::super::Arguments;
    use super::*;
    use crate::convert;

    fn parsed(line: &str) -> Verb {
        let words = ["kubectl-keepstone"].into_iter().chain(line.split(' '));
        Arguments::try_parse_from(words).unwrap_or_else(|why| panic!("{line}: {why}")).verb
    }

    fn cluster() -> Value {
        json!({"metadata": {"name": "main"}, "spec": {}, "status": {"clusterID": "cdf8"}})
    }

    /// What is ordered is what the operator reads.
    #[test]
    fn every_order_is_one_that_the_operator_takes() {
        for (line, wanted) in [
            ("defrag main", json!({"defragment": {}})),
            ("defrag main main-0 main-2", json!({"defragment": {"members": ["main-0", "main-2"]}})),
            ("compact main --revision 7", json!({"compact": {"revision": 7}})),
            ("compact main --keep-revisions 10", json!({"compact": {"keep": {"revisions": 10}}})),
            ("compact main --keep-duration 1h", json!({"compact": {"keep": {"duration": "1h"}}})),
            ("move-leader main", json!({"moveLeader": {}})),
            ("move-leader main --to main-1", json!({"moveLeader": {"to": "main-1"}})),
            ("replace-member main main-1", json!({"replaceMember": {"member": "main-1"}})),
            ("restart main", json!({"restartMembers": {}})),
            ("restart main main-1", json!({"restartMembers": {"members": ["main-1"]}})),
            ("disarm-alarm main NOSPACE", json!({"disarmAlarm": {"alarm": "NOSPACE"}})),
            (
                "disarm-alarm main corrupt --member main-1",
                json!({"disarmAlarm": {"alarm": "CORRUPT", "member": "main-1"}}),
            ),
            (
                "recover-quorum main --survivor main-2",
                json!({"recoverQuorum": {"survivor": "main-2", "confirm": "main/cdf8"}}),
            ),
            (
                "restore main --backup b --confirm main/cdf8 --no-snapshot --bump-revision 5",
                json!({"restore": {
                    "from": {"backupRef": {"name": "b"}}, "confirm": "main/cdf8", "bumpRevision": 5,
                    "snapshotCurrentFirst": false,
                }}),
            ),
        ] {
            let (name, with) = verb(&parsed(line), &cluster()).expect(line);
            let object = operation("prod", "main", name, &with);
            let mut wanted = wanted;
            wanted["clusterRef"] = json!({"name": "main"});
            assert_eq!(object["spec"], wanted, "{line}");
            let order: EtcdOperation = serde_json::from_value(object).expect(line);
            let kept = |_: &_| Some(keepstone_operator_plan::ids::Revision(1));
            convert::order::read(&order.spec, kept).expect(line);
        }
    }

    #[test]
    fn a_cluster_that_was_never_founded_is_not_recovered() {
        let unfounded = json!({"metadata": {"name": "main"}, "status": {}});
        verb(&parsed("recover-quorum main --survivor main-2"), &unfounded).expect_err("no ID");
    }

    #[test]
    fn a_backup_goes_where_it_is_said_or_where_the_schedule_puts_them() {
        let with = |line: &str, cluster: &Value| {
            let Verb::Backup(order) = parsed(line) else { panic!("{line}") };
            let object = backup(&order, "prod", cluster)?;
            serde_json::from_value::<EtcdBackup>(object.clone()).expect(line);
            Ok::<_, anyhow::Error>(object)
        };
        with("backup main", &cluster()).expect_err("no store");
        let mut scheduled = cluster();
        scheduled["spec"]["backup"] = json!({"store": {"pvc": {"claimName": "backups"}}});
        let made = with("backup main --keep --name first", &scheduled).expect("a store");
        assert_eq!(made["spec"]["store"], json!({"pvc": {"claimName": "backups"}}));
        assert_eq!(made["metadata"]["name"], "first");
        assert_eq!(made["metadata"]["annotations"][KEEP_ANNOTATION], "true");
        let line = "backup main --bucket etcd --endpoint http://s3:9000 --path-style --credentials s3 --prefix a/b";
        let made = with(line, &scheduled).expect("a store");
        let store = json!({"s3": {
            "bucket": "etcd", "endpoint": "http://s3:9000", "forcePathStyle": true, "prefix": "a/b",
            "credentialsSecretRef": {"name": "s3"},
        }});
        assert_eq!(made["spec"]["store"], store);
    }
}
