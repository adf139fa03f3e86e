//! The corruption watch: the leader compares the members' hashes and raises the CORRUPT alarm for whoever differs.
//!
//! After every compaction, and as often as `--corrupt-check-time` says; before it serves, a member compares itself where
//! the gate InitialCorruptCheck is on. Nothing is repaired here, and nothing stops but by the alarm.

mod verdict;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use keepstone_proto::etcdserverpb::alarm_request::AlarmAction;
use keepstone_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, InternalRaftRequest};
use keepstone_proto::keepstonepb::{HashAt, HashAtAnswer, peer_answer, peer_message};
use keepstone_state::{Error, MemberId};
use tokio::time::Instant;

use crate::api::context::Context;
use crate::cluster::{handover, repair};
use crate::hash::{self, Hashed};
use crate::host;
use crate::peer::wire;
use verdict::{Verdict, judge};

/// How often it is looked whether there is something to compare.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a comparison, this many times as long as it took there is none because of a compaction: at most a twentieth of
/// a core goes into it.
const REST: u32 = 20;
/// How often a comparison after a compaction is tried when not every member could be compared.
const TRIES: u32 = 3;
/// How long a member may take to hash what it has.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a member that is asked waits until it has applied the revision.
const CATCH_UP: Duration = Duration::from_secs(3);
const CATCH_UP_LOOK: Duration = Duration::from_millis(20);

/// How often members that are known to differ are repaired, where that is to be done.
const MEND_EVERY: Duration = Duration::from_secs(5);

/// What a member said of its hash.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub hashed: Hashed,
    /// The revision it was at.
    pub current: i64,
}

/// Starts the watch; it ends with the member.
pub(super) fn start(ctx: &Arc<Context>) {
    host::spawn(run(Arc::downgrade(ctx)));
}

/// The compaction that is to be looked at.
struct Due {
    floor: i64,
    tries: u32,
    not_before: Instant,
}

async fn run(member: Weak<Context>) {
    let Some(ctx) = member.upgrade() else { return };
    let period = ctx.config.corrupt_check_time;
    let mut due = Due { floor: ctx.core.compact_revision(), tries: TRIES, not_before: Instant::now() };
    drop(ctx);
    let mut ticked = Instant::now();
    let mut mended = Instant::now();
    loop {
        tokio::time::sleep(period.map_or(LOOK_EVERY, |period| period.min(LOOK_EVERY))).await;
        let Some(ctx) = member.upgrade() else { return };
        if period.is_some_and(|period| ticked.elapsed() >= period) {
            ticked = Instant::now();
            if ctx.leadership.leads() {
                periodic(&ctx).await;
            }
        }
        if ctx.leadership.leads() {
            after_compaction(&ctx, &mut due).await;
        }
        if ctx.config.corrupt_repair && ctx.leadership.leads() && mended.elapsed() >= MEND_EVERY {
            mended = Instant::now();
            mend(&ctx).await;
        }
    }
}

/// Repairs whoever is known to differ, one after the other.
async fn mend(ctx: &Context) {
    let me = ctx.core.identity.member_id;
    for id in repair::alarmed(ctx) {
        if id == me {
            handover::step_aside(ctx).await;
            return;
        }
        if let Err(why) = repair::repair(ctx, id).await {
            tracing::warn!("member-id" = format!("{:x}", id.0), why, "a member that differs could not be repaired");
        }
    }
}

/// Whether a member's data is this one's.
///
/// # Errors
/// It is not, or could not be compared.
pub async fn agrees(ctx: &Context, id: MemberId) -> Result<(), String> {
    let own = hash::of(&ctx.core, 0).await.map_err(|error| error.to_string())?;
    let answers = ask_others(ctx, own.revision).await;
    let theirs = answers.into_iter().find(|(asked, _)| *asked == id).and_then(|(_, answer)| answer);
    match theirs {
        Some(answer) if answer.hashed == own => Ok(()),
        Some(_) => Err("its data still differs".to_owned()),
        None => Err("its data could not be compared".to_owned()),
    }
}

async fn periodic(ctx: &Context) {
    match compare(ctx, 0).await {
        Ok(compared) => act(ctx, &compared).await,
        Err(error) => tracing::warn!(%error, "failed to check hash KV"),
    }
}

async fn after_compaction(ctx: &Context, due: &mut Due) {
    let floor = ctx.core.compact_revision();
    if floor > due.floor {
        (due.floor, due.tries) = (floor, 0);
    }
    if due.tries >= TRIES || Instant::now() < due.not_before {
        return;
    }
    let began = Instant::now();
    match compare(ctx, floor).await {
        Ok(compared) => {
            act(ctx, &compared).await;
            due.tries = if compared.complete() { TRIES } else { due.tries + 1 };
        }
        Err(Error::Compacted) => {}
        Err(error) => {
            tracing::warn!(%error, "failed to compare hashes after a compaction");
            due.tries += 1;
        }
    }
    // What was missing may be there by then.
    let retry = if due.tries < TRIES { ctx.config.compact_hash_check_time } else { Duration::ZERO };
    due.not_before = Instant::now() + retry.max(began.elapsed() * REST);
}

/// Hashes of one revision.
struct Compared {
    own: Hashed,
    members: usize,
    verdict: Verdict,
}

impl Compared {
    fn complete(&self) -> bool {
        self.verdict.compared == self.members
    }
}

/// Compares all members at a revision; 0 is the current one.
async fn compare(ctx: &Context, revision: i64) -> Result<Compared, Error> {
    let _permit = ctx.bulk.acquire().await.map_err(|_| Error::Stopped)?;
    let own = hash::of(&ctx.core, revision).await?;
    let me = ctx.core.identity.member_id;
    let answers = ask_others(ctx, own.revision).await;
    // What the others have applied, a leader that is one has applied too.
    ctx.reads.wait().await?;
    let bounds = (ctx.core.revision(), ctx.core.compact_revision());
    let members = answers.len() + 1;
    let verdict = judge(me, own, &answers, bounds);
    Ok(Compared { own, members, verdict })
}

/// Every other member's answer, where it gave one.
async fn ask_others(ctx: &Context, revision: i64) -> Vec<(MemberId, Option<Answer>)> {
    let me = ctx.core.identity.member_id;
    let others: Vec<MemberId> = {
        let state = ctx.core.state.read();
        state.members().iter().map(|member| MemberId(member.id)).filter(|id| *id != me).collect()
    };
    let asked = others.into_iter().map(|id| async move {
        let message = peer_message::Kind::HashAt(HashAt { revision });
        let call = ctx.transport.call(id, wire::message(message));
        let answer = match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(bytes)) => match wire::read_answer(bytes) {
                Ok(peer_answer::Kind::HashAt(answer)) if answer.error.is_empty() => Ok(answer),
                Ok(peer_answer::Kind::HashAt(answer)) => Err(answer.error),
                Ok(_) => Err("it answers something else".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        if let Err(why) = &answer {
            let (peer, revision) = (format!("{:x}", id.0), revision);
            tracing::warn!("remote-peer-id" = peer, "requested-revision" = revision, why, "failed hash kv request");
        }
        let answer = answer.ok().map(|answer| Answer {
            hashed: Hashed { hash: answer.hash, revision: answer.revision, compact_revision: answer.compact_revision },
            current: answer.current_revision,
        });
        (id, answer)
    });
    join_all(asked).await
}

/// The answer of a member that is asked.
pub async fn answer(ctx: &Context, asked: HashAt) -> HashAtAnswer {
    let refused = |error: Error| HashAtAnswer { error: error.to_string(), ..Default::default() };
    let Ok(_permit) = ctx.bulk.acquire().await else { return refused(Error::Stopped) };
    let until = Instant::now() + CATCH_UP;
    while ctx.core.revision() < asked.revision && Instant::now() < until {
        tokio::time::sleep(CATCH_UP_LOOK).await;
    }
    match hash::of(&ctx.core, asked.revision).await {
        Ok(Hashed { hash, revision, compact_revision }) => {
            let current_revision = ctx.core.revision();
            HashAtAnswer { hash, compact_revision, revision, current_revision, ..Default::default() }
        }
        Err(error) => refused(error),
    }
}

/// Raises the alarm for whoever differs.
async fn act(ctx: &Context, compared: &Compared) {
    let Compared { own, verdict, .. } = compared;
    if verdict.blamed.is_empty() {
        tracing::info!(
            revision = own.revision,
            "compact-revision" = own.compact_revision,
            "number-of-peers-checked" = verdict.compared - 1,
            "number-of-peers" = compared.members - 1,
            "finished peer corruption check"
        );
        return;
    }
    for id in &verdict.blamed {
        tracing::error!(
            "member-id" = format!("{:x}", id.0),
            revision = own.revision,
            "compact-revision" = own.compact_revision,
            hash = own.hash,
            "found hash mismatch: the member's data differs from that of a majority, or nobody has one"
        );
        raise(ctx, *id).await;
    }
    if verdict.blamed.contains(&ctx.core.identity.member_id) {
        handover::step_aside(ctx).await;
    }
}

async fn raise(ctx: &Context, id: MemberId) {
    let alarm = AlarmMember { member_id: id.0, alarm: AlarmType::Corrupt as i32 };
    if ctx.core.state.read().alarms().list(alarm.alarm).contains(&alarm) {
        return;
    }
    let (action, kind) = (AlarmAction::Activate as i32, alarm.alarm);
    let request = AlarmRequest { action, member_id: alarm.member_id, alarm: kind };
    let raised = ctx.proposer.propose(InternalRaftRequest { alarm: Some(request), ..Default::default() }).await;
    if let Err(error) = raised {
        tracing::warn!(%error, "failed to raise the CORRUPT alarm");
    }
}

/// Why a member does not serve: it differs from others.
#[derive(Debug, thiserror::Error)]
#[error("checkInitialHashKV failed: {:x} found data inconsistency with peers", .0.0)]
pub struct Inconsistent(MemberId);

/// Compares this member with all that answer, before it serves.
///
/// # Errors
/// It differs from a member, and no majority is like it.
pub async fn initial(ctx: &Context) -> Result<(), Inconsistent> {
    let me = ctx.core.identity.member_id;
    tracing::info!("local-member-id" = format!("{:x}", me.0), "starting initial corruption check");
    let Ok(own) = hash::of(&ctx.core, 0).await else { return Ok(()) };
    let answers = ask_others(ctx, own.revision).await;
    // A member that starts may be behind: what the others are at says nothing.
    let verdict = judge(me, own, &answers, (i64::MAX, i64::MAX));
    if verdict.blamed.contains(&me) || verdict.blamed.contains(&verdict::NOBODY) {
        return Err(Inconsistent(me));
    }
    tracing::info!("local-member-id" = format!("{:x}", me.0), "initial corruption checking passed; no corruption");
    Ok(())
}
