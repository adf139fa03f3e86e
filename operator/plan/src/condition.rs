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
        /// Why a condition is what it is: there are no others.
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
    /// All is as asked for.
    AsDesired,
    /// Something had to be known and could not be read.
    NotObserved,
    Paused,
    Deleting,
    QuorumHealthy,
    /// A majority is well, not everybody.
    QuorumAvailable,
    QuorumLost,
    SplitBrain,
    Hibernated,
    Hibernating,
    Waking,
    Bootstrapping,
    BootstrapFailed,
    /// There is data of which nobody knows whose it is.
    BootstrapRefused,
    ScalingUp,
    ScalingDown,
    LearnerSyncing,
    ReplacingMember,
    ReplaceUnsafe,
    RecoveringQuorum,
    Restoring,
    SaveFailed,
    RollingConfig,
    Upgrading,
    UpgradeStuck,
    VersionRefused,
    ResizingStorage,
    ResizeRejected,
    RotatingCA,
    Defragmenting,
    Compacting,
    MakingRoom,
    MovingLeader,
    DisarmingAlarm,
    DeadlineExceeded,
    MemberUnhealthy,
    UnknownMember,
    ClaimInTheWay,
    AlarmNoSpace,
    AlarmCorrupt,
    CertificatesValid,
    TLSDisabled,
    CertificatePending,
    CertificateExpired,
    MembersOutdated,
    BackupCurrent,
    BackupFailed,
    BackupStale,
    LastBackupFailed,
    NeverTaken,
}

impl Reason {
    /// Whether it says that there is less than was asked for, rather than that something is under way.
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Reason::NotObserved
                | Reason::QuorumLost
                | Reason::SplitBrain
                | Reason::BootstrapFailed
                | Reason::BootstrapRefused
                | Reason::ReplaceUnsafe
                | Reason::SaveFailed
                | Reason::UpgradeStuck
                | Reason::VersionRefused
                | Reason::ResizeRejected
                | Reason::MemberUnhealthy
                | Reason::UnknownMember
                | Reason::ClaimInTheWay
                | Reason::AlarmNoSpace
                | Reason::AlarmCorrupt
                | Reason::CertificateExpired
                | Reason::BackupFailed
        )
    }
}
