//! Why a condition stands as it does: a closed list. Each has a paragraph in docs/operations.md, and a test sees to it.

/// Declares the enum, the list of all, and their names.
macro_rules! reasons {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// The reason of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$about])* $name,)*
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// As it stands in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    // All is well.
    /// Nothing is amiss.
    AsExpected,
    /// All members are healthy.
    QuorumHealthy,
    /// A quorum is healthy, not everybody.
    QuorumAvailable,
    /// Nothing is under way and nothing waits.
    Stable,
    /// All certificates are valid and trusted.
    CertificatesValid,
    /// Every pod is what the spec says.
    AllUpdated,
    /// The newest backup is as young as its schedule asks.
    BackupFresh,

    // What is under way.
    /// The cluster is being founded, or the first members join.
    Bootstrapping,
    /// A member is being added.
    ScalingUp,
    /// A member is being removed.
    ScalingDown,
    /// A learner catches up.
    LearnerSyncing,
    /// A member is removed and another added in its place.
    ReplacingMember,
    /// Pods go to another version, one by one.
    Upgrading,
    /// Pods go to another configuration, one by one.
    RollingConfig,
    /// Volumes grow.
    ResizingStorage,
    /// The data of a backup is put in place.
    Restoring,
    /// The cluster goes on from one survivor.
    RecoveringQuorum,
    /// A CA is being replaced.
    RotatingCA,
    /// Members are being stopped, their data kept.
    Hibernating,
    /// Members start again after hibernation.
    WakingUp,
    /// A change is wanted, and waits until members are healthy.
    WaitingForMembers,

    // Rest that was asked for.
    /// `spec.paused` is set.
    Paused,
    /// `spec.hibernate` is set.
    Hibernated,
    /// TLS is `disabled`.
    TLSDisabled,
    /// `spec.backup.suspend` is set.
    BackupSuspended,

    // What keeps a cluster from serving.
    /// The cluster could not be founded.
    BootstrapFailed,
    /// Too few members are left to agree on anything.
    QuorumLost,
    /// A member's quota is used up; writes are refused.
    AlarmNoSpace,
    /// A member's data differs from the others'.
    AlarmCorrupt,
    /// Members belong to clusters of different IDs.
    SplitBrain,
    /// The operator reaches no member.
    MembersUnreachable,

    // What makes it less safe than asked.
    /// A member does not serve.
    MemberUnhealthy,
    /// A member's container ends again and again.
    MemberCrashLooping,
    /// A pod finds no node.
    Unschedulable,
    /// The image can't be pulled.
    ImagePullFailed,
    /// A learner makes no headway.
    LearnerStuck,
    /// The first new pod does not become healthy; no other is touched.
    UpgradeStuck,
    /// An operation did not end in its time.
    DeadlineExceeded,
    /// The storage class refused to grow a volume.
    StorageResizeRejected,
    /// Kubernetes refuses what the operator writes, or something changes it back each time.
    ApplyFailed,
    /// A volume of this name belongs to another cluster.
    VolumeForeign,
    /// The spec asks for what can't be read or done.
    InvalidSpec,

    // Certificates.
    /// The issuer is not there, or not ready.
    IssuerNotFound,
    /// A Secret is not there, or lacks a key.
    SecretNotFound,
    /// A certificate was asked for and has not come.
    CertificatePending,
    /// A certificate can't be used.
    CertificateInvalid,
    /// Members' certificates are not signed by one CA.
    CANotShared,
    /// A certificate should have been renewed by now.
    CertificateExpiringSoon,
    /// A certificate's time is over.
    CertificateExpired,

    // Backups.
    /// There is no complete backup yet.
    NeverTaken,
    /// The newest backup is older than its schedule asks.
    BackupStale,
    /// The last backup failed.
    BackupFailed,
    /// The store does not answer.
    StoreUnreachable,
    /// The store refuses.
    StoreDenied,
    /// What was stored is not what was sent.
    HashMismatch,
    /// It was cut off, by a restart of the operator or a loss of the member.
    Interrupted,

    // Records of backups and operations.
    /// It waits for its turn.
    Queued,
    /// It is being carried out.
    Running,
    /// It is done.
    Succeeded,
    /// There is no such cluster.
    ClusterNotFound,
    /// The cluster can't do it now: it is paused, hibernated or not available.
    ClusterNotReady,
    /// There is no such member.
    MemberNotFound,
    /// It would cost the quorum.
    QuorumAtRisk,
    /// `confirm` names another cluster.
    WrongConfirmation,
    /// The backup can't be found or read.
    BackupNotFound,
    /// A step of it failed.
    StepFailed,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
