//! JSON texts to messages, with the words that Go's decoder has for broken ones.

use prost::Message;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};
use serde_path_to_error::{Path, Segment};
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
    soften(&mut value);
    serde_path_to_error::deserialize(&value).map_err(|error| {
        let what = match at(&value, error.path()) {
            Some(wrong) => format!("invalid value for field {}: {wrong}", error.path()),
            None => error.inner().to_string(),
        };
        Status::invalid_argument(format!("proto: {what}"))
    })
}

/// The value that a path leads to, unless it is the whole.
fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    let mut path = path.iter().peekable();
    path.peek()?;
    path.try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(*index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

/// Makes plain what protojson takes and pbjson does not: a null is a field that is not set, and `1e3` is an integer.
/// No message has a field that isn't one.
fn soften(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(soften);
        }
        Value::Array(items) => items.iter_mut().for_each(soften),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && is_exact(*float)) {
                *number = Number::from(float as i64);
            }
        }
        _ => {}
    }
}

/// Whether a number is an integer that a float holds without loss.
fn is_exact(float: f64) -> bool {
    float.fract() == 0.0 && float.abs() <= (1_u64 << 53) as f64
}
