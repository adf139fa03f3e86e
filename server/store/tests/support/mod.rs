//! What the tests and the endurance run share.

pub mod records;
