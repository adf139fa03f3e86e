//! What applying a request answers.

use keepstone_proto::etcdserverpb::{
    AlarmResponse, AuthDisableResponse, AuthStatusResponse, CompactionResponse, DeleteRangeResponse,
    LeaseCheckpointResponse, LeaseGrantResponse, LeaseRevokeResponse, MemberAddResponse, MemberPromoteResponse,
    MemberRemoveResponse, MemberUpdateResponse, PutResponse, RangeResponse, TxnResponse,
};

/// The answer to a request that was applied. Of a header only the revision is set, as etcd has it; the door adds the
/// IDs and the term to the outermost one. Membership's answers have no revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseCheckpoint(LeaseCheckpointResponse),
    Alarm(AlarmResponse),
    AuthDisable(AuthDisableResponse),
    AuthStatus(AuthStatusResponse),
    MemberAdd(MemberAddResponse),
    MemberRemove(MemberRemoveResponse),
    MemberPromote(MemberPromoteResponse),
    MemberUpdate(MemberUpdateResponse),
    /// Done, and nobody is told more.
    Done,
}
