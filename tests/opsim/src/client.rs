//! What an operator's calls go through: each is under way for a while, there and back, and may be lost on either way. An
//! operator that is dropped between two polls has died there.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use keepstone_operator::controller::api::{Api, ApiError, Deletion, Fresh, Which};
use keepstone_operator::controller::clock::Clock;
use keepstone_operator::controller::kind::{Kind, Name};
use keepstone_operator::controller::members::{Answer, Change, Failure, Members, Row, Status, Target};
use keepstone_operator_plan::act::{Act, Alarm};
use keepstone_operator_plan::ids::{MemberId, Ordinal, Time};
use keepstone_operator_world::Blind;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::render;
use crate::site::Site;

/// A call that is under way for longer is given up, and never arrives.
const LIMIT: u64 = 10_000_000;

/// One operator's end of the wire.
#[derive(Clone)]
pub struct Wire {
    pub site: Arc<Mutex<Site>>,
    pub who: u8,
    /// Deletions say what they were decided on.
    pub careful: bool,
    /// A change of the CAs counts as long past.
    pub hasty: bool,
    /// What a member answered once is what it answers: none where that is not so.
    pub heard: Option<Arc<Mutex<BTreeMap<Ordinal, Answer>>>>,
    /// What is deleted is deleted with all its volumes.
    pub greedy: bool,
}

/// Somebody else has a turn.
struct Hop(bool);

impl Future for Hop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wire {
    async fn call<T>(&self, serve: impl FnOnce(&mut Site) -> Result<T, ApiError> + Send) -> Result<T, ApiError> {
        let silence = |why: &str| Err(ApiError::Silence(why.to_owned()));
        let sent = self.site.lock().micros;
        Hop(false).await;
        let answer = {
            let mut site = self.site.lock();
            if site.micros - sent > LIMIT {
                return silence("it took too long");
            }
            let lost = site.lost;
            if site.rng.one_in(lost) {
                return silence("it was lost");
            }
            let answer = serve(&mut site);
            if site.rng.one_in(lost) { silence("the answer was lost") } else { answer }
        };
        Hop(false).await;
        answer
    }
}

impl Clock for Wire {
    fn now(&self) -> Time {
        Time(self.site.lock().world.now)
    }

    fn steady(&self) -> Duration {
        Duration::from_micros(self.site.lock().micros)
    }
}

impl Api for Wire {
    async fn get(&self, kind: Kind, name: &Name) -> Result<Option<Value>, ApiError> {
        let (who, greedy) = (self.who, self.greedy);
        self.call(move |site| {
            let mut found = site.get(kind, &name.name);
            if kind == Kind::Cluster {
                site.looks(who);
                if let Some(cluster) = found.as_mut().filter(|_| greedy) {
                    cluster["spec"]["deletionPolicy"] = json!("Delete");
                }
            }
            Ok(found)
        })
        .await
    }

    async fn list(&self, kind: Kind, _: &str, _: Which<'_>, fresh: Fresh) -> Result<Vec<Value>, ApiError> {
        let mut list = self.call(move |site| Ok(site.list(kind, fresh == Fresh::Cached))).await?;
        if self.hasty && kind == Kind::ConfigMap {
            let since = list.iter_mut().filter_map(|map| map.pointer_mut("/metadata/annotations/keepstone.io~1since"));
            since.for_each(|since| *since = json!("1"));
        }
        Ok(list)
    }

    async fn create(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.call(|site| site.create(self.who, kind, object)).await
    }

    async fn apply(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.call(|site| site.apply(self.who, kind, object)).await
    }

    async fn merge(&self, kind: Kind, name: &Name, status: bool, patch: &Value) -> Result<Value, ApiError> {
        self.call(|site| site.merge(self.who, kind, name, status, patch)).await
    }

    async fn replace(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.call(|site| site.replace(self.who, kind, object)).await
    }

    async fn delete(&self, kind: Kind, name: &Name, how: &Deletion) -> Result<(), ApiError> {
        let how = if self.careful { how.clone() } else { Deletion { uid: None, version: None, ..how.clone() } };
        self.call(|site| site.delete(self.who, kind, name, &how)).await
    }
}

fn failure(why: ApiError) -> Failure {
    match why {
        ApiError::Silence(why) => Failure::Silence(why),
        why => Failure::Refused(why.to_string()),
    }
}

/// The place a client URL is of.
fn place(target: &Target) -> Result<Ordinal, ApiError> {
    let host = target.client_url.split_once("://").map_or("", |(_, rest)| rest);
    let pod = host.split('.').next().unwrap_or_default();
    render::names().ordinal(pod).ok_or_else(|| ApiError::Refused("nobody of ours".to_owned()))
}

/// The cluster of the member that serves there, if it has a quorum.
fn cluster(site: &Site, n: Ordinal) -> Result<u64, ApiError> {
    let serves = site.world.serves(n.0).filter(|(cluster, _)| site.world.has_quorum(*cluster));
    serves.map(|(cluster, _)| cluster).ok_or_else(|| ApiError::Silence("no quorum".to_owned()))
}

impl Members for Wire {
    async fn status(&self, of: &Target) -> Result<Answer, Failure> {
        let n = place(of).map_err(failure)?;
        let answer = self.call(move |site| {
            let seen = site.world.observe(&site.world.kube, Blind::Nothing, None);
            seen.answers.get(&n).cloned().ok_or_else(|| ApiError::Silence("nobody there".to_owned()))
        });
        let heard = |heard: &Arc<Mutex<BTreeMap<Ordinal, Answer>>>| heard.lock().get(&n).cloned();
        let it = match answer.await.map_err(failure) {
            Ok(it) => it,
            Err(why) => return self.heard.as_ref().and_then(heard).ok_or(why),
        };
        let status = Status {
            cluster_id: it.cluster_id,
            member_id: it.member_id,
            leader: it.leader,
            term: it.term,
            applied: it.applied,
            revision: it.revision,
            learner: it.learner,
            version: String::new(),
            db_size: it.db_size,
            db_in_use: it.db_in_use,
            errors: Vec::new(),
        };
        let answer = Answer { status, permit: it.permit, release: None };
        if let Some(heard) = &self.heard {
            heard.lock().insert(n, answer.clone());
        }
        Ok(answer)
    }

    async fn table(&self, from: &Target) -> Result<Vec<Row>, Failure> {
        let n = place(from).map_err(failure)?;
        let rows = self.call(move |site| {
            let rows = &site.world.servers.clusters[&cluster(site, n)?].rows;
            let row = |row: &keepstone_operator_world::servers::Row| Row {
                id: MemberId(row.id),
                name: String::new(),
                peer_urls: vec![render::names().peer_url("http", Ordinal(row.ordinal))],
                learner: row.learner,
            };
            Ok(rows.iter().map(row).collect())
        });
        rows.await.map_err(failure)
    }

    async fn alarms(&self, from: &Target) -> Result<BTreeSet<(MemberId, Alarm)>, Failure> {
        let n = place(from).map_err(failure)?;
        let alarms = self.call(move |site| {
            cluster(site, n).map(|_| site.world.alarms.iter().map(|(id, alarm)| (MemberId(*id), *alarm)).collect())
        });
        alarms.await.map_err(failure)
    }

    async fn change(&self, with: &Target, change: &Change) -> Result<(), Failure> {
        let n = place(with).map_err(failure)?;
        let done = self.call(|site| {
            let serves = cluster(site, n)?;
            // The world carries out what it is asked for in the latched cluster.
            if site.world.latched != Some(serves) {
                return Err(ApiError::Refused("a member of another cluster".to_owned()));
            }
            let act = match change {
                Change::Add { peer_url } => {
                    let place = render::names().ordinal_of(peer_url);
                    Act::MemberAdd { ordinal: place.ok_or_else(|| ApiError::Refused("a foreign URL".to_owned()))? }
                }
                Change::Promote { id } => Act::MemberPromote { id: *id },
                Change::Remove { id } => Act::MemberRemove { id: *id },
                Change::MoveLeader { to } => Act::MoveLeader { from: n, to: *to },
                Change::Compact { revision } => Act::Compact { revision: *revision },
                Change::Defragment => Act::Defragment { ordinal: n },
                Change::Disarm { id, alarm } => Act::Disarm { id: *id, alarm: *alarm },
            };
            site.change(self.who, &act)
        });
        done.await.map_err(failure)
    }
}
