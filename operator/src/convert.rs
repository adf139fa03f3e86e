//! Between the API's words and the planner's: the spec becomes what is asked for, an order a verb, the record in status the
//! operation under way and back, and what the planner judges becomes conditions.
//!
//! Pure: what is not in the object itself is handed in. What can't be read is an error that names the field, and nothing
//! is guessed.

pub mod conditions;
pub mod desired;
pub mod order;
pub mod record;
pub mod schedule;
pub mod text;

/// What can't be read, and where; the message of the reason `InvalidSpec`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Unclear {
    pub field: String,
    pub why: String,
}

impl Unclear {
    pub(crate) fn new(field: &str, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), why: why.into() }
    }
}
