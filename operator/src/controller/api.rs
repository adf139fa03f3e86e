//! What the controller asks of the API server, as one narrow trait: the real one is a client, that of the simulation a
//! server in memory. Objects pass as JSON; who reads one says as what.
//!
//! Every call that changes something can carry what it was decided on: a UID, a resource version. Where that is no longer
//! so the server refuses, and nothing was done.

use std::future::Future;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kind::{Kind, Name};

/// How old an answer to a list may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fresh {
    /// As the API server has it in its cache, which may be behind, now and then by seconds.
    Cached,
    /// As it is.
    Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// All that carry the label of a cluster.
    Of(&'a str),
    /// Orders and backups whose `clusterRef` names it.
    About(&'a str),
}

/// What must still be so for a deletion, and how it is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deletion {
    pub uid: Option<String>,
    pub version: Option<String>,
    /// Doesn't wait for the kubelet.
    pub force: bool,
    /// What the object owns stays.
    pub orphan: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// It is another by now, or it is there already.
    #[error("conflict: {0}")]
    Conflict(String),
    #[error("not found: {0}")]
    NotFound(String),
    /// The server won't: the object is invalid, or the right is missing.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer. It may have been done all the same.
    #[error("no answer: {0}")]
    Silence(String),
    /// The lease is not surely held: nothing was sent.
    #[error("this operator does not lead")]
    NotLeading,
}

pub trait Api: Send + Sync {
    /// Always as it is.
    fn get(&self, kind: Kind, name: &Name) -> impl Future<Output = Result<Option<Value>, ApiError>> + Send;

    fn list(
        &self,
        kind: Kind,
        namespace: &str,
        which: Which<'_>,
        fresh: Fresh,
    ) -> impl Future<Output = Result<Vec<Value>, ApiError>> + Send;

    /// Only where there is none of the name.
    fn create(&self, kind: Kind, object: &Value) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// Server-side apply, with force. A resource version in the object has to be the current one.
    fn apply(&self, kind: Kind, object: &Value) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// A JSON merge patch, of the status subresource or of the rest. A resource version or UID in it has to be the
    /// current one.
    fn merge(
        &self,
        kind: Kind,
        name: &Name,
        status: bool,
        patch: &Value,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// The whole object; its resource version has to be the current one.
    fn replace(&self, kind: Kind, object: &Value) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// That it is gone already is success.
    fn delete(&self, kind: Kind, name: &Name, how: &Deletion) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// Reads an object as what it should be.
///
/// # Errors
/// It is something else.
pub fn typed<T: DeserializeOwned>(object: &Value) -> Result<T, ApiError> {
    T::deserialize(object).map_err(|why| ApiError::Refused(format!("{}: {why}", text(object, "/metadata/name"))))
}

/// The text at a JSON pointer; empty where there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[must_use]
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

#[must_use]
pub fn version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}
