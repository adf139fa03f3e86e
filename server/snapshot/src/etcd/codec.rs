//! Revisions as bucket keys: main, `_` and sub, 8 bytes big endian each, then `t` for a tombstone.

use super::tables::Revision;

const KEY_BYTES: usize = 17;
const TOMBSTONE: u8 = b't';

/// Key of a record, or (without tombstone) a revision stored as a value.
pub(super) fn encode_revision(revision: Revision, tombstone: bool) -> ([u8; 18], usize) {
    let mut key = [TOMBSTONE; KEY_BYTES + 1];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[8] = b'_';
    key[9..KEY_BYTES].copy_from_slice(&revision.sub.to_be_bytes());
    (key, KEY_BYTES + usize::from(tombstone))
}

/// The reverse; `None` for anything etcd itself would refuse.
pub(super) fn decode_revision(key: &[u8]) -> Option<(Revision, bool)> {
    let (plain, mark) = key.split_at_checked(KEY_BYTES)?;
    let tombstone = match mark {
        [] => false,
        [TOMBSTONE] => true,
        _ => return None,
    };
    let revision =
        Revision { main: i64::from_be_bytes(*plain.first_chunk()?), sub: i64::from_be_bytes(*plain.last_chunk()?) };
    (plain[8] == b'_' && revision.main >= 0 && revision.sub >= 0).then_some((revision, tombstone))
}

/// Member ids are bucket keys in lower-case hex without leading zeros.
pub(super) fn encode_member(id: u64) -> String {
    format!("{id:x}")
}

pub(super) fn decode_member(key: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()
}

pub(super) fn decode_u64(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_sort_as_their_keys_do() {
        let at = |main, sub, dead| {
            let (key, len) = encode_revision(Revision { main, sub }, dead);
            key[..len].to_vec()
        };
        let keys = [at(1, 0, false), at(1, 1, true), at(2, 0, true), at(256, 0, false)];
        assert!(keys.is_sorted());
        for key in &keys {
            let (revision, dead) = decode_revision(key).expect("our own key");
            assert_eq!(at(revision.main, revision.sub, dead), *key);
        }
        assert_eq!(at(2, 3, true), b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x03t");
    }

    #[test]
    fn foreign_keys_are_refused() {
        for bad in [
            &b""[..],
            b"short",
            b"\0\0\0\0\0\0\0\x02-\0\0\0\0\0\0\0\x03",
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x03x",
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x03tt",
            b"\xff\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x03",
        ] {
            assert_eq!(decode_revision(bad), None, "{bad:?}");
        }
    }
}
