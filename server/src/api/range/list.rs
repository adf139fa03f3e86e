//! A list too long to be kept: read in passes at a pinned revision. The first measures, the second sends.

use std::ops::ControlFlow;
use std::sync::Arc;

use keepstone_proto::KeyValue;
use keepstone_proto::etcdserverpb::RangeRequest;
use keepstone_state::Revision;
use keepstone_state::range::Plan;
use tokio::runtime::Handle;
use tonic::Status;

use super::allowance::Share;
use super::body::Sender;
use super::sorted::{self, Sorted};
use super::write::{Format, Frame, Writer, field_len};
use super::{Position, Reading, STEP_BYTES, STEP_KEYS, get_here};
use crate::api::pace::Unread;
use crate::core::Core;
use crate::pins::Pin;

/// What a first look at a range has found, and where it stopped.
pub struct Part {
    /// What the answer needs of the first keys, in key order.
    pub kvs: Vec<KeyValue>,
    pub position: Position,
    pub pin: Arc<Pin>,
    /// The store's revision when it began.
    pub current: i64,
    pub count: usize,
}

/// See the module's head.
pub struct List {
    core: Arc<Core>,
    request: RangeRequest,
    part: Part,
    rest: Rest,
    shown: usize,
    frame: Frame,
    _share: Share,
}

enum Rest {
    /// What comes behind the part, in key order.
    Behind,
    /// Everything; the part is not looked at.
    Places(Vec<Revision>),
}

/// Why a pass broke off.
enum Stopped {
    Unread(Unread),
    Failed(Status),
}

impl From<Status> for Stopped {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl List {
    /// The first pass. Reads everything: call it on a thread of its own. `gone` tells that nobody waits any more.
    ///
    /// # Errors
    /// What reading meets; a message that is too long to be sent, or an order that is too large to be held.
    pub fn measure(
        core: Arc<Core>,
        request: RangeRequest,
        part: Part,
        share: Share,
        gone: &dyn Fn() -> bool,
    ) -> Result<Self, Status> {
        let frame = Frame { header: core.header(part.current), more: false, count: part.count, kvs_bytes: 0 };
        let mut list = Self { core, request, part, rest: Rest::Behind, shown: 0, frame, _share: share };
        if sorted::is_sorted(&list.request) {
            let plan = Plan::again(&list.request, list.part.current);
            let reading = Reading::resume(&list.core, plan, list.part.pin.clone(), list.part.position.clone());
            let Sorted { places, kvs_bytes, more } = sorted::sort(&list.core, &list.request, reading, gone)?;
            list.shown = places.len();
            list.frame = Frame { kvs_bytes, more, ..list.frame };
            list.rest = Rest::Places(places);
        } else {
            let limit = usize::try_from(list.request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
            let (mut shown, mut kvs_bytes, mut more) = (0, 0, false);
            let pass = list.each(&mut |kv| {
                if shown == limit || gone() {
                    more = true;
                    return Ok(ControlFlow::Break(()));
                }
                shown += 1;
                kvs_bytes += field_len(kv);
                Ok(ControlFlow::Continue(()))
            });
            match pass {
                Err(Stopped::Failed(status)) => return Err(status),
                Ok(()) | Err(Stopped::Unread(_)) => {}
            }
            list.shown = shown;
            list.frame = Frame { kvs_bytes, more, ..list.frame };
        }
        list.frame.check()?;
        Ok(list)
    }

    /// The second pass. Blocks while the client does not read: call it on a thread of its own.
    pub fn send(self, format: Format, mut sender: Sender, runtime: &Handle) {
        let mut writer = Writer::new(format, self.frame);
        let mut left = self.shown;
        let pass = self.each(&mut |kv| {
            if left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            writer.put(kv);
            if writer.len() >= super::body::PIECE_BYTES {
                runtime.block_on(sender.send(&mut writer)).map_err(Stopped::Unread)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        let sent = match pass {
            Ok(()) => runtime.block_on(sender.finish(&mut writer)),
            Err(Stopped::Failed(why)) => {
                runtime.block_on(sender.fail(why));
                Ok(())
            }
            Err(Stopped::Unread(why)) => Err(why),
        };
        if sent == Err(Unread::Slow) {
            tracing::warn!(keys = self.shown, "a list was not read in time and is broken off");
        }
    }

    /// One pass over what the answer shows.
    fn each(&self, visit: &mut dyn FnMut(&KeyValue) -> Result<ControlFlow<()>, Stopped>) -> Result<(), Stopped> {
        let plan = Plan::again(&self.request, self.part.current);
        if let Rest::Places(places) = &self.rest {
            for at in places {
                if visit(&plan.shown(get_here(&self.core, &self.part.pin, *at)?))?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        for kv in &self.part.kvs {
            if visit(kv)?.is_break() {
                return Ok(());
            }
        }
        let mut reading = Reading::resume(&self.core, plan, self.part.pin.clone(), self.part.position.clone());
        loop {
            let values = reading.next_values_here(STEP_KEYS, STEP_BYTES)?;
            if values.is_empty() {
                return Ok(());
            }
            for kv in values.into_iter().filter_map(|kv| plan.keep(kv)) {
                if visit(&kv)?.is_break() {
                    return Ok(());
                }
            }
        }
    }
}
