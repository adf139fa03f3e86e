//! What goes wrong in a run, and when.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keepstone::cluster::handover;
use keepstone_state::MemberId;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::disks::End;
use crate::load::Load;
use crate::note;
use crate::wires::Weather;

/// What a member says that has stopped because a disk has failed, as they do here.
const DISKS: &[&str] = &["injected", "the log has stopped"];

/// Makes trouble until the load stops.
pub async fn run(cluster: Arc<Cluster>, load: Arc<Load>, mut dice: Dice) {
    while !load.stop.load(Ordering::Relaxed) {
        let rest = Duration::from_millis(dice.within(0..2 * cluster.plan.calm));
        tokio::time::sleep(rest).await;
        restart_failed(&cluster, &mut dice);
        trouble(&cluster, &mut dice);
    }
}

/// A member that has stopped by itself is started again, as a supervisor does.
pub fn restart_failed(cluster: &Arc<Cluster>, dice: &mut Dice) {
    for id in cluster.ids() {
        if let Some(why) = cluster.running(id).and_then(|member| member.failure()) {
            note!("m{id} has stopped: {why}");
            if !DISKS.iter().any(|failure| why.contains(failure)) {
                cluster.break_with(format!("m{id} has STOPPED, and nothing was done to it: {why}"));
            }
            cluster.end(id, End::Killed);
            later(dice.millis(10..1000), cluster, move |cluster| cluster.start(id));
        }
    }
}

fn later(wait: Duration, cluster: &Arc<Cluster>, then: impl FnOnce(&Arc<Cluster>) + Send + 'static) {
    let cluster = cluster.clone();
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        then(&cluster);
    });
}

fn trouble(cluster: &Arc<Cluster>, dice: &mut Dice) {
    let ids = cluster.ids();
    let id = match cluster.leader() {
        Some(leader) if dice.chance(40) => leader,
        _ => *dice.pick(&ids),
    };
    let back = dice.millis(10..4000);
    if dice.chance(cluster.plan.slow_disks) {
        slow_then_gone(cluster, id, dice, back);
        return;
    }
    if cluster.plan.left_behind > 0 && dice.chance(cluster.plan.left_behind) {
        cut_off(cluster, *dice.pick(&ids), &ids, dice.millis(3000..6000));
        return;
    }
    match dice.within(0..100) {
        0..25 => {
            cluster.end(id, if dice.chance(70) { End::PowerLost } else { End::Killed });
            later(back, cluster, move |cluster| cluster.start(id));
        }
        25..32 => {
            note!("power is lost everywhere");
            for id in ids {
                cluster.end(id, End::PowerLost);
                later(back + dice.millis(0..500), cluster, move |cluster| cluster.start(id));
            }
        }
        32..45 => pause(cluster, id, back),
        45..60 => partition(cluster, &ids, dice, back),
        60..65 => election_under_fire(cluster, id, dice, back),
        65..75 => {
            let weather =
                Weather { loss: dice.within(0..40), delay: dice.within(3..400), straggle: dice.within(0..20) };
            note!("weather {weather:?}");
            cluster.wires.set_weather(weather);
            later(back, cluster, |cluster| cluster.wires.heal());
        }
        75..82 => slow_disk(cluster, id, dice.within(20..1500), back),
        82..85 => slow_then_gone(cluster, id, dice, back),
        85..90 => {
            if let Some(machine) = cluster.machine(id) {
                let skew = cluster.plan.skew;
                let fast = dice.within(0..2 * skew.unsigned_abs() + 1).cast_signed() - skew;
                note!("m{id} clock {fast}");
                machine.set_clock(fast);
            }
        }
        90..97 => transfer(cluster, *dice.pick(&ids)),
        // One that starts refuses a disk that fails, and says so: that is tried with real processes.
        _ if cluster.running(id).is_some() => {
            note!("m{id} next sync fails");
            cluster.fail_sync(id);
        }
        _ => {}
    }
}

fn pause(cluster: &Arc<Cluster>, id: u64, back: Duration) {
    let Some(machine) = cluster.machine(id) else { return };
    note!("m{id} pauses");
    machine.pause();
    later(back, cluster, move |_| {
        note!("m{id} goes on");
        machine.resume();
    });
}

/// Two sides that do not hear each other, or only one the other.
fn partition(cluster: &Arc<Cluster>, ids: &[u64], dice: &mut Dice, back: Duration) {
    let side: Vec<bool> = ids.iter().map(|_| dice.chance(50)).collect();
    let one_way = dice.chance(30);
    for (from, a) in ids.iter().zip(&side) {
        for (to, b) in ids.iter().zip(&side) {
            if a != b && (*a || !one_way) {
                cluster.wires.cut(*from, *to);
            }
        }
    }
    note!("partition {side:?} one way {one_way}");
    heal_later(cluster, back);
}

/// One hears nobody, and nobody hears it.
fn cut_off(cluster: &Arc<Cluster>, id: u64, ids: &[u64], back: Duration) {
    for other in ids.iter().filter(|other| **other != id) {
        cluster.wires.cut(id, *other);
        cluster.wires.cut(*other, id);
    }
    note!("m{id} is cut off");
    heal_later(cluster, back);
}

fn heal_later(cluster: &Arc<Cluster>, back: Duration) {
    later(back, cluster, |cluster| {
        note!("healed");
        cluster.wires.heal();
    });
}

fn slow_disk(cluster: &Arc<Cluster>, id: u64, most: u64, back: Duration) {
    let Some(member) = cluster.running(id) else { return };
    note!("m{id} syncs take up to {most} ms");
    let pace = member.pace.clone();
    pace.slow_down(most);
    later(back, cluster, move |_| pace.recover());
}

/// A member that has fallen behind its own disk loses power.
fn slow_then_gone(cluster: &Arc<Cluster>, id: u64, dice: &mut Dice, back: Duration) {
    let most = dice.within(500..3000);
    let gone = dice.millis(200..most);
    slow_disk(cluster, id, most, gone + back);
    later(gone, cluster, move |cluster| cluster.end(id, End::PowerLost));
    later(gone + back, cluster, move |cluster| cluster.start(id));
}

/// One loses power, the leader as a rule, and the others lose it for a moment while they elect another.
fn election_under_fire(cluster: &Arc<Cluster>, id: u64, dice: &mut Dice, back: Duration) {
    note!("m{id} goes, and the others' power fails while they vote");
    cluster.end(id, End::PowerLost);
    later(back, cluster, move |cluster| cluster.start(id));
    for other in cluster.ids().into_iter().filter(|other| *other != id) {
        let gone = dice.millis(100..1500);
        later(gone, cluster, move |cluster| cluster.end(other, End::PowerLost));
        later(gone + dice.millis(1..100), cluster, move |cluster| cluster.start(other));
    }
}

fn transfer(cluster: &Arc<Cluster>, to: u64) {
    let Some(leader) = cluster.leader().filter(|id| *id != to).and_then(|id| cluster.running(id)) else { return };
    note!("m{} hands over to m{to}", leader.machine.id);
    keepstone::host::spawn_on(leader.machine.clone(), {
        let ctx = leader.ctx.clone();
        // It may be refused.
        async move { handover::transfer(&ctx, MemberId(to), Duration::from_secs(1)).await.is_ok() }
    });
}

/// Everything is well again, and everybody runs or starts.
pub fn stop(cluster: &Arc<Cluster>) {
    note!("all is well");
    cluster.wires.heal();
    for id in cluster.ids() {
        if let Some(machine) = cluster.machine(id) {
            machine.resume();
            machine.set_clock(0);
        }
        if let Some(member) = cluster.running(id) {
            member.pace.recover();
        }
        cluster.start(id);
    }
}
