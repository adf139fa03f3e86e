//! What a single decision comes to.

use crate::act::Act;
use crate::condition::Reason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing to do here: the next decision has its turn.
    Pass,
    Act(Act),
    /// Nothing else may be done before this is over.
    Wait(Wait),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub reason: Reason,
    pub message: String,
}

impl Next {
    pub fn wait(reason: Reason, message: impl Into<String>) -> Next {
        Next::Wait(Wait { reason, message: message.into() })
    }

    /// This, or what comes next if it has nothing to say.
    pub fn or(self, then: impl FnOnce() -> Next) -> Next {
        match self {
            Next::Pass => then(),
            said => said,
        }
    }
}
