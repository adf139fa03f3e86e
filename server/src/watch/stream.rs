//! One Watch call: the client's requests in, responses out, in an order that keeps etcd's promises.
//!
//! There is no task and no queue here: everything is made when the connection asks for it, that is when the client has
//! room, and then as much as there is. A watcher's responses follow its `created` in revision order; a progress answer
//! follows all events it vouches for.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use keepstone_proto::Event;
use keepstone_proto::etcdserverpb::watch_create_request::FilterType;
use keepstone_proto::etcdserverpb::watch_request::RequestUnion;
use keepstone_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use keepstone_state::Error;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::Status;

use super::aside::Aside;
use super::chunks::ROOM_BYTES;
use super::encode::{self, Head};
use super::history::{self, Batch, HistoryError};
use super::local::{Local, Next, Watchers};
use super::matcher::Keys;
use super::ring::{Change, Run, event_of};
use super::table::ROOM_KEPT;
use super::watcher::{Owed, Progress, Spec, Turn};
use crate::core::Core;
use crate::host;

/// A chunk takes no further response from here on. With a small one on top it fits a frame.
const CHUNK_BYTES: usize = 15 << 10;
/// Bytes of a response's header, more or less.
const HEAD_BYTES: usize = 40;
/// Requests handled before responses get their turn.
const REQUESTS_A_TURN: usize = 256;

/// Settings of all streams.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often an idle watcher that asked for it hears of progress.
    pub progress_interval: Duration,
    /// Bytes past which a response is cut for watchers that asked for fragments.
    pub fragment_bytes: usize,
}

/// What the client sends.
pub type Requests = Pin<Box<dyn Stream<Item = Result<WatchRequest, Status>> + Send>>;

/// A Watch call, to be polled by its connection.
pub struct Feeder {
    core: Arc<Core>,
    settings: Settings,
    watchers: Watchers,
    /// None once the client has sent all it wants to.
    requests: Option<Requests>,
    tick: Interval,
    /// For `requests` and `tick`.
    aside: Aside,
    next_watch: i64,
    /// A progress request that has to name at least this revision.
    progress_at: Option<i64>,
    /// What lagging watchers get next. No request is handled meanwhile.
    reading: Option<JoinHandle<Result<Batch, HistoryError>>>,
    /// Responses, made and not yet handed out; empty between two polls.
    out: Vec<u8>,
    /// How the call ends once `out` is.
    failed: Option<Status>,
    head: Head,
    owed: Vec<Owed>,
    /// What the last plain response in `out` was made of, and where its events are there.
    last: Vec<Owed>,
    last_at: Range<usize>,
    events: Vec<Event>,
}

impl Feeder {
    /// Starts a call on the caller's thread, which `local` has to be of.
    pub fn new(core: Arc<Core>, local: &Arc<Local>, settings: Settings, requests: Requests) -> Self {
        let watchers = local.open();
        let interval = jittered(settings.progress_interval, watchers.number());
        let mut tick = tokio::time::interval_at(Instant::now() + interval, interval);
        // A client that has not read for long is not told of each time that it was not told.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            core,
            settings,
            watchers,
            requests: Some(requests),
            tick,
            aside: Aside::new(),
            next_watch: 0,
            progress_at: None,
            reading: None,
            out: Vec::new(),
            failed: None,
            head: Head::default(),
            owed: Vec::new(),
            last: Vec::new(),
            last_at: 0..0,
            events: Vec::new(),
        }
    }

    /// The next responses, each a message of the gRPC stream. An error is the call's end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        if self.failed.is_none()
            && let Err(status) = self.fill(cx)
        {
            self.failed = Some(status);
        }
        // After responses were made: what is not said by now may be of what differs.
        if self.core.is_fenced() {
            self.out.clear();
            self.failed = Some(fenced());
        }
        if !self.out.is_empty() {
            keepstone_failpoint::points::BEFORE_SEND_WATCH_RESPONSE.hit();
            return Poll::Ready(Ok(self.watchers.chunks().chunk(std::mem::take(&mut self.out))));
        }
        match self.failed.take() {
            Some(status) => Poll::Ready(Err(status)),
            None => Poll::Pending,
        }
    }

    /// Makes responses until there is a chunk of them, or no more to say; then whoever has some wakes the task.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        let mut run = None;
        self.last.clear();
        self.last.shrink_to(ROOM_KEPT);
        loop {
            if self.reading.is_none() && self.aside.take(cx.waker()) {
                self.hear()?;
            }
            let lagging = loop {
                if self.out.len() >= CHUNK_BYTES {
                    return Ok(());
                }
                match self.watchers.next(&mut self.owed, cx.waker()) {
                    Next::Of(turn) => self.respond(turn, &mut run),
                    Next::Nothing { lagging } => break lagging,
                }
            };
            if !self.feed_from_store(lagging, cx).map_err(|error| error.status())? {
                break;
            }
        }
        // While somebody lags it has to wait.
        if self.reading.is_none() {
            self.answer_progress();
        }
        Ok(())
    }

    /// Handles what the client has sent, and the time.
    fn hear(&mut self) -> Result<(), Status> {
        let waker = self.aside.waker().clone();
        let mut cx = Context::from_waker(&waker);
        while self.tick.poll_tick(&mut cx).is_ready() {
            self.notify_progress();
        }
        for _ in 0..REQUESTS_A_TURN {
            let Some(requests) = &mut self.requests else { break };
            match requests.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(Ok(request))) => self.handle(request),
                // The client's end of sending does not end its watchers; only its going away does.
                Poll::Ready(None) => self.requests = None,
                // A message that is too large or can't be read ends the call, as it would any other.
                Poll::Ready(Some(Err(error))) => {
                    self.core.metrics.network.received_badly("watch", &error);
                    return Err(error);
                }
                Poll::Pending => return Ok(()),
            }
        }
        if self.requests.is_some() {
            waker.wake();
        }
        Ok(())
    }

    fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) if self.watchers.remove(cancel.watch_id) => {
                let watch_id = cancel.watch_id;
                self.answer(WatchResponse { watch_id, canceled: true, ..Default::default() }, self.core.revision());
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                // Whether it is answered at all is decided now: not if nobody watches or somebody lags.
                let at_least = self.core.revision();
                if self.watchers.progress(at_least) != Progress::Never {
                    self.progress_at = Some(at_least);
                }
            }
            // An unknown watcher is passed over in silence.
            Some(RequestUnion::CancelRequest(_)) | None => {}
        }
    }

    fn answer(&mut self, answer: WatchResponse, revision: i64) {
        let header = Some(self.core.header(revision));
        encode::response(&mut self.out, &WatchResponse { header, ..answer });
    }

    fn refuse(&mut self, reason: &str) {
        let cancel_reason = reason.to_owned();
        let refusal =
            WatchResponse { watch_id: -1, created: true, canceled: true, cancel_reason, ..Default::default() };
        self.answer(refusal, self.core.revision());
    }

    fn create(&mut self, create: WatchCreateRequest) {
        if create.start_revision < 0 {
            return self.refuse("etcdserver: mvcc: required revision has been compacted");
        }
        let Ok(keys) = Keys::new(create.key, create.range_end) else {
            return self.refuse("mvcc: watcher range is empty");
        };
        let watch_id = match create.watch_id {
            0 => self.unused_watch(),
            taken if self.watchers.has(taken) => {
                return self.refuse("mvcc: duplicate watch ID provided on the WatchStream");
            }
            chosen => chosen,
        };
        let (no_put, no_delete) = filters(&create.filters);
        let spec = Spec {
            keys,
            start: create.start_revision,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            no_put,
            no_delete,
        };
        let revision = self.watchers.add(watch_id, spec, || self.core.revision());
        self.answer(WatchResponse { watch_id, created: true, ..Default::default() }, revision);
    }

    fn unused_watch(&mut self) -> i64 {
        while self.watchers.has(self.next_watch) {
            self.next_watch += 1;
        }
        let watch = self.next_watch;
        self.next_watch += 1;
        watch
    }

    fn answer_progress(&mut self) {
        let Some(at_least) = self.progress_at else { return };
        match self.watchers.progress(at_least) {
            Progress::Later => {}
            Progress::Never => self.progress_at = None,
            Progress::At(revision) => {
                self.progress_at = None;
                self.answer(WatchResponse { watch_id: -1, ..Default::default() }, revision);
            }
        }
    }

    fn notify_progress(&mut self) {
        for (watch_id, revision) in self.watchers.idle() {
            self.answer(WatchResponse { watch_id, ..Default::default() }, revision);
        }
    }

    /// Makes the response that `self.owed` refers to. `run` is the one used last.
    fn respond(&mut self, turn: Turn, run: &mut Option<Arc<Run>>) {
        let plain = !turn.prev_kv && !turn.fragment;
        if plain && self.owed == self.last {
            encode::same_events(&mut self.out, &self.head, turn.watch, self.last_at.clone());
            self.core.metrics.mvcc.events.inc_by(self.owed.len() as u64);
            self.owed.clear();
            return;
        }
        self.last.clear();
        for (at, one) in self.owed.iter().enumerate() {
            if run.as_ref().is_none_or(|run| run.seq != one.seq) {
                *run = self.core.watch.ring.get(one.seq);
            }
            let change = run.as_ref().and_then(|run| run.changes.get(one.change as usize));
            let Some(event) = change.and_then(|change| event(&self.core, turn.prev_kv, change)) else {
                // The ring went past us, or an old value is on disk. What there is of this revision comes with the rest of it.
                self.watchers.fall_behind(turn.watch, one.revision);
                self.events.truncate(self.owed[..at].partition_point(|before| before.revision < one.revision));
                break;
            };
            self.events.push(event);
        }
        let whole = self.events.len() == self.owed.len();
        if let Some(last) = self.events.len().checked_sub(1) {
            let revision = self.owed[last].revision;
            let mut events = std::mem::take(&mut self.events);
            self.make_room(turn, &events);
            self.last_at = self.push_events(turn.watch, turn.fragment, revision, &events);
            events.clear();
            events.shrink_to(ROOM_KEPT);
            self.events = events;
        }
        if plain && whole {
            std::mem::swap(&mut self.last, &mut self.owed);
        }
        self.owed.clear();
        self.owed.shrink_to(ROOM_KEPT);
    }

    /// A chunk's first response shows how long the others of the stream may be.
    fn make_room(&mut self, turn: Turn, events: &[Event]) {
        if self.out.is_empty() {
            let len = encode::PREFIX + encode::events_len(&self.head, turn.watch, turn.fragment, events) + HEAD_BYTES;
            let all = len.saturating_mul(1 + turn.others).min(CHUNK_BYTES + len);
            if (ROOM_BYTES / 2..=ROOM_BYTES).contains(&all) {
                self.out = self.watchers.chunks().room();
            } else {
                self.out.reserve_exact(all);
            }
        }
    }

    /// Serves those who lag. Whether there was anything to serve yet.
    fn feed_from_store(&mut self, lagging: bool, cx: &mut Context<'_>) -> Result<bool, HistoryError> {
        if lagging && self.reading.is_none() {
            let (core, lagging) = (self.core.clone(), self.watchers.lagging());
            self.reading = Some(host::spawn_blocking(move || history::read(&core, lagging)));
        }
        let Some(reading) = &mut self.reading else { return Ok(false) };
        let Poll::Ready(read) = Pin::new(reading).poll(cx) else { return Ok(false) };
        self.reading = None;
        let batch = read.unwrap_or(Err(HistoryError::Stopped))?;
        // What follows has another header.
        self.last.clear();
        for feed in batch.feeds {
            if let Some(compact_revision) = feed.compacted {
                self.watchers.remove(feed.watch);
                let gone =
                    WatchResponse { watch_id: feed.watch, canceled: true, compact_revision, ..Default::default() };
                // As etcd has it, this header names no revision.
                self.answer(gone, 0);
                continue;
            }
            let sent = !feed.events.is_empty();
            if sent {
                self.push_events(feed.watch, feed.spec.fragment, batch.revision, &feed.events);
            }
            self.watchers.caught_up_to(feed.watch, feed.next, sent);
        }
        Ok(true)
    }

    /// Makes a response, cut into fragments where the client allows it and the size asks for it. Where in `out` the
    /// (last) events are.
    fn push_events(&mut self, watch: i64, fragment: bool, revision: i64, events: &[Event]) -> Range<usize> {
        self.head.set(self.core.header(revision));
        self.core.metrics.mvcc.events.inc_by(events.len() as u64);
        let (out, head, limit) = (&mut self.out, &self.head, self.settings.fragment_bytes);
        if !fragment || events.len() < 2 || encode::events_len(head, watch, false, events) < limit {
            return encode::events(out, head, watch, false, events);
        }
        let (mut from, mut bytes) = (0, 0);
        for (at, event) in events.iter().enumerate() {
            let len = encode::event_len(event);
            if at > from && bytes + len >= limit {
                encode::events(out, head, watch, true, &events[from..at]);
                (from, bytes) = (at, 0);
            }
            bytes += len;
        }
        encode::events(out, head, watch, false, &events[from..])
    }
}

/// How a watch ends at a member whose data differs from the others'. The text is what reads are told there; the code is
/// one with which etcd's clients go on at another member from where they are, where the reads' own ends their watch.
fn fenced() -> Status {
    Status::unavailable(Error::Corrupt.to_string())
}

/// None if it takes an old value that can't be had without waiting for a disk: this is a connection's thread.
fn event(core: &Core, prev_kv: bool, change: &Change) -> Option<Event> {
    if !prev_kv || change.record.prev.is_none() {
        return Some(change.event().clone());
    }
    let record = &change.record;
    let Some(at) = history::prev_place(core, record) else { return Some(event_of(record, None)) };
    Some(event_of(record, Some(&core.records.get_near(at)?)))
}

fn filters(filters: &[i32]) -> (bool, bool) {
    let has = |filter: FilterType| filters.contains(&(filter as i32));
    (has(FilterType::Noput), has(FilterType::Nodelete))
}

/// Up to a tenth longer, so that streams opened together do not tick together.
fn jittered(interval: Duration, stream: usize) -> Duration {
    interval + interval / 100 * (stream % 10) as u32
}

#[cfg(test)]
mod tests;
