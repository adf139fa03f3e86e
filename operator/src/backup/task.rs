//! What an agent is told, and what it answers. Both are JSON: one in an environment variable, the other in the termination
//! message, which has room for 4 KiB.

use keepstone_operator_api::Reason;
use keepstone_operator_api::backup::{Artifact, Store};
use serde::{Deserialize, Serialize};

/// The environment variable with the task.
pub const TASK_VARIABLE: &str = "KEEPSTONE_TASK";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Takes a snapshot of the member at `endpoint`, a client URL, and puts it there.
    #[serde(rename_all = "camelCase")]
    Take { endpoint: String, to: Location, owner: String },
    /// Reads it into a file, and compares it with the hash where there is one.
    #[serde(rename_all = "camelCase")]
    Fetch {
        from: Location,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        into: String,
    },
    /// Removes it. That it is gone already is success.
    Discard { at: Location },
    /// Copies directories that nobody writes into. What is not there is left out; that there is nothing at all is a failure.
    Copy { from: Vec<String>, into: String },
}

/// A file in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub store: Store,
    /// Prefix or directory included.
    pub key: String,
}

/// The termination message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// What was taken.
    Taken(Artifact),
    Done,
    /// Why not, in a word of the closed list, and for people.
    Failed {
        #[serde(with = "word")]
        reason: Reason,
        why: String,
    },
}

impl Report {
    /// Bytes of a reason that are told: a termination message is cut at 4 KiB, and would be no JSON any more.
    const MAX_REASON: usize = 1500;

    /// None where an agent ended without a word, as one that was killed.
    #[must_use]
    pub fn read(message: &str) -> Option<Self> {
        serde_json::from_str(message.trim()).ok()
    }

    #[must_use]
    pub fn failed(reason: Reason, why: &str) -> Self {
        let fits = |bytes: &mut usize, c: char| {
            *bytes += c.len_utf8();
            (*bytes <= Self::MAX_REASON).then_some(c)
        };
        Self::Failed { reason, why: why.chars().scan(0, fits).collect() }
    }

    #[must_use]
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

/// A reason as conditions have it. One that is not known is a step that failed.
mod word {
    use keepstone_operator_api::Reason;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub fn serialize<S: Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(reason.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
        let text = String::deserialize(from)?;
        let known = Reason::ALL.iter().copied().find(|reason| reason.as_str() == text);
        Ok(known.unwrap_or(Reason::StepFailed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_any_length_is_still_read() {
        let report = Report::failed(Reason::StepFailed, &"\u{1}ü\"".repeat(5000));
        assert!(report.write().len() < 4096, "{}", report.write().len());
        assert_eq!(Report::read(&report.write()), Some(report));
        assert_eq!(Report::read("panicked at"), None);
    }
}
