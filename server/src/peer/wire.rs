//! Raft's messages as the bytes of `peer.proto`, and back. Bytes that make no sense are an error, never a guess.

use std::io;

use bytes::Bytes;
use keepstone_proto::keepstonepb::append_answer::Outcome;
use keepstone_proto::keepstonepb::{self as pb, peer_answer, peer_message};
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use prost::Message;

use crate::raft::codec::{self, corrupt};
use crate::raft::types::{LogId, TypeConfig, Vote};

pub type Append = AppendEntriesRequest<TypeConfig>;

/// A message's bytes.
pub fn message(kind: peer_message::Kind) -> Bytes {
    pb::PeerMessage { kind: Some(kind) }.encode_to_vec().into()
}

/// An answer's bytes.
pub fn answer(kind: peer_answer::Kind) -> Bytes {
    pb::PeerAnswer { kind: Some(kind) }.encode_to_vec().into()
}

/// # Errors
/// Bytes that are no message, or one this version does not know.
pub fn read_message(bytes: Bytes) -> io::Result<peer_message::Kind> {
    let message = pb::PeerMessage::decode(bytes).map_err(|error| corrupt(&format!("message of a peer: {error}")))?;
    message.kind.ok_or_else(|| corrupt("message of a peer: this version does not know its kind"))
}

/// # Errors
/// Bytes that are no answer, or one this version does not know.
pub fn read_answer(bytes: Bytes) -> io::Result<peer_answer::Kind> {
    let answer = pb::PeerAnswer::decode(bytes).map_err(|error| corrupt(&format!("answer of a peer: {error}")))?;
    answer.kind.ok_or_else(|| corrupt("answer of a peer: this version does not know its kind"))
}

fn put_id(id: Option<&LogId>) -> Bytes {
    id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&codec::encode_log_id(id)))
}

fn take_id(bytes: &[u8]) -> io::Result<Option<LogId>> {
    if bytes.is_empty() { Ok(None) } else { codec::decode_log_id(bytes).map(Some) }
}

pub fn put_vote(request: &VoteRequest<TypeConfig>) -> pb::Vote {
    pb::Vote {
        vote: codec::encode_vote(&request.vote),
        last: put_id(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

/// # Errors
/// Malformed bytes.
pub fn take_vote(vote: &pb::Vote) -> io::Result<VoteRequest<TypeConfig>> {
    let mut request = VoteRequest::new(codec::decode_vote(&vote.vote)?, take_id(&vote.last)?);
    request.leadership_transfer = vote.leadership_transfer;
    Ok(request)
}

pub fn put_vote_answer(answer: &VoteResponse<TypeConfig>) -> pb::VoteAnswer {
    pb::VoteAnswer {
        vote: codec::encode_vote(&answer.vote),
        granted: answer.vote_granted,
        last: put_id(answer.last_log_id.as_ref()),
    }
}

/// # Errors
/// Malformed bytes.
pub fn take_vote_answer(answer: &pb::VoteAnswer) -> io::Result<VoteResponse<TypeConfig>> {
    Ok(VoteResponse::new(codec::decode_vote(&answer.vote)?, take_id(&answer.last)?, answer.granted))
}

pub fn put_append(request: &Append) -> pb::Append {
    let entry = |entry: &crate::raft::types::Entry| {
        let id = entry.log_id();
        pb::LogEntry { term: codec::term_of(&id), index: id.index(), payload: codec::encode_payload(&entry.payload) }
    };
    pb::Append {
        vote: codec::encode_vote(&request.vote),
        prev: put_id(request.prev_log_id.as_ref()),
        entries: request.entries.iter().map(entry).collect(),
        commit: put_id(request.leader_commit.as_ref()),
    }
}

/// # Errors
/// Malformed bytes.
pub fn take_append(append: pb::Append) -> io::Result<Append> {
    let entry = |entry: pb::LogEntry| codec::decode_entry(codec::log_id(entry.term, entry.index), &entry.payload);
    Ok(Append {
        vote: codec::decode_vote(&append.vote)?,
        prev_log_id: take_id(&append.prev)?,
        entries: append.entries.into_iter().map(entry).collect::<io::Result<_>>()?,
        leader_commit: take_id(&append.commit)?,
    })
}

/// # Errors
/// Malformed bytes.
pub fn take_append_bytes(bytes: Bytes) -> io::Result<Append> {
    take_append(pb::Append::decode(bytes).map_err(|error| corrupt(&format!("entries of a peer: {error}")))?)
}

fn append_answer(outcome: Outcome, at: Bytes) -> pb::AppendAnswer {
    pb::AppendAnswer { outcome: outcome as i32, at }
}

pub fn put_append_answer(answer: &AppendEntriesResponse<TypeConfig>) -> pb::AppendAnswer {
    match answer {
        AppendEntriesResponse::Success => append_answer(Outcome::Matched, Bytes::new()),
        AppendEntriesResponse::PartialSuccess(at) => append_answer(Outcome::Partial, put_id(at.as_ref())),
        AppendEntriesResponse::Conflict => append_answer(Outcome::Conflict, Bytes::new()),
        AppendEntriesResponse::HigherVote(vote) => append_answer(Outcome::HigherVote, codec::encode_vote(vote)),
    }
}

/// # Errors
/// Malformed bytes.
pub fn take_append_answer(answer: &pb::AppendAnswer) -> io::Result<AppendEntriesResponse<TypeConfig>> {
    Ok(match Outcome::try_from(answer.outcome).map_err(|_| corrupt("answer to entries"))? {
        Outcome::Matched => AppendEntriesResponse::Success,
        Outcome::Partial => AppendEntriesResponse::PartialSuccess(take_id(&answer.at)?),
        Outcome::Conflict => AppendEntriesResponse::Conflict,
        Outcome::HigherVote => AppendEntriesResponse::HigherVote(codec::decode_vote(&answer.at)?),
    })
}

/// The answer to one message of a stream of entries.
pub fn put_stream_answer(answer: &StreamAppendResult<TypeConfig>) -> Bytes {
    let answer = match answer {
        Ok(at) => append_answer(Outcome::Matched, put_id(at.as_ref())),
        Err(StreamAppendError::Conflict(at)) => append_answer(Outcome::Conflict, put_id(Some(at))),
        Err(StreamAppendError::HigherVote(vote)) => append_answer(Outcome::HigherVote, codec::encode_vote(vote)),
    };
    answer.encode_to_vec().into()
}

/// # Errors
/// Malformed bytes.
pub fn take_stream_answer(bytes: Bytes) -> io::Result<StreamAppendResult<TypeConfig>> {
    let answer = pb::AppendAnswer::decode(bytes).map_err(|error| corrupt(&format!("answer to entries: {error}")))?;
    Ok(match Outcome::try_from(answer.outcome).map_err(|_| corrupt("answer to entries"))? {
        Outcome::Matched | Outcome::Partial => Ok(take_id(&answer.at)?),
        Outcome::Conflict => {
            Err(StreamAppendError::Conflict(take_id(&answer.at)?.ok_or_else(|| corrupt("answer to entries"))?))
        }
        Outcome::HigherVote => Err(StreamAppendError::HigherVote(codec::decode_vote(&answer.at)?)),
    })
}

pub fn put_transfer(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferLeader {
    pb::TransferLeader {
        vote: codec::encode_vote(request.from_leader()),
        to: *request.to_node_id(),
        last: put_id(request.last_log_id()),
    }
}

/// # Errors
/// Malformed bytes.
pub fn take_transfer(transfer: &pb::TransferLeader) -> io::Result<TransferLeaderRequest<TypeConfig>> {
    let vote: Vote = codec::decode_vote(&transfer.vote)?;
    Ok(TransferLeaderRequest::new(vote, transfer.to, take_id(&transfer.last)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keepstone_proto::etcdserverpb::InternalRaftRequest;

    use super::*;
    use crate::raft::types::{Entry, Payload, Proposal, Request};

    #[test]
    fn what_is_sent_arrives() {
        let request = Request::new(InternalRaftRequest { id: 3, ..Default::default() });
        let payload = Payload::Normal(Proposal { requests: Arc::new([request]) });
        let append = Append {
            vote: Vote::new_committed(3, 7),
            prev_log_id: Some(codec::log_id(2, 5)),
            entries: vec![Entry::new(codec::log_id(3, 6), payload), Entry::new(codec::log_id(3, 7), Payload::Blank)],
            leader_commit: None,
        };
        let back = take_append_bytes(put_append(&append).encode_to_vec().into()).expect("entries");
        assert_eq!(put_append(&back), put_append(&append));
        assert_eq!((back.vote, back.prev_log_id, back.leader_commit), (append.vote, append.prev_log_id, None));

        let mut vote = VoteRequest::<TypeConfig>::new(Vote::new(4, 2), Some(codec::log_id(3, 9)));
        vote.leadership_transfer = true;
        assert_eq!(take_vote(&put_vote(&vote)).expect("a vote"), vote);
        let answer = VoteResponse::<TypeConfig>::new(Vote::new(4, 2), None, true);
        assert_eq!(take_vote_answer(&put_vote_answer(&answer)).expect("an answer"), answer);

        let outcomes: [StreamAppendResult<TypeConfig>; 4] = [
            Ok(None),
            Ok(Some(codec::log_id(1, 2))),
            Err(StreamAppendError::Conflict(codec::log_id(1, 2))),
            Err(StreamAppendError::HigherVote(Vote::new(9, 1))),
        ];
        for outcome in outcomes {
            assert_eq!(take_stream_answer(put_stream_answer(&outcome)).expect("an answer"), outcome);
        }
        for answer in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(codec::log_id(1, 2))),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(Vote::new(9, 1)),
        ] {
            assert_eq!(take_append_answer(&put_append_answer(&answer)).expect("an answer"), answer);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(read_message(Bytes::from_static(b"\xff\xff")).is_err());
        assert!(read_message(Bytes::new()).is_err());
        assert!(take_append_bytes(pb::Append::default().encode_to_vec().into()).is_err());
        let unknown = pb::AppendAnswer { outcome: 9, at: Bytes::new() };
        assert!(take_append_answer(&unknown).is_err());
    }
}
