//! Why nothing goes on: a stall is a broken promise of its own, and is reported with who stands where.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver as _;

use crate::cluster::Cluster;
use crate::member::Member;
use crate::trace;

/// What every member is doing, for whoever waits in vain.
pub fn report(cluster: &Arc<Cluster>) -> String {
    let lines: Vec<_> = cluster.ids().into_iter().map(|id| one(cluster, id)).collect();
    format!("at {:?}: {}", trace::now(), lines.join("; "))
}

/// Two members that have applied the same entries, and have not come to the same.
pub fn difference(cluster: &Arc<Cluster>) -> Option<String> {
    let at = |id: u64| {
        let core = cluster.running(id)?.ctx.core.clone();
        let state = core.state.read();
        Some((core.applied_index(), state.revision(), id))
    };
    let mut all: Vec<_> = cluster.ids().into_iter().filter_map(at).collect();
    all.sort_unstable();
    let pair = all.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)?;
    let [(index, less, a), (_, more, b)] = [pair[0], pair[1]];
    Some(format!("STATES DIFFER after entry {index}: m{a} is at revision {less}, m{b} at {more}"))
}

fn one(cluster: &Arc<Cluster>, id: u64) -> String {
    let Some(since) = cluster.up_since(id) else { return format!("m{id} is off") };
    let Some(member) = cluster.running(id) else { return format!("m{id} has been STARTING since {since:?}") };
    let paused = if member.machine.is_paused() { ", paused" } else { "" };
    let failed = member.failure().map_or_else(String::new, |why| format!(", failed: {why}"));
    format!("m{id} up since {since:?}{paused}{failed}, {}", raft(&member))
}

fn raft(member: &Member) -> String {
    let metrics = member.raft.metrics();
    let now = metrics.borrow_watched();
    let index = |id: Option<u64>| id.map_or_else(|| "none".to_owned(), |index| index.to_string());
    let matched = now.replication.iter().flatten();
    let matched: Vec<_> =
        matched.map(|(to, log)| format!("m{to} to {}", index(log.as_ref().map(|id| id.index())))).collect();
    let followers = if matched.is_empty() { String::new() } else { format!(", knows of {}", matched.join(", ")) };
    format!(
        "{:?} in term {} under {:?}, revision {}, log to {}, committed {}, applied {}{followers}",
        now.state,
        now.current_term,
        now.current_leader,
        member.ctx.core.revision(),
        index(now.last_log_index),
        index(now.local_committed.as_ref().map(|id| id.index())),
        index(now.last_applied.as_ref().map(|id| id.index())),
    )
}
