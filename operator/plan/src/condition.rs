//! The conditions of an `EtcdCluster`. Their reasons are the API's.

pub use keepstone_operator_api::Reason;

/// In the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    Available,
    Progressing,
    Degraded,
    Ready,
    TlsReady,
    AllMembersUpdated,
    /// Only where there is a backup policy.
    BackupHealthy,
}

impl ConditionType {
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Available => "Available",
            ConditionType::Progressing => "Progressing",
            ConditionType::Degraded => "Degraded",
            ConditionType::Ready => "Ready",
            ConditionType::TlsReady => "TLSReady",
            ConditionType::AllMembersUpdated => "AllMembersUpdated",
            ConditionType::BackupHealthy => "BackupHealthy",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// When it changed is for the writer of status to say: only it knows what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub kind: ConditionType,
    pub truth: Truth,
    pub reason: Reason,
    /// The same as long as the reason is: no times and no counts in it.
    pub message: String,
}
