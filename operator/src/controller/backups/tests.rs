use super::*;

const NAME: &str = "nightly";
const UID: &str = "0a1b2c3d-0000-4000-8000-000000000000";
const NOW: Time = Time(1_795_305_700);

fn record(policy: &str, held: bool, deleting: bool, phase: Option<&str>) -> Value {
    let mut record = json!({
        "apiVersion": "keepstone.io/v1alpha1", "kind": "EtcdBackup",
        "metadata": {"name": NAME, "namespace": "prod", "uid": UID, "resourceVersion": "7"},
        "spec": {"clusterRef": {"name": "main"}, "store": {"pvc": {"claimName": "b"}}, "deletionPolicy": policy},
    });
    if held {
        record["metadata"]["finalizers"] = json!(["other", FINALIZER]);
    }
    if deleting {
        record["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
    }
    if let Some(phase) = phase {
        record["status"] = json!({"phase": phase});
    }
    record
}

fn a_job(what: &str, condition: Option<(&str, &str)>) -> Value {
    let conditions: Vec<_> = condition
        .map(|(kind, at)| json!({"type": kind, "status": "True", "message": "gave up", "lastTransitionTime": at}))
        .into_iter()
        .collect();
    json!({"metadata": {"name": job::name(NAME, what, UID), "uid": what}, "status": {"conditions": conditions}})
}

fn a_pod(what: &str, message: &str) -> Value {
    json!({
        "metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": job::name(NAME, what, UID)}},
        "status": {"containerStatuses": [{"name": "backup", "state": {"terminated": {"message": message}}}]},
    })
}

fn objects(jobs: &[Value], pods: &[Value]) -> Objects {
    let mut objects = Objects::default();
    jobs.iter().for_each(|job| objects.put(Kind::Job, job.clone()));
    pods.iter().for_each(|pod| objects.put(Kind::Pod, pod.clone()));
    objects
}

fn next(record: &Value, jobs: &[Value], pods: &[Value]) -> Step {
    step(record, &objects(jobs, pods), NOW).expect("a backup")
}

fn artifact() -> Artifact {
    Artifact {
        uri: "pvc://b/nightly.db".to_owned(),
        size_bytes: 7,
        sha256: "ab".to_owned(),
        revision: 9,
        cluster_id: "1".to_owned(),
        member_id: "2".to_owned(),
        server_version: "3.6.0".to_owned(),
    }
}

fn told(step: &Step) -> &Said {
    match step {
        Step::Tell(said) => said,
        other => panic!("{other:?} says nothing"),
    }
}

const LATELY: &str = "2026-11-22T00:01:30Z";
const LONG_AGO: &str = "2026-11-21T00:00:00Z";

/// Its file would stay for ever, and nobody know of it.
#[test]
fn a_backup_whose_file_is_to_go_is_held_before_there_is_a_file() {
    assert_eq!(next(&record("Delete", false, false, None), &[], &[]), Step::Hold);
    assert_eq!(next(&record("Delete", true, false, None), &[], &[]), Step::Take);
    assert_eq!(next(&record("Retain", false, false, None), &[], &[]), Step::Take);
}

#[test]
fn a_backup_is_taken_once_and_told_of() {
    let waits = record("Retain", false, false, Some("Pending"));
    let begun = next(&waits, &[a_job("backup", None)], &[]);
    assert_eq!((told(&begun).phase, told(&begun).reason), (BackupPhase::Running, Reason::Running));
    let runs = record("Retain", false, false, Some("Running"));
    assert_eq!(next(&runs, &[a_job("backup", None)], &[]), Step::Wait);
    let done = [a_job("backup", Some(("Complete", LATELY)))];
    let pod = a_pod("backup", &Report::Taken(artifact()).write());
    let said = next(&runs, &done, &[pod]);
    assert_eq!((told(&said).phase, told(&said).artifact.clone()), (BackupPhase::Completed, Some(artifact())));
    let completed = record("Retain", false, false, Some("Completed"));
    assert_eq!(next(&completed, &done, &[]), Step::Clear(job::name(NAME, "backup", UID)));
    assert_eq!(next(&completed, &[], &[]), Step::Nothing);
    assert_eq!(next(&record("Retain", false, false, Some("Failed")), &[], &[]), Step::Nothing, "it is not taken again");
}

/// A list of pods may be older than that of Jobs.
#[test]
fn a_word_that_is_not_here_yet_is_not_lost_yet() {
    let runs = record("Retain", false, false, Some("Running"));
    assert_eq!(next(&runs, &[a_job("backup", Some(("Complete", LATELY)))], &[]), Step::Wait);
    let lost = next(&runs, &[a_job("backup", Some(("Complete", LONG_AGO)))], &[]);
    assert_eq!(told(&lost).phase, BackupPhase::Failed);
}

#[test]
fn a_failure_is_told_in_the_agents_words_or_the_jobs() {
    let runs = record("Retain", false, false, Some("Running"));
    let failed = [a_job("backup", Some(("Failed", LONG_AGO)))];
    let pod = a_pod("backup", &Report::failed(Reason::StoreDenied, "no such bucket").write());
    let step = next(&runs, &failed, &[pod]);
    assert_eq!((told(&step).reason, told(&step).message.as_str()), (Reason::StoreDenied, "no such bucket"));
    assert_eq!(told(&next(&runs, &failed, &[])).message, "gave up");
}

/// An agent that still writes would bring back what was just removed.
#[test]
fn a_file_is_removed_when_nobody_writes_it_any_more() {
    let leaving = record("Delete", true, true, Some("Running"));
    let writes = [a_job("backup", None)];
    assert_eq!(next(&leaving, &writes, &[]), Step::Clear(job::name(NAME, "backup", UID)));
    assert_eq!(next(&leaving, &[], &[a_pod("backup", "")]), Step::Wait);
    assert_eq!(next(&leaving, &[], &[]), Step::Discard);
    assert_eq!(next(&leaving, &[a_job("discard", None)], &[]), Step::Wait);
    assert_eq!(next(&leaving, &[a_job("discard", Some(("Complete", LATELY)))], &[]), Step::LetGo);
}

#[test]
fn a_file_that_can_not_be_removed_is_tried_again_later() {
    let leaving = record("Delete", true, true, Some("Completed"));
    assert_eq!(next(&leaving, &[a_job("discard", Some(("Failed", LATELY)))], &[]), Step::Wait);
    let again = next(&leaving, &[a_job("discard", Some(("Failed", LONG_AGO)))], &[]);
    assert_eq!(again, Step::Clear(job::name(NAME, "discard", UID)));
    // A store that is gone holds nothing for ever.
    let mut old = leaving.clone();
    old["metadata"]["deletionTimestamp"] = json!("2026-11-20T00:00:00Z");
    assert_eq!(next(&old, &[a_job("discard", Some(("Failed", LATELY)))], &[]), Step::LetGo);
    assert_eq!(next(&record("Retain", true, true, None), &[], &[]), Step::LetGo);
    assert_eq!(next(&record("Delete", false, true, None), &[], &[]), Step::Nothing);
}
