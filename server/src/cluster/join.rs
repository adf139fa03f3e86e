//! Joining a cluster: a member that was added and has never run finds its ID by its peer URLs, and binds it to its data
//! directory through the log.

use std::time::Duration;

use bytes::Bytes;
use keepstone_proto::keepstonepb::introduction::Kind;
use keepstone_proto::keepstonepb::{Claim, Introduction, Member};
use keepstone_state::MemberId;

use super::reception::FrontDesk;
use super::survive::MAX_FORMER;
use crate::config::{Config, ConfigError, ListenUrl};
use crate::core::Identity;
use crate::peer::grpc::Connector;

/// Pause before the next member is asked.
const RETRY: Duration = Duration::from_millis(200);
/// Every so many tries it is said what is waited for.
const TELL_EVERY: usize = 25;

/// Whom a member asks to let it in.
#[derive(Clone, Debug)]
pub struct Way {
    /// Peer URLs of members.
    pub ask: Vec<String>,
    pub claim: Claim,
}

impl Way {
    /// As `--join`, or `--initial-cluster` with the state `existing`, says.
    ///
    /// # Errors
    /// etcd's words for settings that do not agree.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let text = |urls: &[ListenUrl]| urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>();
        let mine = text(&config.initial_advertise_peer_urls);
        let mut claim = Claim { peer_urls: mine, ..Default::default() };
        if !config.join.is_empty() {
            return Ok(Self { ask: text(&config.join), claim });
        }
        let cluster = config.joining_cluster()?;
        claim.expected_peer_urls = cluster.iter().flat_map(|(_, urls)| text(urls)).collect();
        let others = cluster.iter().filter(|(name, _)| *name != config.name);
        Ok(Self { ask: others.flat_map(|(_, urls)| text(urls)).collect(), claim })
    }
}

/// What somebody who was asked said.
#[derive(Debug)]
pub enum Answered {
    /// This member is let in, and its identity on disk. The members it was told of.
    Joined(Identity, Vec<Member>),
    /// Not now.
    Later {
        why: String,
        /// Who was asked has a cluster.
        cluster_id: Option<u64>,
    },
}

impl Way {
    /// Asks one of the URLs.
    ///
    /// # Errors
    /// The cluster refuses this member, or its answer can't be written down.
    pub async fn ask_at(&self, url: &str, desk: &FrontDesk, connector: &Connector) -> Result<Answered, String> {
        let incarnation = desk.passport().incarnation.to_vec().into();
        let claim = Claim { incarnation, ..self.claim.clone() };
        let answer = match connector.introduce(url, Introduction { kind: Some(Kind::Claim(claim)) }).await {
            Ok(answer) => answer,
            Err(why) => return Ok(Answered::Later { why, cluster_id: None }),
        };
        if !answer.error.is_empty() {
            if !answer.retry {
                return Err(format!("{url}: {}", answer.error));
            }
            let cluster_id = Some(answer.cluster_id).filter(|id| *id != 0);
            return Ok(Answered::Later { why: answer.error, cluster_id });
        }
        let identity = Identity { cluster_id: answer.cluster_id, member_id: MemberId(answer.member_id) };
        let former = answer.former_cluster_ids.into_iter().take(MAX_FORMER).collect();
        desk.update(|passport| {
            (passport.identity, passport.settled) = (Some(identity), true);
            passport.former_clusters = former;
            passport.permit = Bytes::new();
        })
        .map_err(|error| format!("writing down the identity: {error}"))?;
        Ok(Answered::Joined(identity, answer.members))
    }
}

/// Asks until a member lets this one in. Returns its identity and the members it was told of; the identity is on disk.
///
/// # Errors
/// The cluster refuses this member, or its answer can't be written down.
pub async fn claim(way: &Way, desk: &FrontDesk, connector: &Connector) -> Result<(Identity, Vec<Member>), String> {
    if way.ask.is_empty() {
        return Err("--initial-cluster names no other member to ask: an existing cluster has one at least".to_owned());
    }
    for attempt in 0_usize.. {
        let url = &way.ask[attempt % way.ask.len()];
        match way.ask_at(url, desk, connector).await? {
            Answered::Joined(identity, members) => return Ok((identity, members)),
            Answered::Later { why, .. } if attempt % TELL_EVERY == TELL_EVERY - 1 => {
                tracing::warn!(%url, %why, "waiting to be let into the cluster");
            }
            Answered::Later { .. } => {}
        }
        tokio::time::sleep(RETRY).await;
    }
    Err("nobody was asked".to_owned())
}
