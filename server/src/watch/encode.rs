//! Watch responses as the bytes of a gRPC stream. Events are put in as they are encoded already, once for everybody.

use std::ops::Range;

use keepstone_proto::Event;
use keepstone_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// A flag and the length stand before each message.
pub const PREFIX: usize = 5;

/// Fields of a `WatchResponse`, each with its wire type: what stands before a value.
const HEADER: u8 = 1 << 3 | 2;
const WATCH_ID: u8 = 2 << 3;
const FRAGMENT: u8 = 7 << 3;
const EVENT: u8 = 11 << 3 | 2;

/// Appends a response without events, or in no hurry.
pub fn response(out: &mut Vec<u8>, response: &WatchResponse) {
    prefix(out, response.encoded_len());
    response.encode_raw(out);
}

/// The header of responses, encoded. Kept from one to the next: mostly the same.
#[derive(Debug, Default)]
pub struct Head {
    of: Option<ResponseHeader>,
    bytes: Vec<u8>,
}

impl Head {
    pub fn set(&mut self, header: ResponseHeader) {
        if self.of != Some(header) {
            self.bytes.clear();
            self.bytes.push(HEADER);
            encode_varint(header.encoded_len() as u64, &mut self.bytes);
            header.encode_raw(&mut self.bytes);
            self.of = Some(header);
        }
    }
}

/// Bytes of a response with these events.
pub fn events_len(head: &Head, watch: i64, fragment: bool, events: &[Event]) -> usize {
    let id = if watch == 0 { 0 } else { 1 + encoded_len_varint(watch as u64) };
    let events: usize = events.iter().map(event_len).sum();
    head.bytes.len() + id + if fragment { 2 } else { 0 } + events
}

/// Bytes of an event in a response.
pub fn event_len(event: &Event) -> usize {
    let len = event.raw().len();
    1 + encoded_len_varint(len as u64) + len
}

/// Appends a response with these events, and tells where in `out` they are.
pub fn events(out: &mut Vec<u8>, head: &Head, watch: i64, fragment: bool, events: &[Event]) -> Range<usize> {
    prefix(out, events_len(head, watch, fragment, events));
    before_events(out, head, watch);
    if fragment {
        out.extend_from_slice(&[FRAGMENT, 1]);
    }
    let from = out.len();
    for event in events {
        out.push(EVENT);
        encode_varint(event.raw().len() as u64, out);
        out.extend_from_slice(event.raw());
    }
    from..out.len()
}

/// Appends a response with events that `out` has already.
pub fn same_events(out: &mut Vec<u8>, head: &Head, watch: i64, events: Range<usize>) {
    prefix(out, events_len(head, watch, false, &[]) + events.len());
    before_events(out, head, watch);
    out.extend_from_within(events);
}

fn before_events(out: &mut Vec<u8>, head: &Head, watch: i64) {
    out.extend_from_slice(&head.bytes);
    if watch != 0 {
        out.push(WATCH_ID);
        encode_varint(watch as u64, out);
    }
}

fn prefix(out: &mut Vec<u8>, len: usize) {
    // A message of 4 GiB can't be: what a response holds is bounded.
    let len32 = u32::try_from(len).expect("a response is shorter than 4 GiB");
    out.reserve(PREFIX + len);
    out.push(0);
    out.extend_from_slice(&len32.to_be_bytes());
}

/// The message at the front of `bytes` and how many it takes, prefix included.
pub fn first(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX)?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    Some((rest.get(..len)?, PREFIX + len))
}

#[cfg(test)]
mod tests {
    use keepstone_proto::{KeyValue, KeyValueParts};

    use super::*;

    #[test]
    fn a_response_with_events_is_what_a_protobuf_library_makes_of_it() {
        let kv = |len| KeyValue::new(&KeyValueParts { key: b"k", value: &vec![7; len], ..KeyValueParts::default() });
        let some =
            vec![Event::put(&kv(3), None), Event::delete(b"k", 9, Some(&kv(300))), Event::put(&kv(20_000), None)];
        let mut head = Head::default();
        for (watch_id, revision) in [(0, 0), (1, 1), (-1, 1), (i64::MAX, i64::MAX), (300, 77)] {
            let header = ResponseHeader { cluster_id: u64::MAX, member_id: 5, revision, raft_term: 2 };
            head.set(header);
            for (fragment, events) in [(false, vec![]), (true, some[..1].to_vec()), (false, some.clone())] {
                let message =
                    WatchResponse { header: Some(header), watch_id, fragment, events, ..WatchResponse::default() };
                let (mut ours, mut theirs) = (vec![9], vec![9]);
                let at = super::events(&mut ours, &head, watch_id, fragment, &message.events);
                response(&mut theirs, &message);
                assert_eq!(ours, theirs);
                if !fragment {
                    let once = ours.len();
                    same_events(&mut ours, &head, watch_id, at);
                    assert_eq!(ours.split_off(once), ours[1..]);
                }
                assert_eq!(events_len(&head, watch_id, fragment, &message.events), message.encoded_len());
                let (body, len) = first(&ours[1..]).expect("whole");
                assert_eq!((WatchResponse::decode(body).expect("sound"), len), (message, ours.len() - 1));
                assert!(first(&ours[1..ours.len() - 1]).is_none());
            }
        }
    }
}
