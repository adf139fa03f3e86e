//! What the tests and the endurance run share.

pub mod records;
pub mod redb_one;
pub mod sled_one;
