//! One member, over one connection. A change is made by whichever member is asked, as long as there is a leader; only
//! [`Member::move_leader`] wants the leader itself, and [`Member::defragment`] is about the member that is asked.

use std::future::Future;
use std::time::Duration;

use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{MemberId, Revision};
use keepstone_proto::etcdserverpb::cluster_client::ClusterClient;
use keepstone_proto::etcdserverpb::kv_client::KvClient;
use keepstone_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keepstone_proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DefragmentRequest, HashKvRequest, MemberAddRequest, MemberListRequest,
    MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest, StatusRequest, alarm_request::AlarmAction,
};
use tonic::transport::Channel;
use tonic::{Request, Response};

use super::{CallError, Dialer, Hash, Row, Status};

/// A question. A pass asks every member: one that hangs must not take long.
const QUESTION: Duration = Duration::from_secs(5);
/// A change of members or alarms: the members' own bound is below.
const CHANGE: Duration = Duration::from_secs(15);
/// What goes through all data.
const LONG: Duration = Duration::from_secs(300);

/// A member to call. Clones share the connection.
#[derive(Clone)]
pub struct Member {
    cluster: ClusterClient<Channel>,
    kv: KvClient<Channel>,
    pub(super) maintenance: MaintenanceClient<Channel>,
}

impl Member {
    /// Connects when it is first called. `url` is a client URL.
    ///
    /// # Errors
    /// It is no URL.
    pub fn new(url: &str, dialer: &Dialer) -> Result<Self, CallError> {
        let channel = dialer.channel(url)?;
        Ok(Self {
            cluster: ClusterClient::new(channel.clone()),
            kv: KvClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel),
        })
    }

    /// What the member says of itself; it needs no leader for it.
    ///
    /// # Errors
    /// As all calls: [`CallError`].
    pub async fn status(&mut self) -> Result<Status, CallError> {
        within(QUESTION, self.maintenance.status(bounded(QUESTION, StatusRequest {}))).await.map(Status::from)
    }

    /// The member table, as a majority knows it now.
    ///
    /// # Errors
    /// As all calls, and when there is no majority.
    pub async fn members(&mut self) -> Result<Vec<Row>, CallError> {
        let request = bounded(QUESTION, MemberListRequest { linearizable: true });
        let answer = within(QUESTION, self.cluster.member_list(request)).await?;
        Ok(answer.members.into_iter().map(Row::from).collect())
    }

    /// Adds a learner; there is no other way to add a member here. Answers its ID.
    ///
    /// # Errors
    /// As all calls. `PeerUrlExists` where it is added already.
    pub async fn add_learner(&mut self, peer_url: &str) -> Result<MemberId, CallError> {
        let request = MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: true };
        let answer = within(CHANGE, self.cluster.member_add(bounded(CHANGE, request))).await?;
        let added = answer.member.ok_or_else(|| CallError::Silence("the answer names no member".to_owned()))?;
        Ok(MemberId(added.id))
    }

    /// # Errors
    /// As all calls. `LearnerNotReady` is no trouble; `NotALearner` where it is promoted already.
    pub async fn promote(&mut self, id: MemberId) -> Result<(), CallError> {
        let request = bounded(CHANGE, MemberPromoteRequest { id: id.0 });
        within(CHANGE, self.cluster.member_promote(request)).await.map(drop)
    }

    /// # Errors
    /// As all calls. `MemberNotFound` where it is removed already.
    pub async fn remove(&mut self, id: MemberId) -> Result<(), CallError> {
        let request = bounded(CHANGE, MemberRemoveRequest { id: id.0 });
        within(CHANGE, self.cluster.member_remove(request)).await.map(drop)
    }

    /// Has this member, which has to lead, hand over.
    ///
    /// # Errors
    /// As all calls. `NotLeader` where another leads by now.
    pub async fn move_leader(&mut self, to: MemberId) -> Result<(), CallError> {
        let request = bounded(CHANGE, MoveLeaderRequest { target_id: to.0 });
        within(CHANGE, self.maintenance.move_leader(request)).await.map(drop)
    }

    /// # Errors
    /// As all calls.
    pub async fn defragment(&mut self) -> Result<(), CallError> {
        within(LONG, self.maintenance.defragment(bounded(LONG, DefragmentRequest {}))).await.map(drop)
    }

    /// Forgets what is older than `revision`, and waits until it is gone from the disk.
    ///
    /// # Errors
    /// As all calls. `Compacted` where it is done already.
    pub async fn compact(&mut self, revision: Revision) -> Result<(), CallError> {
        let request = bounded(LONG, CompactionRequest { revision: revision.0, physical: true });
        within(LONG, self.kv.compact(request)).await.map(drop)
    }

    /// Those that are armed, whoever raised them. One of a kind that is not known is left out: nobody could disarm it.
    ///
    /// # Errors
    /// As all calls.
    pub async fn alarms(&mut self) -> Result<Vec<(MemberId, Alarm)>, CallError> {
        let request = alarm(AlarmAction::Get, MemberId(0), AlarmType::None);
        let answer = within(QUESTION, self.maintenance.alarm(bounded(QUESTION, request))).await?;
        let known = |alarm: i32| match AlarmType::try_from(alarm) {
            Ok(AlarmType::Nospace) => Some(Alarm::NoSpace),
            Ok(AlarmType::Corrupt) => Some(Alarm::Corrupt),
            _ => None,
        };
        Ok(answer.alarms.iter().filter_map(|armed| Some((MemberId(armed.member_id), known(armed.alarm)?))).collect())
    }

    /// That there is none such is success.
    ///
    /// # Errors
    /// As all calls.
    pub async fn disarm(&mut self, id: MemberId, kind: Alarm) -> Result<(), CallError> {
        let kind = match kind {
            Alarm::NoSpace => AlarmType::Nospace,
            Alarm::Corrupt => AlarmType::Corrupt,
        };
        let request = alarm(AlarmAction::Deactivate, id, kind);
        within(CHANGE, self.maintenance.alarm(bounded(CHANGE, request))).await.map(drop)
    }

    /// What this member's data sums up to at `revision`, or at the newest it has.
    ///
    /// # Errors
    /// As all calls.
    pub async fn hash(&mut self, revision: Option<Revision>) -> Result<Hash, CallError> {
        let request = HashKvRequest { revision: revision.map_or(0, |revision| revision.0) };
        let answer = within(LONG, self.maintenance.hash_kv(bounded(LONG, request))).await?;
        let compacted = Revision(answer.compact_revision);
        Ok(Hash { hash: answer.hash, compacted, revision: Revision(answer.hash_revision) })
    }
}

fn alarm(action: AlarmAction, id: MemberId, kind: AlarmType) -> AlarmRequest {
    AlarmRequest { action: action.into(), member_id: id.0, alarm: kind.into() }
}

/// A request that the member gives up as well when its time is over.
fn bounded<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CallError::Silence(format!("nothing was heard in {} s", limit.as_secs()))),
    }
}
