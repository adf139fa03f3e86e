//! Founding a cluster: before any of the founders votes, each has noted every other's data directory, on disk.
//!
//! With that a founder whose disk was wiped is found out by whoever is left, and no majority of wiped ones can found a
//! second cluster while one of the first is there to object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use keepstone_proto::keepstonepb::introduction::Kind;
use keepstone_proto::keepstonepb::{Hello, Introduction};
use keepstone_state::MemberId;

use super::passport::MAX_FOUNDERS;
use super::reception::FrontDesk;
use crate::config::{Config, ConfigError, ListenUrl};
use crate::core::Identity;
use crate::data;
use crate::peer::grpc::Connector;

/// Pause before a founder that did not answer is greeted again.
const RETRY: Duration = Duration::from_millis(200);
/// Every so many tries it is said what is waited for.
const TELL_EVERY: u32 = 25;

/// The founders of a cluster.
#[derive(Clone, Debug)]
pub struct Founders {
    pub identity: Identity,
    pub members: BTreeMap<MemberId, Founder>,
}

#[derive(Clone, Debug)]
pub struct Founder {
    pub name: String,
    pub peer_urls: Vec<String>,
}

impl Founders {
    /// As `--initial-cluster` names them; IDs are etcd's.
    ///
    /// # Errors
    /// etcd's words for settings that do not agree.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let cluster = config.founding_cluster()?;
        if cluster.len() > MAX_FOUNDERS {
            let why = format!(
                "--initial-cluster names {} members: at most {MAX_FOUNDERS} can found a cluster",
                cluster.len()
            );
            return Err(ConfigError::Invalid(why));
        }
        let mut members = BTreeMap::new();
        let mut me = MemberId(0);
        for (name, urls) in cluster.iter() {
            let peer_urls: Vec<String> = urls.iter().map(ListenUrl::to_string).collect();
            let id = data::member_id(&peer_urls, &config.initial_cluster_token);
            if name == config.name {
                me = id;
            }
            members.insert(id, Founder { name: name.to_owned(), peer_urls });
        }
        let ids: Vec<MemberId> = members.keys().copied().collect();
        Ok(Self { identity: Identity { cluster_id: data::cluster_id(&ids), member_id: me }, members })
    }

    fn others(&self) -> impl Iterator<Item = (MemberId, &Founder)> {
        self.members.iter().filter(|(id, _)| **id != self.identity.member_id).map(|(id, founder)| (*id, founder))
    }
}

/// Greets every other founder until each has noted this one's data directory and been noted.
///
/// # Errors
/// A founder refuses: this member's settings or its data directory are others than it knows.
pub async fn meet(founders: &Founders, desk: &Arc<FrontDesk>, connector: &Connector) -> Result<(), String> {
    let greetings = founders.others().map(|(id, founder)| greet(founders, id, founder, desk, connector));
    join_all(greetings).await.into_iter().collect()
}

async fn greet(
    founders: &Founders,
    id: MemberId,
    founder: &Founder,
    desk: &FrontDesk,
    connector: &Connector,
) -> Result<(), String> {
    let me = founders.identity;
    for attempt in 0_u32.. {
        let url = &founder.peer_urls[attempt as usize % founder.peer_urls.len()];
        let hello = Hello {
            cluster_id: me.cluster_id,
            from: me.member_id.0,
            to: id.0,
            incarnation: desk.passport().incarnation.to_vec().into(),
        };
        let why = match connector.introduce(url, Introduction { kind: Some(Kind::Hello(hello)) }).await {
            Ok(answer) if answer.error.is_empty() => return desk.pin(id, &answer.incarnation),
            Ok(answer) if !answer.retry => return Err(format!("{} ({url}): {}", founder.name, answer.error)),
            Ok(answer) => answer.error,
            Err(why) => why,
        };
        if attempt % TELL_EVERY == TELL_EVERY - 1 {
            tracing::warn!(member = %founder.name, %why, "waiting for a founder of the cluster: all have to be there once");
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}
