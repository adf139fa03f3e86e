//! The one table from the state machine's errors to gRPC statuses.
//!
//! Texts and codes are the state's own ([`Error`] holds etcd's words): nothing is added to them here, because clients
//! tell errors apart by their text.

use keepstone_state::{Code, Error};
use tonic::Status;

/// The status that a client is sent for `error`.
#[must_use]
pub fn status(error: &Error) -> Status {
    Status::new(code(error.code()), error.to_string())
}

/// gRPC's code by the name the state has for it.
#[must_use]
pub fn code(code: Code) -> tonic::Code {
    match code {
        Code::Canceled => tonic::Code::Cancelled,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unknown => tonic::Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tonic::Code;

    use super::*;

    /// What etcd 3.6.16's server puts on the wire. Two of them are declared with other codes there and lose them on
    /// the way out: not enough started members, and too many requests.
    const WIRE: &[(Code, &str)] = &[
        (Code::InvalidArgument, "etcdserver: key is not provided"),
        (Code::InvalidArgument, "etcdserver: key not found"),
        (Code::InvalidArgument, "etcdserver: value is provided"),
        (Code::InvalidArgument, "etcdserver: lease is provided"),
        (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
        (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
        (Code::InvalidArgument, "etcdserver: invalid client api version"),
        (Code::InvalidArgument, "etcdserver: invalid sort option"),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        (Code::NotFound, "etcdserver: requested lease not found"),
        (Code::FailedPrecondition, "etcdserver: lease already exists"),
        (Code::OutOfRange, "etcdserver: too large lease TTL"),
        (Code::Cancelled, "etcdserver: watch canceled"),
        (Code::FailedPrecondition, "etcdserver: member ID already exist"),
        (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
        (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members"),
        (Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
        (Code::NotFound, "etcdserver: member not found"),
        (Code::FailedPrecondition, "etcdserver: can only promote a learner member"),
        (Code::FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader"),
        (Code::FailedPrecondition, "etcdserver: too many learner members in cluster"),
        (Code::FailedPrecondition, "etcdserver: cluster ID mismatch"),
        (Code::InvalidArgument, "etcdserver: request is too large"),
        (Code::Unknown, "etcdserver: too many requests"),
        (Code::FailedPrecondition, "etcdserver: root user does not exist"),
        (Code::FailedPrecondition, "etcdserver: root user does not have root role"),
        (Code::FailedPrecondition, "etcdserver: user name already exists"),
        (Code::InvalidArgument, "etcdserver: user name is empty"),
        (Code::FailedPrecondition, "etcdserver: user name not found"),
        (Code::FailedPrecondition, "etcdserver: role name already exists"),
        (Code::FailedPrecondition, "etcdserver: role name not found"),
        (Code::InvalidArgument, "etcdserver: role name is empty"),
        (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
        (Code::InvalidArgument, "etcdserver: permission not given"),
        (Code::PermissionDenied, "etcdserver: permission denied"),
        (Code::FailedPrecondition, "etcdserver: role is not granted to the user"),
        (Code::FailedPrecondition, "etcdserver: permission is not granted to the role"),
        (Code::FailedPrecondition, "etcdserver: authentication is not enabled"),
        (Code::Unauthenticated, "etcdserver: invalid auth token"),
        (Code::InvalidArgument, "etcdserver: invalid auth management"),
        (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
        (Code::Unavailable, "etcdserver: no leader"),
        (Code::FailedPrecondition, "etcdserver: not leader"),
        (Code::Unavailable, "etcdserver: leader changed"),
        (Code::FailedPrecondition, "etcdserver: not capable"),
        (Code::Unavailable, "etcdserver: server stopped"),
        (Code::Unavailable, "etcdserver: request timed out"),
        (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
        (Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost"),
        (Code::Unavailable, "etcdserver: request timed out, waiting for the applied index took too long"),
        (Code::Unavailable, "etcdserver: unhealthy cluster"),
        (Code::DataLoss, "etcdserver: corrupt cluster"),
        (Code::FailedPrecondition, "etcdserver: rpc not supported for learner"),
        (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
        (Code::InvalidArgument, "etcdserver: wrong downgrade target version format"),
        (Code::InvalidArgument, "etcdserver: invalid downgrade target version"),
        (Code::FailedPrecondition, "etcdserver: cluster version not found during downgrade"),
        (Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress"),
        (Code::FailedPrecondition, "etcdserver: no inflight downgrade job"),
        (Code::Cancelled, "etcdserver: request canceled"),
        (Code::DeadlineExceeded, "etcdserver: context deadline exceeded"),
    ];

    #[test]
    fn every_error_of_etcd_leaves_with_its_code_and_text() {
        let statuses = Error::ALL.iter().map(status).map(|s| (s.message().to_owned(), s.code()));
        let mut ours: BTreeMap<_, _> = statuses.collect();
        for (code, text) in WIRE {
            assert_eq!(ours.remove(*text), Some(*code), "{text}");
        }
        // What is left has no etcd's text, and says so.
        assert!(ours.keys().all(|text| text.starts_with("keepstone: ")), "{ours:?}");
    }
}
