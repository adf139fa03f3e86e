//! Asks every other member now and then whether it is there: how long the way takes, and who is connected, is shown also
//! where Raft says nothing, as between followers. Only metrics come of it.

use std::time::Duration;

use futures_util::future::join_all;
use keepstone_state::MemberId;
use tokio::time::{Instant, MissedTickBehavior};

use super::grpc::GrpcTransport;

/// How often. etcd asks every five seconds; an answer costs some 30 µs of CPU.
const EVERY: Duration = Duration::from_secs(1);

/// Asks those whom `others` names, until it is dropped.
pub async fn run(transport: GrpcTransport, others: impl Fn() -> Vec<MemberId>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        join_all(others().into_iter().map(|to| ask(&transport, to))).await;
    }
}

async fn ask(transport: &GrpcTransport, to: MemberId) {
    let began = Instant::now();
    if transport.ping(to).await {
        transport.traffic().with(to).round_trip.observe(began.elapsed().as_secs_f64());
    }
}
