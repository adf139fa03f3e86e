//! Alarms: which member reports what. While one is active, apply refuses requests (see `state`).

use std::collections::BTreeSet;

use keepstone_proto::etcdserverpb::{AlarmMember, AlarmType};

/// The active alarms, in the order of type and member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms(BTreeSet<(i32, u64)>);

impl Alarms {
    /// Alarms of one type, or of all if `kind` is `NONE`.
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        self.0
            .iter()
            .filter(|(k, _)| kind == AlarmType::None as i32 || *k == kind)
            .map(|(kind, member)| AlarmMember { member_id: *member, alarm: *kind })
            .collect()
    }

    /// Whether any member has this alarm raised.
    pub fn any(&self, kind: AlarmType) -> bool {
        self.0.range((kind as i32, 0)..=(kind as i32, u64::MAX)).next().is_some()
    }

    /// Returns whether it was not active yet.
    pub(crate) fn raise(&mut self, alarm: &AlarmMember) -> bool {
        self.0.insert((alarm.alarm, alarm.member_id))
    }

    /// Returns whether it was active.
    pub(crate) fn lower(&mut self, alarm: &AlarmMember) -> bool {
        self.0.remove(&(alarm.alarm, alarm.member_id))
    }
}
