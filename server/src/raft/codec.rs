//! The bytes of what the Raft adapter keeps in the WAL and the store: votes, log IDs, memberships, entries.
//! All integers little-endian. Described in docs/format.md.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use keepstone_proto::etcdserverpb::InternalRaftRequest;
use openraft::EmptyNode;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use prost::Message;

use super::types::{Entry, LogId, Membership, Payload, Proposal, Request, StoredMembership, Vote};

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}

fn take_u8(b: &mut &[u8], what: &str) -> io::Result<u8> {
    b.try_get_u8().map_err(|_| corrupt(what))
}

fn take_u32(b: &mut &[u8], what: &str) -> io::Result<u32> {
    b.try_get_u32_le().map_err(|_| corrupt(what))
}

fn take_u64(b: &mut &[u8], what: &str) -> io::Result<u64> {
    b.try_get_u64_le().map_err(|_| corrupt(what))
}

pub fn log_id(term: u64, index: u64) -> LogId {
    let leader = openraft::impls::leader_id_std::LeaderId::new(term, 0);
    LogId::new(leader.to_committed(), index)
}

pub fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

pub fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = Vec::with_capacity(17);
    out.put_u64_le(vote.leader_id.term);
    out.put_u64_le(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
    out.into()
}

pub fn decode_vote(mut b: &[u8]) -> io::Result<Vote> {
    let term = take_u64(&mut b, "vote")?;
    let node = take_u64(&mut b, "vote")?;
    Ok(match take_u8(&mut b, "vote")? {
        0 => Vote::new(term, node),
        1 => Vote::new_committed(term, node),
        _ => return Err(corrupt("vote")),
    })
}

pub fn encode_log_id(id: &LogId) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&term_of(id).to_le_bytes());
    out[8..].copy_from_slice(&id.index().to_le_bytes());
    out
}

pub fn decode_log_id(mut b: &[u8]) -> io::Result<LogId> {
    let term = take_u64(&mut b, "log id")?;
    let index = take_u64(&mut b, "log id")?;
    Ok(log_id(term, index))
}

fn put_membership(out: &mut Vec<u8>, m: &Membership) {
    let configs = m.get_joint_config();
    out.put_u32_le(configs.len() as u32);
    for config in configs {
        out.put_u32_le(config.len() as u32);
        config.iter().for_each(|id| out.put_u64_le(*id));
    }
    let nodes: Vec<u64> = m.nodes().map(|(id, _)| *id).collect();
    out.put_u32_le(nodes.len() as u32);
    nodes.into_iter().for_each(|id| out.put_u64_le(id));
}

fn take_ids(b: &mut &[u8]) -> io::Result<BTreeSet<u64>> {
    (0..take_u32(b, "membership")?).map(|_| take_u64(b, "membership")).collect()
}

fn take_membership(b: &mut &[u8]) -> io::Result<Membership> {
    let configs = (0..take_u32(b, "membership")?).map(|_| take_ids(b)).collect::<io::Result<Vec<_>>>()?;
    let nodes: BTreeMap<u64, EmptyNode> = take_ids(b)?.into_iter().map(|id| (id, EmptyNode {})).collect();
    Membership::new(configs, nodes).map_err(|e| corrupt(&format!("membership: {e}")))
}

/// What a checkpoint knows of the log: the last applied entry and the membership in force there.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub log_id: Option<LogId>,
    pub membership: StoredMembership,
}

pub fn encode_applied(applied: &Applied) -> Bytes {
    let mut out = Vec::with_capacity(64);
    for id in [applied.log_id.as_ref(), applied.membership.log_id().as_ref()] {
        match id {
            Some(id) => {
                out.put_u8(1);
                out.put_slice(&encode_log_id(id));
            }
            None => out.put_u8(0),
        }
    }
    put_membership(&mut out, applied.membership.membership());
    out.into()
}

pub fn decode_applied(mut b: &[u8]) -> io::Result<Applied> {
    let mut ids = [None, None];
    for id in &mut ids {
        if take_u8(&mut b, "applied")? == 1 {
            let term = take_u64(&mut b, "applied")?;
            *id = Some(log_id(term, take_u64(&mut b, "applied")?));
        }
    }
    let membership = take_membership(&mut b)?;
    let [applied, at] = ids;
    Ok(Applied { log_id: applied, membership: StoredMembership::new(at, membership) })
}

/// `kind, body`: what the WAL stores for one log entry. Its index and term are the WAL's own.
pub fn encode_payload(payload: &Payload) -> Bytes {
    let mut out = Vec::new();
    match payload {
        Payload::Blank => out.put_u8(BLANK),
        Payload::Normal(p) => {
            let body: usize = p.requests.iter().map(|r| r.encoded.len() + 4).sum();
            out.reserve_exact(1 + body);
            out.put_u8(NORMAL);
            for r in p.requests.iter() {
                out.put_u32_le(r.encoded.len() as u32);
                out.put_slice(&r.encoded);
            }
        }
        Payload::Membership(m) => {
            out.put_u8(MEMBERSHIP);
            put_membership(&mut out, m);
        }
    }
    out.into()
}

/// The requests of a normal entry as they stand in the log; none for the other kinds.
///
/// # Errors
/// When the bytes are no payload of ours.
pub fn requests(payload: &Bytes) -> io::Result<Vec<Bytes>> {
    let mut b: &[u8] = payload;
    if take_u8(&mut b, "log entry")? != NORMAL {
        return Ok(Vec::new());
    }
    let mut requests = Vec::new();
    while b.has_remaining() {
        let len = take_u32(&mut b, "log entry")? as usize;
        let Some((request, rest)) = b.split_at_checked(len) else {
            return Err(corrupt("log entry"));
        };
        requests.push(payload.slice_ref(request));
        b = rest;
    }
    Ok(requests)
}

/// The entry that was encoded as `payload`.
///
/// # Errors
/// When the bytes are no payload of ours.
pub fn decode_entry(id: LogId, payload: &Bytes) -> io::Result<Entry> {
    let mut b: &[u8] = payload;
    let payload = match take_u8(&mut b, "log entry")? {
        BLANK => Payload::Blank,
        MEMBERSHIP => Payload::Membership(take_membership(&mut b)?),
        NORMAL => {
            let decode = |encoded: Bytes| {
                let decoded = InternalRaftRequest::decode(encoded.clone())
                    .map_err(|e| corrupt(&format!("request in log entry {}: {e}", id.index())))?;
                Ok(Request { encoded, decoded: Box::new(decoded) })
            };
            let requests = requests(payload)?.into_iter().map(decode).collect::<io::Result<Arc<[Request]>>>()?;
            Payload::Normal(Proposal { requests })
        }
        _ => return Err(corrupt("log entry: unknown kind")),
    };
    Ok(Entry::new(id, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for vote in [Vote::new(3, 7), Vote::new_committed(3, 7)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).expect("a vote"), vote);
        }
        let id = log_id(5, 9);
        assert_eq!(decode_log_id(&encode_log_id(&id)).expect("an id"), id);
        let membership = Membership::new_with_defaults(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], [4]);
        let applied =
            Applied { log_id: Some(id), membership: StoredMembership::new(Some(log_id(1, 1)), membership.clone()) };
        let back = decode_applied(&encode_applied(&applied)).expect("applied");
        assert_eq!((back.log_id, back.membership), (applied.log_id, applied.membership));
        let none = decode_applied(&encode_applied(&Applied::default())).expect("applied");
        assert_eq!((none.log_id, none.membership), (None, StoredMembership::default()));
        let request = Request::new(InternalRaftRequest { id: 3, ..Default::default() });
        let normal = Payload::Normal(Proposal { requests: vec![request.clone(), request].into() });
        for payload in [Payload::Blank, Payload::Membership(membership), normal] {
            let bytes = encode_payload(&payload);
            let back = decode_entry(id, &bytes).expect("an entry");
            assert_eq!(back.log_id(), id);
            assert_eq!(encode_payload(&back.payload), bytes);
        }
    }

    #[test]
    fn cut_bytes_are_refused_not_misread() {
        let request = Request::new(InternalRaftRequest { id: 300, ..Default::default() });
        let bytes = encode_payload(&Payload::Normal(Proposal { requests: vec![request].into() }));
        for len in 2..bytes.len() {
            assert!(decode_entry(log_id(1, 1), &bytes.slice(..len)).is_err());
        }
        assert!(decode_vote(&[0; 16]).is_err());
        assert!(decode_applied(&[1, 0]).is_err());
    }
}
