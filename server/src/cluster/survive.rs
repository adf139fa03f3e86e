//! Going on alone: a member whose cluster is lost for good becomes the only one of a cluster with what it has.
//!
//! It writes two entries into its own log before Raft starts: one that takes the others out of the member table, one
//! that makes it Raft's only voter. They are of a term of their own and come in one group, so that a crash leaves both or
//! none. Whatever the log had before stays, the entries included of which nobody knows whether they were committed: they
//! may have been acknowledged. Nothing here touches the state; it is the log that says what happened.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use keepstone_proto::etcdserverpb::InternalRaftRequest;
use keepstone_proto::keepstonepb::{Member, SoleSurvivor};
use keepstone_state::MemberId;
use keepstone_wal::{Entry, Wal};

use super::passport::{Passport, Survival};
use super::permit::{self, Action};
use crate::config::{Config, ListenUrl, Survive};
use crate::core::Identity;
use crate::data::Log;
use crate::raft::codec;
use crate::raft::types::{Membership, Payload, Proposal, Request, Vote};

/// By how much revisions rise under a new cluster ID: more than the lost members can have been ahead.
const BUMP_REVISION: i64 = 1_000_000_000;
/// How many earlier IDs a passport remembers, as many as the state.
pub const MAX_FORMER: usize = 16;

/// Why a member does not go on alone.
#[derive(Debug, thiserror::Error)]
pub enum SurviveError {
    #[error(
        "--force-new-cluster goes on with the data of a member, and there is none in this directory: give the directory of the survivor"
    )]
    NoData,
    #[error("writing into the log what going on alone takes: {0}")]
    Log(#[from] io::Error),
}

/// Carries out `--force-new-cluster` and `--force-new-cluster-id`, once: as long as the member is started with the flag,
/// no start after the first changes anything. A permit for it is used once, too. A start that a crash cut short is gone on with, flag or not.
///
/// # Errors
/// [`SurviveError`]; nothing has changed then.
pub fn carry_out(config: &Config, log: &mut Log) -> Result<(), SurviveError> {
    let wal = log.wal.clone();
    let passport = &mut log.passport;
    let permit = permit::held(config, &passport.incarnation, Action::ForceNewClusterId).unwrap_or_else(|why| {
        // A member with data needs none: what is wrong with it keeps nobody from starting.
        tracing::warn!(%why, "no permit can be read");
        None
    });
    if let Some(permit) = permit.filter(|permit| passport.settled && permit.nonce() != passport.permit) {
        passport.permit = permit.nonce();
        begin(passport, &wal, Survive::NewCluster)?;
    }
    match (passport.survival, config.survive) {
        (Survival::None, None) => return Ok(()),
        (Survival::Done, None) => {
            passport.survival = Survival::None;
            return Ok(passport.save(&wal)?);
        }
        (Survival::Done, Some(_)) => {
            tracing::warn!("this member goes on alone already: take --force-new-cluster away, members may be added");
            return Ok(());
        }
        (Survival::None, Some(how)) => begin(passport, &wal, how)?,
        (Survival::Pending, _) => {}
    }
    let identity = passport.identity.ok_or(SurviveError::NoData)?;
    write(config, identity, &passport.permit, &wal)?;
    // With a permit, its nonce says that it was used.
    passport.survival = if config.survive.is_some() { Survival::Done } else { Survival::None };
    passport.save(&wal)?;
    tracing::warn!(
        "local-member-id" = format!("{:x}", identity.member_id.0),
        "cluster-id" = format!("{:x}", identity.cluster_id),
        "forced new cluster: this member goes on alone, all others count as removed"
    );
    Ok(())
}

/// Notes on disk what is about to happen, and the ID that the cluster will have.
fn begin(passport: &mut Passport, wal: &Arc<Wal>, how: Survive) -> Result<(), SurviveError> {
    let has_data = passport.settled && wal.last().is_some();
    let Some(identity) = passport.identity.as_mut().filter(|_| has_data) else {
        return Err(SurviveError::NoData);
    };
    if how == Survive::NewCluster {
        passport.former_clusters.push(identity.cluster_id);
        let forgotten = passport.former_clusters.len().saturating_sub(MAX_FORMER);
        passport.former_clusters.drain(..forgotten);
        identity.cluster_id = random_id()?;
    }
    passport.survival = Survival::Pending;
    Ok(passport.save(wal)?)
}

fn random_id() -> io::Result<u64> {
    let mut bytes = [0; 8];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

fn write(config: &Config, identity: Identity, permit: &Bytes, wal: &Wal) -> io::Result<()> {
    let me = identity.member_id.0;
    let voted = wal.recovered().vote.as_deref().map(codec::decode_vote).transpose()?;
    let last = wal.last();
    let term = voted.map_or(0, |vote| vote.leader_id.term).max(last.map_or(0, |last| last.term)) + 1;
    // In this term nobody else is voted for: no entry of another leader has its IDs.
    let vote = codec::encode_vote(&Vote::new(term, me));
    wait(|done| wal.save_vote(vote, done))?;
    let next = last.map_or(0, |last| last.index) + 1;
    let membership = Membership::new_with_defaults(vec![BTreeSet::from([me])], []);
    let payloads = [Payload::Normal(alone(config, identity, permit)), Payload::Membership(membership)];
    let entries = payloads.iter().zip(next..);
    let entries: Vec<Entry> =
        entries.map(|(payload, index)| Entry { index, term, data: codec::encode_payload(payload) }).collect();
    wait(|done| wal.append(entries, done))
}

fn alone(config: &Config, identity: Identity, permit: &Bytes) -> Proposal {
    let peer_urls = config.initial_advertise_peer_urls.iter().map(ListenUrl::to_string).collect();
    let MemberId(id) = identity.member_id;
    let member = Some(Member { id, name: config.name.clone(), peer_urls, ..Default::default() });
    let survivor = SoleSurvivor {
        member,
        cluster_id: identity.cluster_id,
        bump_revision: BUMP_REVISION,
        permit_nonce: permit.clone(),
    };
    let request = InternalRaftRequest { sole_survivor: Some(survivor), ..Default::default() };
    Proposal { requests: Arc::new([Request::new(request)]) }
}

/// Calls the log and waits until that is on disk.
pub fn wait(call: impl FnOnce(keepstone_wal::Done) -> Result<(), keepstone_wal::WalError>) -> io::Result<()> {
    let (told, done) = mpsc::channel();
    call(Box::new(move |result| drop(told.send(result)))).map_err(io::Error::other)?;
    done.recv().unwrap_or_else(|_| Err(io::Error::other("the log closed")))
}
