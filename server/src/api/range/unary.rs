//! A unary Range: at once while it is small, otherwise from an allowance, as the client reads it.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use keepstone_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keepstone_state::Error;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::allowance::{Allowance, CALL_BYTES, KEPT_BYTES, SMALL_BYTES, SORT_BYTES, Share};
use super::body::{self, Sender};
use super::list::{List, Part};
use super::write::{Format, Frame, Writer, field_len};
use super::{Reading, STEP_BYTES, STEP_KEYS, sorted};
use crate::api::error::status;
use crate::api::pace::{Pace, Unread};
use crate::core::Core;

/// What a Range is answered with.
pub enum Answer {
    /// A message, its header without this member's IDs.
    Small(RangeResponse),
    /// A body that is the message.
    Large(Large),
}

/// An answer that is never a message in memory. It travels in a response's extensions beside an empty message, and
/// whoever sends the response takes its body from here. Clones are the same answer; it is sent once.
#[derive(Clone)]
pub struct Large(Arc<Mutex<Option<Made>>>);

enum Made {
    Kept { response: RangeResponse, frame: Frame, share: Share },
    Listed(Box<List>),
}

enum Gathered {
    Whole(RangeResponse),
    Part(Part),
}

/// Answers a Range. Dropping the call lets go of everything.
///
/// # Errors
/// etcd's status for a revision that can't be read; see [`List::measure`].
pub async fn answer(core: &Arc<Core>, allowance: &Allowance, request: RangeRequest) -> Result<Answer, Status> {
    match gather(core, &request, None, SMALL_BYTES).await? {
        Gathered::Whole(response) => Ok(Answer::Small(response)),
        // Boxed, so that a call's task has no room for what few calls need.
        Gathered::Part(part) => Box::pin(answer_large(core, allowance, request, part)).await,
    }
}

/// Answers a Range that is more than `part`.
async fn answer_large(
    core: &Arc<Core>,
    allowance: &Allowance,
    request: RangeRequest,
    part: Part,
) -> Result<Answer, Status> {
    // Who has to wait lets go of what was read, and reads at the revision that is current then.
    let (share, part) = match allowance.try_take(CALL_BYTES) {
        Some(share) => (share, Some(part)),
        None => {
            drop(part);
            (allowance.take(CALL_BYTES).await?, None)
        }
    };
    match gather(core, &request, part, KEPT_BYTES).await? {
        Gathered::Whole(response) => Ok(Answer::Large(Large::kept(core, response, share)?)),
        Gathered::Part(part) if sorted::is_sorted(&request) => {
            drop((part, share));
            let share = allowance.take(CALL_BYTES + SORT_BYTES).await?;
            let reading = Reading::start(core, &request).map_err(|error| status(&error))?;
            let count = reading.count().await?;
            let (position, pin, current) = (reading.position(), reading.pin(), reading.plan.current);
            listed(core, request, Part { kvs: Vec::new(), position, pin, current, count }, share).await
        }
        Gathered::Part(part) => listed(core, request, part, share).await,
    }
}

/// Reads from where `from` stands, or from the start, until there is more than `room` to hold or everything.
async fn gather(core: &Core, request: &RangeRequest, from: Option<Part>, room: usize) -> Result<Gathered, Status> {
    let (mut reading, mut kvs, count) = match from {
        Some(part) => {
            let plan = keepstone_state::range::Plan::again(request, part.current);
            (Reading::resume(core, plan, part.pin, part.position), part.kvs, part.count)
        }
        None => {
            let reading = Reading::start(core, request).map_err(|error| status(&error))?;
            let count = reading.count().await?;
            (reading, Vec::new(), count)
        }
    };
    let mut held: usize = kvs.iter().map(|kv| kv.raw().len()).sum();
    loop {
        let values = reading.next_values(STEP_KEYS, STEP_BYTES).await?;
        if values.is_empty() {
            return Ok(Gathered::Whole(reading.plan.finish(kvs, count)));
        }
        for kv in values.into_iter().filter_map(|kv| reading.plan.keep(kv)) {
            held += kv.raw().len();
            kvs.push(kv);
        }
        if reading.is_done() {
            continue;
        }
        if held > room {
            let (position, pin, current) = (reading.position(), reading.pin(), reading.plan.current);
            return Ok(Gathered::Part(Part { kvs, position, pin, current, count }));
        }
        tokio::task::yield_now().await;
    }
}

/// Measures a long list on a thread of its own.
async fn listed(core: &Arc<Core>, request: RangeRequest, part: Part, share: Share) -> Result<Answer, Status> {
    let (tx, rx) = oneshot::channel();
    let core = core.clone();
    tokio::task::spawn_blocking(move || {
        let list = List::measure(core, request, part, share, &|| tx.is_closed());
        // Nobody waits: the list is dropped.
        drop(tx.send(list));
    });
    let list = rx.await.map_err(|_| status(&Error::Stopped))??;
    Ok(Answer::Large(Large::new(Made::Listed(Box::new(list)))))
}

impl Large {
    fn new(made: Made) -> Self {
        Self(Arc::new(Mutex::new(Some(made))))
    }

    fn kept(core: &Core, response: RangeResponse, share: Share) -> Result<Self, Status> {
        let revision = response.header.map_or(0, |header| header.revision);
        let count = usize::try_from(response.count).unwrap_or(0);
        let kvs_bytes = response.kvs.iter().map(field_len).sum();
        let frame = Frame { header: core.header(revision), more: response.more, count, kvs_bytes };
        frame.check()?;
        Ok(Self::new(Made::Kept { response, frame, share }))
    }

    /// The answer's body; the first caller gets it. What makes the pieces runs on the caller's runtime.
    pub fn body(&self, format: Format) -> Option<body::Answer> {
        self.body_at(format, Pace::default())
    }

    pub(super) fn body_at(&self, format: Format, pace: Pace) -> Option<body::Answer> {
        let made = self.0.lock().take()?;
        let (sender, answer) = body::channel(format, pace);
        match made {
            Made::Kept { response, frame, share } => {
                tokio::spawn(async move {
                    if send_kept(response, frame, format, sender).await == Err(Unread::Slow) {
                        tracing::warn!("an answer was not read in time and is broken off");
                    }
                    drop(share);
                });
            }
            Made::Listed(list) => {
                let runtime = Handle::current();
                tokio::task::spawn_blocking(move || list.send(format, sender, &runtime));
            }
        }
        Some(answer)
    }
}

impl Large {
    /// The whole message, in memory.
    ///
    /// # Errors
    /// What reading meets.
    pub async fn message(&self) -> Result<RangeResponse, Status> {
        let broken = || Status::internal("an answer broke off");
        let body = self.body(Format::Grpc).ok_or_else(broken)?.collect().await?;
        if let Some(failure) = body.trailers().and_then(Status::from_header_map).filter(|end| end.code() != Code::Ok) {
            return Err(failure);
        }
        let frame = body.to_bytes();
        RangeResponse::decode(frame.get(5..).ok_or_else(broken)?).map_err(|_| broken())
    }
}

async fn send_kept(response: RangeResponse, frame: Frame, format: Format, mut sender: Sender) -> Result<(), Unread> {
    let mut writer = Writer::new(format, frame);
    for kv in response.kvs {
        writer.put(&kv);
        if writer.len() >= body::PIECE_BYTES {
            sender.send(&mut writer).await?;
        }
    }
    sender.finish(&mut writer).await
}
