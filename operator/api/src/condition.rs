//! Conditions: which there are, which reasons each may give, and how one is changed.
//!
//! All of a kind's conditions are always there. `lastTransitionTime` moves only when the status does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::reason::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// A linearizable write works now.
    Available,
    /// Something is being done, or waits to be.
    Progressing,
    /// Less than the asked capacity or safety.
    Degraded,
    /// Available, neither progressing nor degraded, and the newest spec was seen.
    Ready,
    /// Every plane has a valid chain.
    TlsReady,
    /// Every pod is at the target revision.
    AllMembersUpdated,
    /// The newest backup is young enough. Only where a schedule is set.
    BackupHealthy,
    /// Of a backup or an operation: it is over.
    Completed,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionState {
    True,
    False,
    Unknown,
}

use ConditionState::{False, True, Unknown};
use Reason as R;

impl ConditionType {
    pub const ALL: &[Self] = &[
        Self::Available,
        Self::Progressing,
        Self::Degraded,
        Self::Ready,
        Self::TlsReady,
        Self::AllMembersUpdated,
        Self::BackupHealthy,
        Self::Completed,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Ready => "Ready",
            Self::TlsReady => "TLSReady",
            Self::AllMembersUpdated => "AllMembersUpdated",
            Self::BackupHealthy => "BackupHealthy",
            Self::Completed => "Completed",
        }
    }

    /// The reasons it may give in a state.
    #[must_use]
    pub const fn reasons(self, state: ConditionState) -> &'static [Reason] {
        match (self, state) {
            (Self::Available, state) => available(state),
            (Self::Progressing, state) => progressing(state),
            (Self::Degraded, True) => DEGRADED,
            (Self::Degraded, False) => &[R::AsExpected, R::Bootstrapping, R::Hibernated],
            (Self::Ready, True) => &[R::AsExpected],
            // It repeats the reason of the condition that keeps it.
            (Self::Ready, False) => R::ALL,
            (Self::TlsReady, True) => &[R::CertificatesValid, R::RotatingCA],
            (Self::TlsReady, False) => TLS_NOT_READY,
            (Self::AllMembersUpdated, True) => &[R::AllUpdated, R::Hibernated],
            (Self::AllMembersUpdated, False) => NOT_UPDATED,
            (Self::BackupHealthy, True) => &[R::BackupFresh],
            (Self::BackupHealthy, False) => BACKUP_UNHEALTHY,
            (Self::Completed, True) => &[R::Succeeded],
            (Self::Completed, False) => NOT_COMPLETED,
            (Self::Completed, Unknown) => &[],
            (_, Unknown) => &[R::MembersUnreachable],
        }
    }
}

const fn available(state: ConditionState) -> &'static [Reason] {
    match state {
        True => &[R::QuorumHealthy, R::QuorumAvailable],
        False => &[
            R::Bootstrapping,
            R::Restoring,
            R::BootstrapFailed,
            R::QuorumLost,
            R::RecoveringQuorum,
            R::AlarmNoSpace,
            R::AlarmCorrupt,
            R::SplitBrain,
            R::Hibernated,
            R::WakingUp,
        ],
        Unknown => &[R::MembersUnreachable],
    }
}

const fn progressing(state: ConditionState) -> &'static [Reason] {
    match state {
        True => &[
            R::Bootstrapping,
            R::ScalingUp,
            R::ScalingDown,
            R::LearnerSyncing,
            R::ReplacingMember,
            R::Upgrading,
            R::RollingConfig,
            R::ResizingStorage,
            R::Restoring,
            R::RecoveringQuorum,
            R::RotatingCA,
            R::Hibernating,
            R::WakingUp,
            R::WaitingForMembers,
        ],
        False => &[
            R::Stable,
            R::Paused,
            R::Hibernated,
            R::DeadlineExceeded,
            R::UpgradeStuck,
            R::BootstrapFailed,
            R::QuorumLost,
        ],
        Unknown => &[R::MembersUnreachable],
    }
}

const DEGRADED: &[Reason] = &[
    R::MemberUnhealthy,
    R::MemberCrashLooping,
    R::Unschedulable,
    R::ImagePullFailed,
    R::LearnerStuck,
    R::UpgradeStuck,
    R::DeadlineExceeded,
    R::StorageResizeRejected,
    R::ApplyFailed,
    R::VolumeForeign,
    R::InvalidSpec,
    R::BootstrapFailed,
    R::QuorumLost,
    R::AlarmNoSpace,
    R::AlarmCorrupt,
    R::SplitBrain,
];

const TLS_NOT_READY: &[Reason] = &[
    R::TLSDisabled,
    R::IssuerNotFound,
    R::SecretNotFound,
    R::CertificatePending,
    R::CertificateInvalid,
    R::CANotShared,
    R::CertificateExpiringSoon,
    R::CertificateExpired,
];

const NOT_UPDATED: &[Reason] = &[
    R::Bootstrapping,
    R::Upgrading,
    R::RollingConfig,
    R::WaitingForMembers,
    R::Paused,
    R::UpgradeStuck,
    R::DeadlineExceeded,
    R::QuorumLost,
];

const BACKUP_UNHEALTHY: &[Reason] = &[
    R::NeverTaken,
    R::BackupStale,
    R::BackupFailed,
    R::BackupSuspended,
    R::StoreUnreachable,
    R::StoreDenied,
    R::InvalidSpec,
];

const NOT_COMPLETED: &[Reason] = &[
    R::Queued,
    R::Running,
    R::InvalidSpec,
    R::ClusterNotFound,
    R::ClusterNotReady,
    R::MemberNotFound,
    R::QuorumAtRisk,
    R::WrongConfirmation,
    R::BackupNotFound,
    R::StoreUnreachable,
    R::StoreDenied,
    R::HashMismatch,
    R::Interrupted,
    R::StepFailed,
    R::DeadlineExceeded,
];

impl ConditionState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            True => "True",
            False => "False",
            Unknown => "Unknown",
        }
    }
}

/// Sets a condition, adding it where it is not there. Whether anything but the time changed: without, nothing needs to be written.
///
/// # Panics
/// In debug builds, when the condition may not give that reason.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: ConditionType,
    state: ConditionState,
    reason: Reason,
    message: &str,
    generation: i64,
    now: &Time,
) -> bool {
    debug_assert!(kind.reasons(state).contains(&reason), "{}={} never is {reason}", kind.as_str(), state.as_str());
    let new = Condition {
        type_: kind.as_str().to_owned(),
        status: state.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.to_owned(),
        observed_generation: Some(generation),
        last_transition_time: now.clone(),
    };
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(new);
        return true;
    };
    let since =
        if old.status == new.status { old.last_transition_time.clone() } else { new.last_transition_time.clone() };
    let new = Condition { last_transition_time: since, ..new };
    let changed = *old != new;
    *old = new;
    changed
}

/// Whether a condition is there and holds.
#[must_use]
pub fn holds(conditions: &[Condition], kind: ConditionType) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind.as_str() && condition.status == True.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        serde_json::from_value(serde_json::json!(format!("2026-11-21T10:00:{seconds:02}Z"))).expect("a time")
    }

    #[test]
    fn every_reason_belongs_to_a_condition_other_than_ready() {
        for reason in Reason::ALL {
            let used = ConditionType::ALL
                .iter()
                .filter(|kind| **kind != ConditionType::Ready)
                .any(|kind| [True, False, Unknown].iter().any(|state| kind.reasons(*state).contains(reason)));
            assert!(used, "no condition gives {reason}");
        }
    }

    #[test]
    fn no_reason_holds_and_does_not_hold_at_once() {
        for kind in ConditionType::ALL.iter().filter(|kind| **kind != ConditionType::Ready) {
            for reason in kind.reasons(True) {
                assert!(!kind.reasons(False).contains(reason), "{} {reason}", kind.as_str());
            }
        }
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let mut all = Vec::new();
        let available = ConditionType::Available;
        assert!(set(&mut all, available, True, Reason::QuorumHealthy, "3 of 3", 1, &at(1)));
        assert!(!set(&mut all, available, True, Reason::QuorumHealthy, "3 of 3", 1, &at(2)));
        assert!(set(&mut all, available, True, Reason::QuorumAvailable, "2 of 3", 1, &at(3)));
        assert_eq!(all[0].last_transition_time, at(1));
        assert!(set(&mut all, available, False, Reason::QuorumLost, "1 of 3", 2, &at(4)));
        assert_eq!((all[0].last_transition_time.clone(), all[0].observed_generation), (at(4), Some(2)));
        assert_eq!(all.len(), 1);
        assert!(!holds(&all, available));
    }
}
