//! Members come and go: added as learners or voters, promoted, removed, while everything else goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use keepstone::cluster::changes;
use keepstone::cluster::passport::Incarnation;
use keepstone::peer::service::Reception as _;
use keepstone_proto::keepstonepb::cluster_call::Kind;
use keepstone_proto::keepstonepb::introduction::Kind as Greeting;
use keepstone_proto::keepstonepb::{Claim, Introduction, MemberAdd, MemberPromote, MemberRemove};
use keepstone_state::Error;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::load::Load;
use crate::note;

/// Members there may be at once.
const MOST: usize = 7;
/// Pause before the next member is asked to let one in.
const AGAIN: Duration = Duration::from_millis(200);

/// Where a member is reached.
pub fn url(id: u64) -> String {
    format!("http://m{id}:2380")
}

/// A member's data directory.
pub fn incarnation(id: u64) -> Incarnation {
    [id as u8; 16]
}

/// Changes the membership until the load stops.
pub async fn run(cluster: Arc<Cluster>, load: Arc<Load>, mut dice: Dice) {
    let Some(calm) = cluster.plan.churn else { return };
    let mut next = cluster.plan.members + 1;
    while !load.stop.load(Ordering::Relaxed) {
        tokio::time::sleep(dice.millis(0..2 * calm)).await;
        let ids = cluster.ids();
        let (asked, other) = (*dice.pick(&ids), *dice.pick(&ids));
        match dice.within(0..100) {
            0..50 if ids.len() < MOST => {
                add(&cluster, asked, next, dice.chance(40)).await;
                next += 1;
            }
            50..70 => drop(change(&cluster, asked, Kind::Promote(MemberPromote { id: other })).await),
            _ if ids.len() > 1 => remove(&cluster, asked, other, &mut dice).await,
            _ => {}
        }
    }
}

async fn change(cluster: &Arc<Cluster>, asked: u64, call: Kind) -> Option<Result<Vec<u64>, Error>> {
    let name = format!("{call:?}");
    let change = move |ctx: Arc<_>| async move { changes::change(&ctx, call).await };
    let answer = cluster.ask(asked, change).await;
    let answer = answer.map(|done| done.map(|members| members.iter().map(|member| member.id).collect()));
    note!("m{asked} {name} -> {answer:?}");
    answer
}

async fn add(cluster: &Arc<Cluster>, asked: u64, id: u64, is_learner: bool) {
    let add = MemberAdd { id, peer_urls: vec![url(id)], is_learner, ..Default::default() };
    // It is started even if it may not have been added: it finds out.
    match change(cluster, asked, Kind::Add(add)).await {
        Some(Ok(_)) | None => {}
        Some(Err(Error::Timeout | Error::TimeoutDueToConnectionLost | Error::TimeoutDueToLeaderFail)) => {}
        Some(Err(_)) => return,
    }
    cluster.enlist(id);
    cluster.start(id);
}

async fn remove(cluster: &Arc<Cluster>, asked: u64, id: u64, dice: &mut Dice) {
    let Some(Ok(_)) = change(cluster, asked, Kind::Remove(MemberRemove { id })).await else { return };
    let stays = dice.millis(0..3000);
    let cluster = cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(stays).await;
        cluster.dismiss(id);
    });
}

/// Asks member after member to let this one in; returns once one has.
pub async fn join(cluster: &Arc<Cluster>, id: u64, mut dice: Dice) {
    loop {
        let ids = cluster.ids();
        let asked = *dice.pick(&ids);
        let claim = Claim {
            peer_urls: vec![url(id)],
            incarnation: Bytes::copy_from_slice(&incarnation(id)),
            ..Default::default()
        };
        if let Some(member) = cluster.running(asked)
            && asked != id
        {
            let desk = member.desk.clone();
            drop(member);
            let ask = move |_| desk.introduce(Introduction { kind: Some(Greeting::Claim(claim)) });
            match cluster.ask(asked, ask).await {
                Some(answer) if answer.error.is_empty() => {
                    note!("m{id} is let in by m{asked} as m{}", answer.member_id);
                    return;
                }
                Some(answer) => note!("m{id} is not let in by m{asked}: {}", answer.error),
                None => {}
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Ends who is in no member's table any more. Everything is well meanwhile; waits until somebody says who is a member.
pub async fn settle(cluster: &Arc<Cluster>) {
    if cluster.plan.churn.is_none() {
        return;
    }
    loop {
        if let Some(leader) = cluster.leader() {
            let list = move |ctx: Arc<keepstone::api::context::Context>| async move {
                ctx.reads.wait().await.ok()?;
                let state = ctx.core.state.read();
                Some(state.members().iter().map(|member| member.id).collect::<Vec<_>>())
            };
            if let Some(Some(members)) = cluster.ask(leader, list).await {
                cluster.ids().into_iter().filter(|id| !members.contains(id)).for_each(|id| cluster.dismiss(id));
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
