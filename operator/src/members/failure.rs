//! How a call fails. That nothing was heard is not that nothing was done.

use std::fmt;

use tonic::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody answered in time, or the connection broke. A change may have been made all the same.
    #[error("no answer: {0}")]
    Silence(String),
    /// The member answered that it won't.
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("{0:?} is no URL")]
    Url(String),
}

/// A member's no, as far as something is decided by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is added already.
    PeerUrlExists,
    /// It is removed already, or never was.
    MemberNotFound,
    /// It is promoted already.
    NotALearner,
    /// The learner has not caught up.
    LearnerNotReady,
    /// One is there already.
    TooManyLearners,
    /// The change would cost the quorum.
    NotEnoughMembers,
    /// Not all members have been heard of for long enough to change who they are.
    UnhealthyCluster,
    NotLeader,
    /// Whom leadership can't be handed to.
    BadTransferee,
    /// The revision is compacted already.
    Compacted,
    /// The revision is not there yet.
    FutureRevision,
    /// A learner does not serve this.
    Learner,
    /// In the member's words.
    Other(String),
}

const WORDS: &[(&str, Refusal)] = &[
    ("etcdserver: Peer URLs already exists", Refusal::PeerUrlExists),
    ("etcdserver: member not found", Refusal::MemberNotFound),
    ("etcdserver: can only promote a learner member", Refusal::NotALearner),
    ("etcdserver: can only promote a learner member which is in sync with leader", Refusal::LearnerNotReady),
    ("etcdserver: too many learner members in cluster", Refusal::TooManyLearners),
    ("etcdserver: re-configuration failed due to not enough started members", Refusal::NotEnoughMembers),
    ("etcdserver: unhealthy cluster", Refusal::UnhealthyCluster),
    ("etcdserver: not leader", Refusal::NotLeader),
    ("etcdserver: bad leader transferee", Refusal::BadTransferee),
    ("etcdserver: mvcc: required revision has been compacted", Refusal::Compacted),
    ("etcdserver: mvcc: required revision is a future revision", Refusal::FutureRevision),
    ("etcdserver: rpc not supported for learner", Refusal::Learner),
];

impl From<tonic::Status> for CallError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            // Said before anything is tried, under a code that most say when they don't know.
            Code::Unavailable if refusal(status.message()) == Refusal::UnhealthyCluster => {
                Self::Refused(Refusal::UnhealthyCluster)
            }
            // Also a member's "request timed out" and "no leader": it doesn't know what became of it.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Silence(status.message().to_owned()),
            _ => Self::Refused(refusal(status.message())),
        }
    }
}

impl fmt::Display for Refusal {
    /// The member's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(words) => f.write_str(words),
            known => f.write_str(WORDS.iter().find(|(_, refusal)| refusal == known).map_or("", |(words, _)| words)),
        }
    }
}

fn refusal(message: &str) -> Refusal {
    let known = WORDS.iter().find(|(words, _)| *words == message);
    known.map_or_else(|| Refusal::Other(message.to_owned()), |(_, refusal)| refusal.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken for a no, it would be done once more, or given up.
    #[test]
    fn a_change_that_timed_out_is_not_taken_for_refused() {
        for words in ["etcdserver: request timed out", "etcdserver: no leader", "etcdserver: leader changed"] {
            assert_eq!(CallError::from(tonic::Status::unavailable(words)), CallError::Silence(words.to_owned()));
        }
    }

    #[test]
    fn a_cluster_that_is_too_young_for_a_change_refuses_it() {
        let words = "etcdserver: unhealthy cluster";
        let error = CallError::from(tonic::Status::unavailable(words));
        assert_eq!(error, CallError::Refused(Refusal::UnhealthyCluster));
        assert_eq!(error.to_string(), format!("refused: {words}"));
    }

    #[test]
    fn a_learner_that_is_behind_is_told_from_one_that_is_none_any_more() {
        let of = |words: &str| CallError::from(tonic::Status::failed_precondition(words));
        let sync = "etcdserver: can only promote a learner member which is in sync with leader";
        assert_eq!(of(sync), CallError::Refused(Refusal::LearnerNotReady));
        let not = "etcdserver: can only promote a learner member";
        assert_eq!(of(not), CallError::Refused(Refusal::NotALearner));
        assert_eq!(of(sync).to_string(), format!("refused: {sync}"));
        assert_eq!(of("something"), CallError::Refused(Refusal::Other("something".to_owned())));
    }
}
