//! The conditions of an `EtcdCluster`, and every reason they may give.

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

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Why a condition is what it is. Each is one of the API's reasons, by the same name, and means what
        /// docs/operations.md says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name)),* }
            }
        }
    };
}

reasons! {
    AsExpected,
    QuorumHealthy,
    QuorumAvailable,
    Stable,
    CertificatesValid,
    AllUpdated,
    BackupFresh,
    Bootstrapping,
    ScalingUp,
    ScalingDown,
    LearnerSyncing,
    ReplacingMember,
    Upgrading,
    RollingConfig,
    ResizingStorage,
    Restoring,
    RecoveringQuorum,
    RotatingCA,
    Hibernating,
    WakingUp,
    WaitingForMembers,
    Paused,
    Hibernated,
    TLSDisabled,
    BootstrapFailed,
    QuorumLost,
    AlarmNoSpace,
    AlarmCorrupt,
    SplitBrain,
    /// What has to be known could not be read.
    MembersUnreachable,
    MemberUnhealthy,
    LearnerStuck,
    UpgradeStuck,
    DeadlineExceeded,
    StorageResizeRejected,
    VolumeForeign,
    InvalidSpec,
    CertificatePending,
    CertificateExpired,
    NeverTaken,
    BackupStale,
    BackupFailed,
}

impl Reason {
    /// Whether it says that there is less than was asked for, rather than that something is under way.
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Reason::QuorumLost
                | Reason::SplitBrain
                | Reason::BootstrapFailed
                | Reason::UpgradeStuck
                | Reason::DeadlineExceeded
                | Reason::InvalidSpec
                | Reason::StorageResizeRejected
                | Reason::MemberUnhealthy
                | Reason::LearnerStuck
                | Reason::VolumeForeign
                | Reason::AlarmNoSpace
                | Reason::AlarmCorrupt
        )
    }
}
