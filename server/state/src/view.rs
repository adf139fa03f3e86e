//! What a request sees: the index, and the values of this run and of the store.

use keepstone_proto::KeyValue;

use crate::{
    error::Error,
    index::Index,
    types::{Record, RecordError, Records, Revision},
};

/// Why a request came to no result: it was refused, or the store failed, which ends the member.
pub(crate) enum Fault {
    Refused(Error),
    Store(RecordError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<RecordError> for Fault {
    fn from(error: RecordError) -> Self {
        Self::Store(error)
    }
}

/// Splits a result into what the client is told and what ends the member.
pub(crate) fn settle<T>(result: Result<T, Fault>) -> Result<Result<T, Error>, RecordError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Refused(error)) => Ok(Err(error)),
        Err(Fault::Store(error)) => Err(error),
    }
}

/// See the module's head.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub index: &'a Index,
    /// The revision that reads see: one above the store's inside a txn that has written.
    pub current: i64,
    /// Reads below it are refused.
    pub floor: i64,
    /// Records that are not in the store yet, in revision order.
    pub run: &'a [Record],
    pub records: &'a dyn Records,
}

impl View<'_> {
    /// The put recorded at `at`.
    pub fn get(&self, at: Revision) -> Result<KeyValue, RecordError> {
        if self.run.first().is_some_and(|first| first.at <= at)
            && let Ok(found) = self.run.binary_search_by_key(&at, |record| record.at)
        {
            return Ok(self.run[found].kv.clone());
        }
        self.records.get(at)
    }
}
