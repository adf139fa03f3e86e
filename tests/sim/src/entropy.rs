//! The process's only source of randomness, instead of the system's: tokio draws the order of its `select!` branches and
//! the standard library the order of its hash maps from it, so both follow from the seed too.

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// All randomness from here on follows from `seed`. A thread that has made a hash map before keeps its order.
pub fn seed(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

fn next() -> u64 {
    let mut z = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes the place of the C library's function of that name in this process.
///
/// # Safety
/// `buf` must be valid for writes of `len` bytes, as the system's asks.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buf: *mut u8, len: usize, _flags: u32) -> isize {
    // SAFETY: the caller's promise.
    let out = unsafe { std::slice::from_raw_parts_mut(buf, len) };
    for piece in out.chunks_mut(8) {
        piece.copy_from_slice(&next().to_le_bytes()[..piece.len()]);
    }
    len as isize
}
