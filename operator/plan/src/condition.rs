//! The conditions of an `EtcdCluster`. Types, states and reasons are the API's.

pub use keepstone_operator_api::{ConditionState as Truth, ConditionType, Reason};

/// When it changed is for the writer of status to say: only it knows what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub kind: ConditionType,
    pub truth: Truth,
    pub reason: Reason,
    /// The same as long as the reason is: no times and no counts in it.
    pub message: String,
}
