//! What the tests and the endurance run share.

pub mod records;
pub mod sled_one;
