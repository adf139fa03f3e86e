//! What the HTTP endpoints ask a member.

use std::pin::Pin;

use keepstone_proto::etcdserverpb::{AlarmMember, AlarmType};
use serde::Serialize;
use tonic::Status;

use crate::api::context::Context;
use crate::cluster::reconcile;
use crate::metrics::Metrics;

/// A member of the cluster as `/members` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberRow {
    pub id: u64,
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(rename = "clientURLs", skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
}

pub type Read<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;

/// A member, as far as HTTP asks.
pub trait Probe: Send + Sync + 'static {
    fn alarms(&self) -> Vec<AlarmMember>;
    fn has_leader(&self) -> bool;
    fn is_learner(&self) -> bool;
    /// IDs of voters that have no vote yet because they have not caught up.
    fn pending_promotions(&self) -> Vec<u64>;
    /// Whether a read is answered now: a linearizable one waits for the leader's word, at most as long as any request.
    fn read(&self, serializable: bool) -> Read<'_>;
    /// "3.6.0", once decided.
    fn cluster_version(&self) -> Option<String>;
    fn cluster_id(&self) -> u64;
    fn members(&self) -> Vec<MemberRow>;
    fn metrics(&self) -> &Metrics;
}

impl Probe for Context {
    fn alarms(&self) -> Vec<AlarmMember> {
        self.core.state.read().alarms().list(AlarmType::None as i32)
    }

    fn has_leader(&self) -> bool {
        self.leader().is_some()
    }

    fn is_learner(&self) -> bool {
        let state = self.core.state.read();
        state.members().get(self.core.identity.member_id).is_some_and(|member| member.is_learner)
    }

    fn pending_promotions(&self) -> Vec<u64> {
        reconcile::pending_promotions(self).into_iter().map(|id| id.0).collect()
    }

    fn read(&self, serializable: bool) -> Read<'_> {
        Box::pin(async move {
            if !serializable {
                self.linearizable().await?;
            }
            // A member whose state is held by somebody for good doesn't get past here.
            let _revision = self.core.revision();
            Ok(())
        })
    }

    fn cluster_version(&self) -> Option<String> {
        self.core.state.read().members().version().map(str::to_owned)
    }

    fn cluster_id(&self) -> u64 {
        self.core.identity.cluster_id
    }

    fn members(&self) -> Vec<MemberRow> {
        let state = self.core.state.read();
        let row = |member: keepstone_proto::etcdserverpb::Member| MemberRow {
            id: member.id,
            peer_urls: member.peer_urls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_urls,
        };
        state.members().list().into_iter().map(row).collect()
    }

    fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }
}
