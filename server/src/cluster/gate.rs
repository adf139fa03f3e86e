//! Who may talk to this member: members of its cluster, each with the data directory its ID is bound to.

use std::sync::Arc;

use keepstone_proto::keepstonepb::Sender;
use keepstone_state::MemberId;

use super::reception::FrontDesk;
use crate::core::Core;
use crate::peer::service::{Gate, REMOVED};

/// The gate of a member that runs.
pub struct MemberGate {
    core: Arc<Core>,
    desk: Arc<FrontDesk>,
}

impl MemberGate {
    pub fn new(core: Arc<Core>, desk: Arc<FrontDesk>) -> Self {
        Self { core, desk }
    }
}

/// What a member is told that came back under its old ID with another data directory.
pub fn another_directory(id: MemberId) -> String {
    format!("member {:x} already started with another data directory; remove it and add it again", id.0)
}

impl Gate for MemberGate {
    fn check(&self, sender: &Sender) -> Result<MemberId, String> {
        let identity = self.core.identity;
        if sender.cluster_id != identity.cluster_id {
            return Err(format!(
                "cluster ID mismatch: the sender's is {:x}, this member's is {:x}",
                sender.cluster_id, identity.cluster_id
            ));
        }
        if sender.to != identity.member_id.0 {
            return Err(format!("this is member {:x}, not {:x}", identity.member_id.0, sender.to));
        }
        let from = MemberId(sender.from);
        let state = self.core.state.read();
        let members = state.members();
        // A voter that the table no longer has is needed until Raft has let it go.
        if members.is_removed(from) && !self.core.in_raft(from) {
            return Err(REMOVED.to_owned());
        }
        let known = match members.incarnation(from) {
            Some(bound) => *bound == *sender.incarnation,
            None => self.desk.knows(from, &sender.incarnation),
        };
        if known { Ok(from) } else { Err(another_directory(from)) }
    }
}
