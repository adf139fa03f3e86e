//! etcd's feature gates: which there are, and what `--feature-gates` and the old experimental flags make of them.

/// One gate's name, maturity and default.
struct Gate {
    name: &'static str,
    beta: bool,
    default: bool,
}

const fn alpha(name: &'static str) -> Gate {
    Gate { name, beta: false, default: false }
}

/// etcd 3.6's gates.
static GATES: &[Gate] = &[
    alpha("CompactHashCheck"),
    alpha("InitialCorruptCheck"),
    alpha("LeaseCheckpoint"),
    alpha("LeaseCheckpointPersist"),
    alpha("SetMemberLocalAddr"),
    alpha("StopGRPCServiceOnDefrag"),
    Gate { name: "TxnModeWriteWithSharedBuffer", beta: true, default: true },
];

/// Gates that Keepstone knows and that change nothing in it.
pub(crate) const WITHOUT_EFFECT: &[&str] = &["SetMemberLocalAddr", "TxnModeWriteWithSharedBuffer"];

/// The gates that mean something here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Compare the members' compaction hashes: done in any case.
    pub compact_hash_check: bool,
    /// Compare data with the peers before serving.
    pub initial_corrupt_check: bool,
    /// The leader tells the members how much of a lease's time is left.
    pub lease_checkpoint: bool,
    /// That knowledge survives a restart.
    pub lease_checkpoint_persist: bool,
    /// Health turns bad while a defragmentation runs.
    pub stop_grpc_service_on_defrag: bool,
}

/// Reads `A=true,B=false`.
///
/// # Errors
/// An unknown gate, or a value that is no boolean; etcd's words.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut gates = Vec::new();
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("missing bool value for {}", pair.trim()));
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(on) = super::value::parse_bool(value) else {
            return Err(format!(
                "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
            ));
        };
        if !is_known(name) {
            return Err(format!("unrecognized feature gate: {name}"));
        }
        gates.push((name.to_owned(), on));
    }
    Ok(gates)
}

fn is_known(name: &str) -> bool {
    matches!(name, "AllAlpha" | "AllBeta") || GATES.iter().any(|g| g.name == name)
}

/// The gate's default.
pub(crate) fn default_of(name: &str) -> bool {
    GATES.iter().any(|g| g.name == name && g.default)
}

/// Whether a gate is on: its own last word, else AllAlpha's or AllBeta's, else its default.
pub(crate) fn is_on(name: &str, given: &[(String, bool)]) -> bool {
    let last = |name: &str| given.iter().rev().find(|(n, _)| n == name).map(|(_, on)| *on);
    let Some(gate) = GATES.iter().find(|g| g.name == name) else {
        return false;
    };
    last(name).or_else(|| last(if gate.beta { "AllBeta" } else { "AllAlpha" })).unwrap_or(gate.default)
}

impl Features {
    pub(crate) fn from_gates(given: &[(String, bool)]) -> Self {
        Self {
            compact_hash_check: is_on("CompactHashCheck", given),
            initial_corrupt_check: is_on("InitialCorruptCheck", given),
            lease_checkpoint: is_on("LeaseCheckpoint", given),
            lease_checkpoint_persist: is_on("LeaseCheckpointPersist", given),
            stop_grpc_service_on_defrag: is_on("StopGRPCServiceOnDefrag", given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gates_own_word_beats_all_alpha() {
        let on = |text: &str, name: &str| is_on(name, &parse(text).expect(text));
        assert!(!on("", "LeaseCheckpoint"));
        assert!(on("LeaseCheckpoint=true", "LeaseCheckpoint"));
        assert!(on("AllAlpha=true", "LeaseCheckpoint"));
        assert!(!on("LeaseCheckpoint=false,AllAlpha=true", "LeaseCheckpoint"));
        assert!(!on("AllAlpha=true,LeaseCheckpoint=false", "LeaseCheckpoint"));
        assert!(!on("AllBeta=true", "LeaseCheckpoint"));
        assert!(on("", "TxnModeWriteWithSharedBuffer"));
        assert!(!on("AllBeta=false", "TxnModeWriteWithSharedBuffer"));
        assert!(on(" LeaseCheckpoint = 1 ,", "LeaseCheckpoint"));
    }

    #[test]
    fn wrong_gates_are_named() {
        for (text, message) in [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("CompactHashCheck", "missing bool value for CompactHashCheck"),
            (
                "CompactHashCheck=x",
                r#"invalid value of CompactHashCheck=x, err: strconv.ParseBool: parsing "x": invalid syntax"#,
            ),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()));
        }
    }
}
