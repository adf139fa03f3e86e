//! What members say. All are asked at once, so that one that hangs costs no more than its own bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{ClusterId, MemberId, Ordinal, Version};
use keepstone_operator_plan::observed::{Member, Pod, Seen, Status};

use crate::Blueprint;
use crate::controller::members::{Answer, Credentials, Members, Row, Target};
use crate::names::METRICS_PORT;

/// What all of them said together.
pub struct Told {
    pub answers: BTreeMap<Ordinal, Status>,
    /// What they say they are, for people.
    pub releases: BTreeMap<Ordinal, Version>,
    pub table: Seen<Vec<Member>>,
    pub alarms: Seen<BTreeSet<(MemberId, Alarm)>>,
}

/// Whom to call. Without credentials nobody of an encrypted cluster is: it could not be told from somebody else.
#[must_use]
pub fn targets(
    b: &Blueprint,
    pods: Option<&BTreeMap<Ordinal, Pod>>,
    credentials: Option<&Credentials>,
) -> BTreeMap<Ordinal, Target> {
    if b.encrypts() && credentials.is_none() {
        return BTreeMap::new();
    }
    let credentials = credentials.filter(|_| b.encrypts()).cloned().map(Arc::new);
    let target = |n: &Ordinal| Target {
        client_url: b.names.client_url(b.scheme(), *n),
        metrics_url: format!("http://{}:{METRICS_PORT}", b.names.host(&b.names.pod(*n))),
        credentials: credentials.clone(),
    };
    pods.into_iter().flatten().map(|(n, _)| (*n, target(n))).collect()
}

pub async fn ask(
    members: &impl Members,
    b: &Blueprint,
    ours: Option<ClusterId>,
    pods: Option<&BTreeMap<Ordinal, Pod>>,
    targets: &BTreeMap<Ordinal, Target>,
) -> Told {
    let asked = targets.iter().map(|(n, target)| async move { (*n, members.status(target).await) });
    let (mut answers, mut releases) = (BTreeMap::new(), BTreeMap::new());
    for (n, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => {
                let version = pods.and_then(|pods| pods.get(&n)).map(|pod| pod.template.version);
                answers.insert(n, status(&answer, version));
                releases.extend(answer.release.map(|release| (n, release)));
            }
            Err(why) => tracing::debug!(member = %b.names.pod(n), %why, "a member did not answer"),
        }
    }
    let order = voters(&answers, ours);
    let mut told = Told { answers, releases, table: Seen::Unknown, alarms: Seen::Unknown };
    for n in order {
        let Ok(rows) = members.table(&targets[&n]).await else { continue };
        told.table = Seen::Known(rows.into_iter().map(|row| member(b, row)).collect());
        if let Ok(alarms) = members.alarms(&targets[&n]).await {
            told.alarms = Seen::Known(alarms);
        }
        break;
    }
    told
}

/// Who can be asked for what all agree on: those of our cluster first, leaders first, learners never.
#[must_use]
pub fn voters(answers: &BTreeMap<Ordinal, Status>, ours: Option<ClusterId>) -> Vec<Ordinal> {
    let mut voters: Vec<_> = answers.iter().filter(|(_, s)| !s.learner && s.leader.is_some()).collect();
    voters.sort_by_key(|(n, s)| (ours.is_some_and(|id| id != s.cluster_id), s.leader != Some(s.member_id), **n));
    voters.into_iter().map(|(n, _)| *n).collect()
}

fn status(answer: &Answer, version: Option<Version>) -> Status {
    let it = &answer.status;
    Status {
        cluster_id: it.cluster_id,
        member_id: it.member_id,
        leader: it.leader,
        term: it.term,
        applied: it.applied,
        revision: it.revision,
        learner: it.learner,
        // That of its image, which pods are compared and made by: a tag need not be called like the program in it.
        version: version.unwrap_or(Version { major: 0, minor: 0, patch: 0 }),
        db_size: it.db_size,
        db_in_use: it.db_in_use,
        permit: answer.permit,
    }
}

fn member(b: &Blueprint, row: Row) -> Member {
    let ordinal = row.peer_urls.iter().find_map(|url| b.names.ordinal_of(url));
    Member { id: row.id, ordinal, learner: row.learner }
}
