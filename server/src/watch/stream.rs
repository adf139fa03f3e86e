//! One Watch call: the client's requests in, responses out, in an order that keeps etcd's promises.
//!
//! Everything a stream sends is made here, by one task, when the client has room for it. A watcher's responses
//! follow its `created` in revision order; a progress answer follows all events it vouches for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use keepstone_proto::Event;
use keepstone_proto::etcdserverpb::watch_create_request::FilterType;
use keepstone_proto::etcdserverpb::watch_request::RequestUnion;
use keepstone_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tonic::Status;

use super::history::{self, HistoryError};
use super::local::{Local, Owed, Progress, Spec};
use super::matcher::Keys;
use super::ring::{Change, Run, event_of};
use crate::core::Core;

/// Responses of a stream that are made but not yet taken by its connection.
const RESPONSES_AHEAD: usize = 4;
/// Answers to requests that may wait; past it no further request is read.
const WAITING_ANSWERS: usize = 1024;
/// References turned into one response at most, at a revision's edge.
const EVENTS_A_RESPONSE: usize = 1000;

/// Settings of all streams.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often an idle watcher that asked for it hears of progress.
    pub progress_interval: Duration,
    /// Bytes past which a response is cut for watchers that asked for fragments.
    pub fragment_bytes: usize,
}

type Outgoing = mpsc::Sender<Result<WatchResponse, Status>>;

/// Starts serving a stream on the caller's thread; the responses come out of the receiver.
pub fn serve<S>(
    core: Arc<Core>,
    local: Arc<Local>,
    settings: Settings,
    requests: S,
) -> mpsc::Receiver<Result<WatchResponse, Status>>
where
    S: Stream<Item = Result<WatchRequest, Status>> + Send + Unpin + 'static,
{
    let (tx, rx) = mpsc::channel(RESPONSES_AHEAD);
    let (stream, changed) = local.open();
    let feeder = Feeder {
        core,
        local,
        settings,
        stream,
        changed,
        answers: VecDeque::new(),
        next_watch: 0,
        progress_at: None,
        store_next: false,
    };
    tokio::spawn(feeder.run(requests, tx));
    rx
}

struct Feeder {
    core: Arc<Core>,
    local: Arc<Local>,
    settings: Settings,
    stream: u64,
    changed: Arc<Notify>,
    answers: VecDeque<WatchResponse>,
    next_watch: i64,
    /// A progress request that has to name at least this revision.
    progress_at: Option<i64>,
    /// Whether it is a lagging watcher's turn.
    store_next: bool,
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.local.close(self.stream);
    }
}

impl Feeder {
    async fn run<S>(mut self, mut requests: S, out: Outgoing)
    where
        S: Stream<Item = Result<WatchRequest, Status>> + Send + Unpin + 'static,
    {
        let mut open = true;
        let mut tick = tokio::time::interval(jittered(self.settings.progress_interval, self.stream));
        tick.tick().await;
        loop {
            let has_output = self.has_output();
            tokio::select! {
                request = requests.next(), if open && self.answers.len() < WAITING_ANSWERS => match request {
                    Some(Ok(request)) => self.handle(request),
                    // The client's end of sending does not end its watchers; only its going away does.
                    None => open = false,
                    // A message that is too large or can't be read ends the call, as it would any other.
                    Some(Err(error)) => {
                        drop(out.send(Err(error)).await);
                        return;
                    }
                },
                permit = out.reserve(), if has_output => match permit {
                    Ok(permit) => match self.produce().await {
                        Ok(Some(response)) => permit.send(Ok(response)),
                        Ok(None) => {}
                        Err(error) => {
                            permit.send(Err(error.status()));
                            return;
                        }
                    },
                    Err(_) => return,
                },
                () = self.changed.notified(), if !has_output => {}
                _ = tick.tick() => self.notify_progress(),
                () = out.closed() => return,
            }
        }
    }

    fn has_output(&self) -> bool {
        !self.answers.is_empty()
            || self.local.has_ready(self.stream)
            || self.local.has_lagging(self.stream)
            || self.progress_at.is_some_and(|at| self.local.progress(self.stream, at) != Progress::Later)
    }

    fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) if self.local.remove(self.stream, cancel.watch_id) => {
                let header = Some(self.core.header(self.core.revision()));
                let watch_id = cancel.watch_id;
                self.answers.push_back(WatchResponse { header, watch_id, canceled: true, ..Default::default() });
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                // Whether it is answered at all is decided now: not if nobody watches or somebody lags.
                let at_least = self.core.revision();
                if self.local.progress(self.stream, at_least) != Progress::Never {
                    self.progress_at = Some(at_least);
                }
            }
            // An unknown watcher is passed over in silence.
            Some(RequestUnion::CancelRequest(_)) | None => {}
        }
    }

    fn create(&mut self, create: WatchCreateRequest) {
        let core = self.core.clone();
        let refuse = |reason: &str| WatchResponse {
            header: Some(core.header(core.revision())),
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        if create.start_revision < 0 {
            self.answers.push_back(refuse("etcdserver: mvcc: required revision has been compacted"));
            return;
        }
        let (no_put, no_delete) = filters(&create.filters);
        let Ok(keys) = Keys::new(create.key, create.range_end) else {
            self.answers.push_back(refuse("mvcc: watcher range is empty"));
            return;
        };
        let watch = match create.watch_id {
            0 => self.unused_watch(),
            taken if self.local.has(self.stream, taken) => {
                self.answers.push_back(refuse("mvcc: duplicate watch ID provided on the WatchStream"));
                return;
            }
            chosen => chosen,
        };
        let spec = Spec {
            keys,
            start: create.start_revision,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            no_put,
            no_delete,
        };
        let revision = self.local.add(self.stream, watch, spec, || self.core.revision());
        let header = Some(self.core.header(revision));
        self.answers.push_back(WatchResponse { header, watch_id: watch, created: true, ..Default::default() });
    }

    fn unused_watch(&mut self) -> i64 {
        while self.local.has(self.stream, self.next_watch) {
            self.next_watch += 1;
        }
        let watch = self.next_watch;
        self.next_watch += 1;
        watch
    }

    /// Makes the next response, if what there was to send has not vanished meanwhile.
    async fn produce(&mut self) -> Result<Option<WatchResponse>, HistoryError> {
        if let Some(answer) = self.answers.pop_front() {
            return Ok(Some(answer));
        }
        let lagging = self.local.has_lagging(self.stream);
        if lagging && (self.store_next || !self.local.has_ready(self.stream)) {
            self.store_next = false;
            self.feed_from_store().await?;
            return Ok(self.answers.pop_front());
        }
        self.store_next = lagging;
        if let Some((watch, spec, owed)) = self.local.take(self.stream, EVENTS_A_RESPONSE) {
            self.respond_from_ring(watch, &spec, &owed)?;
            return Ok(self.answers.pop_front());
        }
        if let Some(at) = self.progress_at {
            match self.local.progress(self.stream, at) {
                Progress::Later => {}
                Progress::Never => self.progress_at = None,
                Progress::At(revision) => {
                    self.progress_at = None;
                    let header = Some(self.core.header(revision));
                    return Ok(Some(WatchResponse { header, watch_id: -1, ..Default::default() }));
                }
            }
        }
        Ok(None)
    }

    /// Skipped while answers wait: they would pile up before a client that does not read.
    fn notify_progress(&mut self) {
        if !self.answers.is_empty() {
            return;
        }
        for (watch, revision) in self.local.idle_watchers(self.stream) {
            let header = Some(self.core.header(revision));
            self.answers.push_back(WatchResponse { header, watch_id: watch, ..Default::default() });
        }
    }

    fn respond_from_ring(&mut self, watch: i64, spec: &Spec, owed: &[Owed]) -> Result<(), HistoryError> {
        let mut events = Vec::with_capacity(owed.len());
        let mut run: Option<Arc<Run>> = None;
        let mut revision = 0;
        for (at, one) in owed.iter().enumerate() {
            if run.as_ref().is_none_or(|run| run.seq != one.seq) {
                run = self.core.watch.ring.get(one.seq);
            }
            let Some(change) = run.as_ref().and_then(|run| run.changes.get(one.change as usize)) else {
                // The ring went past us. All of a revision is in one run: nothing of this one is in `events`.
                debug_assert!(at == 0 || owed[at - 1].revision < one.revision);
                self.local.fall_behind(self.stream, watch, one.revision);
                break;
            };
            events.push(self.event(spec, change)?);
            revision = one.revision;
        }
        if !events.is_empty() {
            self.push_events(watch, spec, revision, events);
        }
        Ok(())
    }

    fn event(&self, spec: &Spec, change: &Change) -> Result<Event, HistoryError> {
        if !spec.prev_kv || change.record.prev.is_none() {
            return Ok(change.event().clone());
        }
        let prev = history::prev_kv(&self.core, &change.record)?;
        Ok(event_of(&change.record, prev.as_ref()))
    }

    async fn feed_from_store(&mut self) -> Result<(), HistoryError> {
        let lagging = self.local.lagging(self.stream);
        let core = self.core.clone();
        let batch = match tokio::task::spawn_blocking(move || history::read(&core, lagging)).await {
            Ok(batch) => batch?,
            Err(_) => return Err(HistoryError::Stopped),
        };
        for feed in batch.feeds {
            if !self.local.has(self.stream, feed.watch) {
                continue;
            }
            if let Some(compact_revision) = feed.compacted {
                self.local.remove(self.stream, feed.watch);
                // As etcd has it, this header names no revision.
                let header = Some(self.core.header(0));
                let gone = WatchResponse {
                    header,
                    watch_id: feed.watch,
                    canceled: true,
                    compact_revision,
                    ..Default::default()
                };
                self.answers.push_back(gone);
                continue;
            }
            let sent = !feed.events.is_empty();
            if sent {
                self.push_events(feed.watch, &feed.spec, batch.revision, feed.events);
            }
            self.local.caught_up_to(self.stream, feed.watch, feed.next, sent);
        }
        Ok(())
    }

    /// Queues a response, cut into fragments where the client allows it and the size asks for it.
    fn push_events(&mut self, watch: i64, spec: &Spec, revision: i64, events: Vec<Event>) {
        let header = Some(self.core.header(revision));
        let whole = WatchResponse { header, watch_id: watch, events, ..Default::default() };
        if !spec.fragment || whole.events.len() < 2 || whole.encoded_len() < self.settings.fragment_bytes {
            self.answers.push_back(whole);
            return;
        }
        let mut pieces = VecDeque::new();
        let mut piece = WatchResponse { header, watch_id: watch, fragment: true, ..Default::default() };
        let mut bytes = 0;
        for event in whole.events {
            let len = event.encoded_len();
            if !piece.events.is_empty() && bytes + len >= self.settings.fragment_bytes {
                let next = WatchResponse { events: Vec::new(), ..piece.clone() };
                pieces.push_back(std::mem::replace(&mut piece, next));
                bytes = 0;
            }
            bytes += len;
            piece.events.push(event);
        }
        piece.fragment = false;
        pieces.push_back(piece);
        self.answers.extend(pieces);
    }
}

fn filters(filters: &[i32]) -> (bool, bool) {
    let has = |filter: FilterType| filters.contains(&(filter as i32));
    (has(FilterType::Noput), has(FilterType::Nodelete))
}

/// Up to a tenth longer, so that streams opened together do not tick together.
fn jittered(interval: Duration, stream: u64) -> Duration {
    interval + interval / 100 * (stream % 10) as u32
}
