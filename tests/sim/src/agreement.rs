//! What must be the same on every member in the end: the hash of all they keep at one revision, and the committed log.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail, ensure};
use bytes::Bytes;
use keepstone::api::maintenance::MaintenanceService;
use keepstone_proto::etcdserverpb::maintenance_server::Maintenance as _;
use keepstone_proto::etcdserverpb::{HashKvRequest, HashKvResponse};
use tonic::Request;

use crate::cluster::Cluster;
use crate::note;

/// Bytes of entries compared at once.
const PIECE: usize = 1 << 20;

/// Compares all members, which have applied everything.
///
/// # Errors
/// Who differs from whom, and where.
pub async fn check(cluster: &Arc<Cluster>, revision: i64) -> Result<()> {
    let mut first: Option<(u64, HashKvResponse)> = None;
    for id in cluster.ids() {
        let ask = move |ctx| async move {
            MaintenanceService::new(ctx).hash_kv(Request::new(HashKvRequest { revision })).await
        };
        let answer = cluster.ask(id, ask).await.ok_or_else(|| anyhow!("m{id} gives no hash"))?;
        let answer = answer.map_err(|status| anyhow!("m{id} gives no hash: {}", status.message()))?.into_inner();
        note!("m{id} hash {} at {} from {}", answer.hash, answer.hash_revision, answer.compact_revision);
        let Some((other, expected)) = &first else {
            first = Some((id, answer));
            continue;
        };
        let same = (answer.hash, answer.compact_revision) == (expected.hash, expected.compact_revision);
        ensure!(same, "HASHES DIFFER at revision {revision}: m{other} has {expected:?}, m{id} has {answer:?}");
    }
    logs(cluster)
}

/// Compares what is left of the logs, up to what everybody has applied.
fn logs(cluster: &Arc<Cluster>) -> Result<()> {
    let mut seen: BTreeMap<u64, (u64, Bytes, u64)> = BTreeMap::new();
    for id in cluster.ids() {
        let Some(member) = cluster.running(id) else { continue };
        let end = member.ctx.core.applied_index() + 1;
        let mut next = member.wal.first_index().unwrap_or(end);
        while next < end {
            let entries = member.wal.read(next..end, PIECE)?;
            ensure!(!entries.is_empty(), "m{id} has no entry {next}");
            for entry in entries {
                next = entry.index + 1;
                match seen.get(&entry.index) {
                    None => drop(seen.insert(entry.index, (entry.term, entry.data, id))),
                    Some((term, data, _)) if *term == entry.term && *data == entry.data => {}
                    Some((term, _, other)) => bail!(
                        "LOGS DIFFER at entry {}: m{other} has one of term {term}, m{id} one of term {}",
                        entry.index,
                        entry.term
                    ),
                }
            }
        }
    }
    Ok(())
}
