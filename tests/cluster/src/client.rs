//! The calls the tests make, over the generated clients.

use std::time::Duration;

use anyhow::{Result, ensure};
use keepstone_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, HashKvRequest, HashKvResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest, RangeResponse, SnapshotRequest, StatusRequest, StatusResponse,
    cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Answers are whole lists here.
const MAX_ANSWER: usize = 1 << 30;
/// No call may take longer: a member that hangs fails the test instead of stopping it.
const CALL: Duration = Duration::from_secs(30);

/// One connection to a member. Clones share it.
#[derive(Clone)]
pub struct Client {
    pub kv: KvClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub watch: WatchClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
    pub cluster: ClusterClient<Channel>,
}

impl Client {
    /// # Errors
    /// When nobody listens.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_within(url, Duration::from_secs(5)).await
    }

    /// # Errors
    /// When nobody listens, or answers in time.
    pub async fn connect_within(url: &str, patience: Duration) -> Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(patience);
        let channel = tokio::time::timeout(patience, endpoint.connect()).await??;
        Ok(Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel).max_decoding_message_size(MAX_ANSWER),
        })
    }

    /// # Errors
    /// The member's.
    pub async fn status(&mut self) -> Result<StatusResponse, Status> {
        within(self.maintenance.status(StatusRequest {})).await
    }

    /// Writes `value`; answers its revision.
    ///
    /// # Errors
    /// The member's.
    pub async fn put(&mut self, key: &str, value: impl Into<Vec<u8>>) -> Result<i64, Status> {
        let value = value.into().into();
        let put = PutRequest { key: key.to_owned().into(), value, ..Default::default() };
        Ok(revision(within(self.kv.put(put)).await?.header))
    }

    /// # Errors
    /// The member's.
    pub async fn range(&mut self, request: RangeRequest) -> Result<RangeResponse, Status> {
        within(self.kv.range(request)).await
    }

    /// Every key, at `revision` or with 0 at the latest one.
    ///
    /// # Errors
    /// The member's.
    pub async fn all(&mut self, revision: i64) -> Result<RangeResponse, Status> {
        let (key, range_end) = (vec![0].into(), vec![0].into());
        self.range(RangeRequest { key, range_end, revision, ..Default::default() }).await
    }

    /// # Errors
    /// The member's.
    pub async fn compact(&mut self, revision: i64, physical: bool) -> Result<(), Status> {
        within(self.kv.compact(CompactionRequest { revision, physical })).await.map(drop)
    }

    /// # Errors
    /// The member's.
    pub async fn hash_kv(&mut self, revision: i64) -> Result<HashKvResponse, Status> {
        within(self.maintenance.hash_kv(HashKvRequest { revision })).await
    }

    /// # Errors
    /// The member's.
    pub async fn defragment(&mut self) -> Result<(), Status> {
        within(self.maintenance.defragment(DefragmentRequest {})).await.map(drop)
    }

    /// # Errors
    /// The member's.
    pub async fn time_to_live(&mut self, id: i64) -> Result<LeaseTimeToLiveResponse, Status> {
        within(self.lease.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true })).await
    }

    /// Takes a snapshot and throws it away; answers its bytes. `None` when the stream broke.
    ///
    /// # Errors
    /// When what came whole does not verify.
    pub async fn snapshot(&mut self) -> Result<Option<u64>> {
        let Ok(answer) = self.maintenance.snapshot(SnapshotRequest {}).await else { return Ok(None) };
        let mut stream = answer.into_inner();
        let (mut hash, mut bytes, mut trailer) = (Sha256::new(), 0, None);
        loop {
            match tokio::time::timeout(CALL, stream.message()).await {
                Ok(Ok(Some(part))) => {
                    ensure!(trailer.is_none(), "a snapshot goes on after its end");
                    if part.remaining_bytes == 0 && part.blob.len() == 32 {
                        trailer = Some(part.blob);
                    } else {
                        hash.update(&part.blob);
                        bytes += part.blob.len() as u64;
                    }
                }
                Ok(Ok(None)) => break,
                Ok(Err(_)) => return Ok(None),
                Err(_) => anyhow::bail!("a snapshot stood still for {CALL:?}"),
            }
        }
        let Some(trailer) = trailer else { anyhow::bail!("a snapshot ended without its checksum") };
        ensure!(hash.finalize().as_slice() == &trailer[..], "a snapshot's checksum is not that of its bytes");
        ensure!(bytes % 512 == 0, "a snapshot of {bytes} bytes is not whole sectors");
        Ok(Some(bytes))
    }
}

/// A header's revision.
pub fn revision(header: Option<keepstone_proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the member did not answer")),
    }
}
