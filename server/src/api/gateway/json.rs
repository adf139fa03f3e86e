//! JSON texts to messages, with the words that Go's decoder has for broken ones.

use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::Status;

/// A request's message from one JSON value. Names may be written as in the proto file or in camelCase; unknown ones
/// are let pass, and a null is as good as nothing.
///
/// # Errors
/// `InvalidArgument` for what is no JSON, or not this message's.
pub(super) fn decode<T: Message + DeserializeOwned>(text: &[u8]) -> Result<T, Status> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if !value.is_object() {
        let token = if value.is_array() { "[".to_owned() } else { value.to_string() };
        return Err(Status::invalid_argument(format!("proto: syntax error (line 1:1): unexpected token {token}")));
    }
    drop_nulls(&mut value);
    T::deserialize(value).map_err(|error| Status::invalid_argument(format!("proto: {error}")))
}

/// Takes out what protojson reads as "not set" and pbjson refuses.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
