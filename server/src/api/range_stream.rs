//! KV.RangeStream: a Range answered in chunks near the request limit, so that a list of any length costs both sides
//! the memory of a few chunks.

use std::sync::Arc;

use keepstone_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keepstone_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use keepstone_state::check;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::context::Context;
use super::error::status;
use super::pace::{Pace, Unread};
use super::range::Reading;

/// Chunks made ahead of the client.
const CHUNKS_AHEAD: usize = 2;
/// Chunks that a stream holds: those ahead, the one being sent, the next, and what is encoded.
const CHUNKS_HELD: usize = CHUNKS_AHEAD + 3;
/// Keys of the first chunk; the next ones double or halve to come near the request limit in bytes.
const FIRST_CHUNK_KEYS: usize = 10;

type Chunks = mpsc::Sender<Result<RangeStreamResponse, Status>>;

/// Checks the request and starts its stream.
///
/// # Errors
/// What a unary Range refuses, and orders and filters that need the whole range at once.
pub async fn open(
    ctx: Arc<Context>,
    request: RangeRequest,
) -> Result<ReceiverStream<Result<RangeStreamResponse, Status>>, Status> {
    check::check_range(&request).map_err(|error| status(&error))?;
    let in_key_order = request.sort_order == SortOrder::None as i32
        || request.sort_order == SortOrder::Ascend as i32 && request.sort_target == SortTarget::Key as i32;
    if !in_key_order || request.sort_target != SortTarget::Key as i32 {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    let filters =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if filters.iter().any(|filter| *filter != 0) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    // Who waits for it holds nothing.
    let share = ctx.lists.take(CHUNKS_HELD * ctx.config.max_request_bytes).await?;
    if !request.serializable {
        ctx.linearizable().await?;
    }
    ctx.check_fence()?;
    let (tx, rx) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        if let Err(refused) = send(&ctx, &request, &tx).await {
            let _ = Pace::default().send(&tx, Err(refused), 0).await;
        }
        drop(share);
    });
    Ok(ReceiverStream::new(rx))
}

async fn send(ctx: &Context, request: &RangeRequest, tx: &Chunks) -> Result<(), Status> {
    let mut reading = Reading::start(&ctx.core, request).map_err(|error| status(&error))?;
    let count = reading.count().await?;
    let mut pace = Pace::default();
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let bytes = ctx.config.max_request_bytes;
    let mut keys = FIRST_CHUNK_KEYS;
    let mut sent = 0;
    let mut chunk = reading.next_values(keys.min(limit), bytes).await?;
    loop {
        sent += chunk.len();
        let size: usize = chunk.iter().map(|kv| kv.raw().len()).sum();
        keys = if size < bytes / 2 { keys * 2 } else { (keys / 2).max(1) };
        let next = reading.next_values(keys.min(limit - sent), bytes).await?;
        let last = next.is_empty();
        let mut kvs = std::mem::replace(&mut chunk, next);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| *kv = kv.without_value());
        }
        let mut response = RangeResponse { kvs, ..Default::default() };
        if last {
            response.header = Some(ctx.header(reading.plan.current));
            response.count = count as i64;
            response.more = !request.count_only && sent < count && sent == limit;
        }
        let message = RangeStreamResponse { range_response: Some(response) };
        match pace.send(tx, Ok(message), size).await {
            Ok(()) if !last => {}
            Ok(()) | Err(Unread::Gone) => return Ok(()),
            Err(Unread::Slow) => return Err(Status::deadline_exceeded("the stream was not read in time")),
        }
    }
}
