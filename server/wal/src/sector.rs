//! The unit a disk writes whole: 512 bytes that prove themselves.
//!
//! Every sector of a segment carries the sequence number of the group it belongs to and a checksum over both and its
//! place in the file. A disk tears a write between sectors, never inside one, so after a crash a sector is either what
//! was there before (zero, or of an older group) or what was being written. A sector that is neither was damaged. This
//! is what lets recovery tell a torn tail from a flipped bit in the last group, which no checksum over a whole record
//! can: in a recycled segment the bytes before the write look like anything.

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;
/// Checksum and sequence number.
pub(crate) const STAMP: usize = 12;
/// Bytes of a sector left for records.
pub(crate) const DATA: usize = SECTOR - STAMP;

/// What a sector says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Never written since the file was filled with zeros.
    Zero,
    /// Intact, of the group with this sequence number.
    Seq(u64),
    /// Neither: its bytes are not what was written.
    Damaged,
}

/// Stamps `sector`, whose data is in place, as number `position` of its file.
pub(crate) fn seal(sector: &mut [u8], position: u32, seq: u64) -> u32 {
    debug_assert_eq!(sector.len(), SECTOR);
    sector[4..STAMP].copy_from_slice(&seq.to_le_bytes());
    let crc = checksum(sector, position);
    sector[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Reads the stamp of `sector`, found as number `position` of its file.
pub(crate) fn stamp(sector: &[u8], position: u32) -> Stamp {
    debug_assert_eq!(sector.len(), SECTOR);
    let (crc, seq) = fields(sector);
    if seq == 0 && crc == 0 && sector.iter().all(|b| *b == 0) {
        Stamp::Zero
    } else if seq != 0 && crc == checksum(sector, position) {
        Stamp::Seq(seq)
    } else {
        Stamp::Damaged
    }
}

/// The checksum a sealed sector carries.
pub(crate) fn crc_of(sector: &[u8]) -> u32 {
    fields(sector).0
}

fn fields(sector: &[u8]) -> (u32, u64) {
    let crc = u32::from_le_bytes(sector[..4].try_into().expect("four bytes"));
    let seq = u64::from_le_bytes(sector[4..STAMP].try_into().expect("eight bytes"));
    (crc, seq)
}

/// Seeded with the place, so that a sector written to the wrong place does not verify.
fn checksum(sector: &[u8], position: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), &sector[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_damage() {
        let mut sector = [0u8; SECTOR];
        sector[STAMP..STAMP + 5].copy_from_slice(b"hello");
        seal(&mut sector, 7, 42);
        assert_eq!(stamp(&sector, 7), Stamp::Seq(42));
        assert_eq!(stamp(&sector, 8), Stamp::Damaged);
        for bit in 0..SECTOR * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(stamp(&sector, 7), Stamp::Damaged, "bit {bit}");
            sector[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_are_zeros_and_a_bit_in_them_is_damage() {
        let mut sector = [0u8; SECTOR];
        assert_eq!(stamp(&sector, 0), Stamp::Zero);
        sector[300] = 1;
        assert_eq!(stamp(&sector, 0), Stamp::Damaged);
    }
}
