//! A member that lags behind the log is brought up by a snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keepstone::api::range::Reading;
use keepstone::raft::types::LogId;
use keepstone_proto::etcdserverpb::RangeRequest;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::member::{Cluster, Member, until};

/// Writes enough that the log behind is gone, with a bit of everything.
pub async fn history(leader: &Member, value: usize, keys: usize) {
    leader.grant(7, 1000).await;
    leader.put_leased("leased", 7).await;
    for round in 0..3 {
        for key in 0..keys {
            leader.put(&format!("key-{key:04}"), vec![round as u8; value]).await;
        }
    }
    leader.delete("key-0001").await;
    leader.compact(leader.core.revision() - 10).await;
    leader.delete("key-0002").await;
    leader.put("last", "one").await;
}

/// Leaves the last member behind a purged log.
pub async fn left_behind(cluster: &Cluster, value: usize, keys: usize) {
    cluster.net.cut_off(3);
    history(cluster.leader(), value, keys).await;
    cluster.leader().purge().await;
    let purged = cluster.leader().wal.purged().expect("purged").index;
    assert!(purged > cluster.last().core.applied_index(), "the log still has what the member needs");
}

fn snapshot_of(member: &Member) -> Option<LogId> {
    member.raft.metrics().borrow_watched().snapshot
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lags_is_brought_up_while_writes_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start(dir.path()).await;
    left_behind(&cluster, 2000, 40).await;
    cluster.net.heal(3);
    let before = cluster.last().core.epoch();
    let mut wrote = 0;
    while cluster.last().core.epoch() == before {
        cluster.leader().put(&format!("during-{wrote}"), "x").await;
        wrote += 1;
        assert!(wrote < 100_000, "no snapshot was installed");
    }
    cluster.settled().await;
    assert_eq!(cluster.last().visible(), cluster.leader().visible());
    assert_eq!(cluster.last().core.revision(), cluster.leader().core.revision());
    assert!(snapshot_of(cluster.last()).is_some());
    until("the sender keeps nothing", || !cluster.leader().core.outgoing.is_sending()).await;

    // It goes on as a member like any other, and comes back as one.
    cluster.leader().put("after", "x").await;
    cluster.settled().await;
    let last = cluster.members.pop().expect("three members");
    let seen = last.visible();
    last.stop().await;
    cluster.leader().put("while it is away", "x").await;
    let last = Member::start(dir.path(), 3, &cluster.net).await;
    last.reaches(cluster.leader().core.applied_index()).await;
    assert_eq!(last.visible(), cluster.leader().visible());
    assert_ne!(last.visible(), seen);
    assert_eq!(last.core.epoch(), 0, "the log was enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    // About 6 MiB that count.
    left_behind(&cluster, 150_000, 40).await;
    let road = cluster.net.road(3);
    *road.breaks_after.lock() = Some(3);
    cluster.net.heal(3);
    // Writes and checkpoints meanwhile change nothing: it is the same moment that is sent on.
    cluster.leader().put("more", "x").await;
    cluster.leader().checkpointer.flush();
    until("the transfer broke", || road.breaks_after.lock().is_none()).await;
    cluster.settled().await;
    assert_eq!(cluster.last().visible(), cluster.leader().visible());
    let headers = road.headers.lock().clone();
    assert_eq!(headers.len(), 2);
    assert_ne!(headers[0], headers[1], "it began anew");
    // Each piece was sent once, but for the one that broke.
    assert!(road.pieces.load(Ordering::Relaxed) < 14, "{} pieces", road.pieces.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_piece_is_sent_again_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    left_behind(&cluster, 150_000, 40).await;
    cluster.net.road(3).damages.store(true, Ordering::Relaxed);
    cluster.net.heal(3);
    cluster.settled().await;
    assert_eq!(cluster.last().visible(), cluster.leader().visible());
    assert_eq!(cluster.net.road(3).headers.lock().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_after_a_snapshot_is_kept_until_it_is_installed() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    left_behind(&cluster, 150_000, 40).await;
    let road = cluster.net.road(3);
    let gate = road.gate.lock().await;
    cluster.net.heal(3);
    until("a transfer begins", || !road.headers.lock().is_empty()).await;
    let leader = cluster.leader();
    let covered = leader.core.applied_index();
    for n in 0..60 {
        leader.put(&format!("during-{n}"), "x").await;
    }
    leader.checkpointer.flush();
    // A purge that could go further has been made once Raft's snapshot is there.
    until("a checkpoint", || snapshot_of(leader).is_some_and(|id| id.index() > covered + 50)).await;
    assert!(leader.wal.purged().is_some_and(|purged| purged.index <= covered));
    drop(gate);
    cluster.settled().await;
    assert_eq!(road.headers.lock().len(), 1, "one snapshot was enough");
    assert_eq!(cluster.last().visible(), leader.visible());
    // From now on nothing is held.
    for n in 0..40 {
        leader.put(&format!("more-{n}"), "x").await;
    }
    leader.purge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_held_for_a_member_that_is_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    left_behind(&cluster, 100, 40).await;
    let road = cluster.net.road(3);
    until("it is tried again and again", || road.questions.load(Ordering::Relaxed) > 5).await;
    let leader = cluster.leader();
    assert!(!leader.core.outgoing.is_sending());
    assert_eq!(leader.core.pins.lowest(), None, "compaction is free to go on");
    for n in 0..60 {
        leader.put(&format!("more-{n}"), "x").await;
    }
    leader.purge().await;
    cluster.net.heal(3);
    cluster.settled().await;
    assert_eq!(cluster.last().visible(), leader.visible());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_survives_a_restart_of_the_receiver() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::start(dir.path()).await;
    // More than is kept in memory before it is written.
    left_behind(&cluster, 300_000, 80).await;
    let road = cluster.net.road(3);
    *road.breaks_after.lock() = Some(12);
    cluster.net.heal(3);
    until("the transfer broke", || {
        let broke = road.breaks_after.lock().is_none();
        if broke {
            cluster.net.cut_off(3);
        }
        broke
    })
    .await;
    let last = cluster.members.pop().expect("three members");
    last.stop().await;
    let last = Member::start(dir.path(), 3, &cluster.net).await;
    cluster.members.push(last);
    let before = road.pieces.swap(0, Ordering::Relaxed);
    cluster.net.heal(3);
    cluster.settled().await;
    let after = road.pieces.load(Ordering::Relaxed);
    assert_eq!(cluster.last().visible(), cluster.leader().visible());
    assert!(before + after < 40, "{before} pieces before the restart, {after} after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_on_while_the_state_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    left_behind(&cluster, 20_000, 60).await;
    let core = cluster.last().core.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let over = stop.clone();
    // What a serializable reader of that member sees never goes back, and can always be read.
    let reader = tokio::task::spawn_blocking(move || {
        let (mut seen, mut reads) = (0, 0);
        // Before the snapshot there may be nothing to read.
        while !over.load(Ordering::Relaxed) || reads == 0 {
            let state = core.state.read();
            assert!(state.revision() >= seen);
            seen = state.revision();
            let found = state.scan(keepstone_state::Keys::ALL, seen, None, 1000).found;
            for at in found {
                keepstone_state::Records::get(&*core.records, at).expect("a live value can be read");
                reads += 1;
            }
            drop(state);
            std::thread::yield_now();
        }
        reads
    });
    cluster.net.heal(3);
    cluster.settled().await;
    stop.store(true, Ordering::Relaxed);
    assert!(reader.await.expect("no panic") > 0);
    assert_eq!(cluster.last().visible(), cluster.leader().visible());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_unless_a_snapshot_took_their_revision() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path()).await;
    for n in 0..20 {
        cluster.leader().put(&format!("key-{n:04}"), "early").await;
    }
    cluster.settled().await;
    let core = cluster.last().core.clone();
    let all = RangeRequest { key: b"\0".to_vec().into(), range_end: b"\0".to_vec().into(), ..Default::default() };
    let read_some = async || {
        let mut reading = Reading::start(&core, &all).expect("it is there");
        assert_eq!(reading.next_values(7, usize::MAX).await.expect("values").len(), 7);
        reading
    };
    let mut kept = read_some().await;
    cluster.net.cut_off(3);
    for n in 0..60 {
        cluster.leader().put(&format!("key-{:04}", n % 20), "late").await;
    }
    cluster.leader().purge().await;
    cluster.net.heal(3);
    cluster.settled().await;
    assert_eq!(core.epoch(), 1, "it was a snapshot");
    let rest = kept.next_values(100, usize::MAX).await.expect("its revision is not compacted");
    assert_eq!(rest.len(), 13);
    assert!(rest.iter().all(|kv| &kv.value_bytes()[..] == b"early"));

    let mut gone = read_some().await;
    left_behind(&cluster, 100, 20).await;
    cluster.net.heal(3);
    cluster.settled().await;
    assert_eq!(core.epoch(), 2, "it was a snapshot");
    let told = gone.next_values(100, usize::MAX).await.expect_err("its revision is gone");
    assert_eq!(told.message(), "etcdserver: mvcc: required revision has been compacted");
    assert!(core.failures().borrow().is_none(), "and that is no damage");
}
