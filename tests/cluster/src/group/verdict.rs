//! The verdict on a round: what every client was told, against keepstone-check's promises, and what can only be seen
//! where one knows which process was asked.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use keepstone_check::{Call, History, Op, Outcome, Summary, WatchLog, check_calls, check_watch};

use super::clients::Asked;
use super::members::Group;
use crate::member::PATIENCE;

/// # Errors
/// The first promise that was broken.
pub fn judge(asked: Vec<Asked>, watches: &[WatchLog]) -> Result<Summary> {
    never_back(&asked)?;
    let calls: Vec<Call> = asked.into_iter().map(|one| one.call).collect();
    let history = History::of(watches)?;
    let (summary, model) = check_calls(&history, &calls, 0)?;
    let compactions: Vec<i64> = calls.iter().filter_map(compaction).collect();
    for watch in watches {
        check_watch(watch, &history, &model, &compactions)?;
    }
    Ok(summary)
}

fn compaction(call: &Call) -> Option<i64> {
    match call.op {
        Op::Compact(at) if !matches!(call.outcome, Outcome::Refused(_)) => Some(at),
        _ => None,
    }
}

/// A process never answers with an older revision than it has before: serializable reads included.
fn never_back(asked: &[Asked]) -> Result<()> {
    let mut by_process: BTreeMap<(usize, u64), Vec<&Call>> = BTreeMap::new();
    for one in asked.iter().filter(|one| one.call.revision().is_some()) {
        by_process.entry((one.door, one.process)).or_default().push(&one.call);
    }
    for ((door, _), calls) in by_process {
        let mut by_begin = calls.clone();
        by_begin.sort_by_key(|call| call.begun);
        let mut by_end = calls;
        by_end.sort_by_key(|call| call.ended);
        let mut ended = by_end.into_iter().peekable();
        let mut newest: Option<&Call> = None;
        for call in by_begin.into_iter().filter(|call| !matches!(call.op, Op::KeepAlive(_) | Op::Compact(_))) {
            while let Some(one) = ended.next_if(|earlier| earlier.ended < call.begun) {
                if newest.is_none_or(|known| one.revision() > known.revision()) {
                    newest = Some(one);
                }
            }
            if let Some(before) = newest
                && before.revision() > call.revision()
            {
                bail!(
                    "m{door} went BACK: {} was answered at {:?}, after {} was at {:?}",
                    call.brief(),
                    call.revision(),
                    before.brief(),
                    before.revision()
                );
            }
        }
    }
    Ok(())
}

/// All members have the same, up to `revision`, with the same history left.
///
/// # Errors
/// The members that differ.
pub async fn same_everywhere(group: &Group, revision: i64) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut hashes = Vec::new();
        for n in 0..group.len() {
            let mut client = group.connect(n).await?;
            let answer = client.hash_kv(revision).await.with_context(|| format!("HashKV of m{n}"))?;
            hashes.push((answer.compact_revision, answer.hash));
        }
        // A compaction that one has not come to yet.
        if hashes.iter().all(|(compacted, _)| *compacted == hashes[0].0) {
            ensure!(hashes.iter().all(|one| *one == hashes[0]), "HashKV at {revision} differs: {hashes:?}");
            return Ok(());
        }
        ensure!(Instant::now() < until, "members stay compacted differently: {hashes:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use keepstone_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

    use keepstone_check::Time;

    use super::*;

    fn read(door: usize, process: u64, begun: u64, ended: u64, revision: i64) -> Asked {
        let header = Some(ResponseHeader { revision, ..Default::default() });
        let outcome = Outcome::Range(RangeResponse { header, ..Default::default() });
        let op = Op::Range(RangeRequest { serializable: true, ..Default::default() });
        let (begun, ended) = (Time::from_millis(begun), Time::from_millis(ended));
        Asked { call: Call { client: 1, begun, ended, op, outcome }, door, process }
    }

    #[test]
    fn a_process_that_goes_back_is_found() {
        let at_once = [read(0, 1, 0, 10, 7), read(0, 1, 5, 15, 6)];
        assert!(never_back(&at_once).is_ok());
        let later = [read(0, 1, 0, 10, 7), read(0, 1, 11, 15, 6)];
        assert!(never_back(&later).is_err());
        let others = [read(0, 1, 0, 10, 7), read(0, 2, 11, 15, 6), read(1, 1, 11, 15, 5)];
        assert!(never_back(&others).is_ok());
    }
}
