//! Making records.

use keepstone_proto::{KeyValue, KeyValueParts};
use keepstone_state::{Record, Revision};

/// A put, or with `None` a delete.
pub fn record(main: i64, sub: i64, key: &[u8], value: Option<&[u8]>) -> Record {
    let kv = match value {
        Some(value) => KeyValue::new(&KeyValueParts {
            key,
            create_revision: main,
            mod_revision: main,
            version: 1,
            value,
            lease: 0,
        }),
        None => KeyValue::tombstone(key),
    };
    Record { at: Revision::new(main, sub), tombstone: value.is_none(), prev: None, kv }
}
