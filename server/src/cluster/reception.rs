//! Introductions: founders that meet before there is a cluster, and members that come to claim the ID they were given.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use keepstone_proto::etcdserverpb::InternalRaftRequest;
use keepstone_proto::keepstonepb::introduction::Kind;
use keepstone_proto::keepstonepb::{Claim, Hello, Introduction, IntroductionAnswer, Member, MemberBind};
use keepstone_state::{Error, MemberId};
use keepstone_wal::Wal;
use parking_lot::Mutex;

use super::gate::another_directory;
use super::passport::{Incarnation, MAX_FOUNDERS, Passport};
use crate::api::context::Context;
use crate::peer::service::Reception;

/// Answers introductions. Lives from before the member has found its cluster until it stops.
pub struct FrontDesk {
    wal: Arc<Wal>,
    passport: Mutex<Passport>,
    /// Whom this member founds a cluster with; empty for one that joins.
    founders: Vec<MemberId>,
    running: OnceLock<Arc<Context>>,
}

fn refusal(error: String) -> IntroductionAnswer {
    IntroductionAnswer { error, ..Default::default() }
}

/// `cluster_id` is that of the cluster there is: who asks then knows that none is to be founded.
fn later(cluster_id: u64, error: String) -> IntroductionAnswer {
    IntroductionAnswer { error, retry: true, cluster_id, ..Default::default() }
}

impl FrontDesk {
    pub fn new(wal: Arc<Wal>, passport: Passport, founders: Vec<MemberId>) -> Arc<Self> {
        let (passport, running) = (Mutex::new(passport), OnceLock::new());
        Arc::new(Self { wal, passport, founders, running })
    }

    /// The member runs: claims can be answered.
    pub fn open(&self, ctx: Arc<Context>) {
        drop(self.running.set(ctx));
    }

    /// The state of the member, once it runs.
    pub fn member(&self) -> Option<&Arc<Context>> {
        self.running.get()
    }

    pub fn passport(&self) -> Passport {
        self.passport.lock().clone()
    }

    /// Changes the passport, on disk first.
    ///
    /// # Errors
    /// The log's.
    pub fn update(&self, change: impl FnOnce(&mut Passport)) -> std::io::Result<()> {
        let mut passport = self.passport.lock();
        let mut changed = passport.clone();
        change(&mut changed);
        if changed != *passport {
            changed.save(&self.wal)?;
            *passport = changed;
        }
        Ok(())
    }

    /// Notes a founder's data directory, for good. The first one counts.
    ///
    /// # Errors
    /// It came with another one before, or it can't be noted.
    pub fn pin(&self, founder: MemberId, incarnation: &[u8]) -> Result<(), String> {
        let incarnation = Incarnation::try_from(incarnation).map_err(|_| "an incarnation has 16 bytes".to_owned())?;
        match self.passport.lock().founders.get(&founder) {
            Some(known) if *known == incarnation => return Ok(()),
            Some(_) => return Err(another_directory(founder)),
            None => {}
        }
        debug_assert!(self.founders.len() <= MAX_FOUNDERS, "checked where founders are counted");
        self.update(|passport| {
            passport.founders.entry(founder).or_insert(incarnation);
        })
        .map_err(|error| format!("noting the incarnation of member {:x}: {error}", founder.0))
    }

    /// Whether a founder came with this data directory, or has not introduced itself here.
    pub fn knows(&self, founder: MemberId, incarnation: &[u8]) -> bool {
        self.passport.lock().founders.get(&founder).is_none_or(|known| *known == *incarnation)
    }

    fn hello(&self, hello: &Hello) -> IntroductionAnswer {
        let passport = self.passport();
        let Some(me) = passport.identity else {
            return refusal("this member joins a cluster and founds none".to_owned());
        };
        if hello.cluster_id != me.cluster_id {
            return refusal(format!(
                "cluster ID mismatch: {:x} there, {:x} here; --initial-cluster and --initial-cluster-token have to be the same on all founders",
                hello.cluster_id, me.cluster_id
            ));
        }
        let from = MemberId(hello.from);
        let mut is_founder = self.founders.contains(&from) || passport.founders.contains_key(&from);
        if let Some(ctx) = self.running.get() {
            let state = ctx.core.state.read();
            match state.members().incarnation(from) {
                Some(bound) if *bound != *hello.incarnation => return refusal(another_directory(from)),
                bound => is_founder |= bound.is_some(),
            }
        }
        if hello.to != me.member_id.0 || !is_founder {
            return refusal(format!("member {:x} is no founder of cluster {:x}", hello.from, me.cluster_id));
        }
        match self.pin(from, &hello.incarnation) {
            Ok(()) => IntroductionAnswer {
                incarnation: passport.incarnation.to_vec().into(),
                cluster_id: me.cluster_id,
                member_id: me.member_id.0,
                ..Default::default()
            },
            Err(why) => refusal(why),
        }
    }

    fn starting(&self) -> IntroductionAnswer {
        let passport = self.passport.lock();
        let has_cluster = passport.settled || !passport.permit.is_empty();
        let cluster_id = passport.identity.filter(|_| has_cluster).map_or(0, |identity| identity.cluster_id);
        later(cluster_id, "this member is starting".to_owned())
    }

    async fn claim(ctx: Arc<Context>, claim: Claim) -> IntroductionAnswer {
        let cluster_id = ctx.core.identity.cluster_id;
        if let Err(error) = ctx.reads.wait().await {
            return later(cluster_id, error.to_string());
        }
        let (found, members, former_cluster_ids) = {
            let state = ctx.core.state.read();
            let table = state.members();
            let mut members: Vec<Member> = table.iter().cloned().collect();
            members.sort_by_key(|member| member.id);
            let same = |member: &&Member| member.peer_urls.iter().any(|url| claim.peer_urls.contains(url));
            let found = members.iter().find(same).map(|member| MemberId(member.id));
            (found, members, table.former_ids().to_vec())
        };
        if let Some(why) = differs(&claim, &members) {
            return refusal(why);
        }
        let Some(id) = found else {
            let urls = claim.peer_urls.join(",");
            let why = format!("no member of cluster {cluster_id:x} has a peer URL of {urls}: add the member first");
            return later(cluster_id, why);
        };
        let bind = MemberBind { member_id: id.0, incarnation: claim.incarnation, permit_nonce: Default::default() };
        match ctx.proposer.propose(InternalRaftRequest { member_bind: Some(bind), ..Default::default() }).await {
            Ok(_) => IntroductionAnswer {
                cluster_id: ctx.core.identity.cluster_id,
                member_id: id.0,
                members,
                former_cluster_ids,
                ..Default::default()
            },
            Err(Error::IncarnationMismatch) => refusal(another_directory(id)),
            Err(error) => later(cluster_id, error.to_string()),
        }
    }
}

/// Whether the members are those the claimant was told of; etcd's words.
fn differs(claim: &Claim, members: &[Member]) -> Option<String> {
    if claim.expected_peer_urls.is_empty() {
        return None;
    }
    let mut expected = claim.expected_peer_urls.clone();
    let mut known: Vec<String> = members.iter().flat_map(|member| member.peer_urls.iter().cloned()).collect();
    expected.sort();
    known.sort();
    if expected == known {
        return None;
    }
    let missing: Vec<&String> = known.iter().filter(|url| !expected.contains(url)).collect();
    let unknown: Vec<&String> = expected.iter().filter(|url| !known.contains(url)).collect();
    Some(format!(
        "error validating peerURLs: member count is unequal or URLs differ: --initial-cluster lacks {missing:?} and has {unknown:?} that the cluster does not know"
    ))
}

impl Reception for FrontDesk {
    fn introduce(&self, introduction: Introduction) -> BoxFuture<'static, IntroductionAnswer> {
        match introduction.kind {
            Some(Kind::Hello(hello)) => std::future::ready(self.hello(&hello)).boxed(),
            Some(Kind::Claim(claim)) => match self.running.get() {
                Some(ctx) => Self::claim(ctx.clone(), claim).boxed(),
                None => std::future::ready(self.starting()).boxed(),
            },
            None => std::future::ready(refusal("this version does not know the introduction".to_owned())).boxed(),
        }
    }
}
