//! Time, as the controller is told it.

use std::time::Duration;

use keepstone_operator_plan::ids::Time;

pub trait Clock: Send + Sync {
    /// As the calendar has it. It may be put back.
    fn now(&self) -> Time;

    /// Since some moment of this process. It never goes back, and goes on while the machine sleeps.
    fn steady(&self) -> Duration;
}
