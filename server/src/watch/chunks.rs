//! Room for chunks of responses, used again and again: an allocator that is given back a burst's worth of them returns
//! them to the system, and faulting them in anew costs more than writing into them.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a chunk's room. One that needs more has room of its own.
pub const ROOM_BYTES: usize = 20 << 10;
/// Rooms kept at most: 5 MiB a thread.
const ROOMS: usize = 256;

/// A thread's rooms that are not in use.
#[derive(Debug, Default)]
pub struct Chunks {
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Chunks {
    /// [`ROOM_BYTES`] to write into.
    pub fn room(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_else(|| Vec::with_capacity(ROOM_BYTES))
    }

    /// What was written, wherever. A room comes back when the last of its bytes has been sent.
    pub fn chunk(self: &Arc<Self>, written: Vec<u8>) -> Bytes {
        if written.capacity() != ROOM_BYTES {
            return Bytes::from(written);
        }
        Bytes::from_owner(Lent { written, to: self.clone() })
    }
}

struct Lent {
    written: Vec<u8>,
    to: Arc<Chunks>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.written
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = self.to.spare.lock();
        if spare.len() < ROOMS {
            self.written.clear();
            spare.push(std::mem::take(&mut self.written));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_comes_back_empty_when_the_last_of_its_bytes_is_gone() {
        let chunks = Arc::new(Chunks::default());
        let mut room = chunks.room();
        room.extend_from_slice(b"some");
        let at = room.as_ptr();
        let chunk = chunks.chunk(room);
        let part = chunk.slice(1..2);
        drop(chunk);
        assert_eq!((part.as_ref(), chunks.spare.lock().len()), (&b"o"[..], 0));
        drop(part);
        let again = chunks.room();
        assert!(again.is_empty() && again.capacity() == ROOM_BYTES && again.as_ptr() == at);
        assert_eq!(chunks.chunk(b"other".to_vec()), "other");
        assert_eq!(chunks.spare.lock().len(), 0);
        let many: Vec<Bytes> = (0..ROOMS + 9).map(|_| chunks.chunk(chunks.room())).collect();
        drop(many);
        assert_eq!(chunks.spare.lock().len(), ROOMS);
    }
}
