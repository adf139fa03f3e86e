//! Whether a program is static: what its ELF headers say, since `ldd` runs what it is asked about.

use anyhow::{Context as _, Result, ensure};

const SEGMENT_DYNAMIC: u32 = 2;
const SEGMENT_INTERPRETER: u32 = 3;
const TAG_NEEDED: u64 = 1;

/// Why a program is not static, or `None` when it is.
///
/// # Errors
/// When it is not a little-endian 64-bit ELF file.
pub fn not_static(file: &[u8]) -> Result<Option<&'static str>> {
    ensure!(file.starts_with(b"\x7fELF\x02\x01"), "not a little-endian 64-bit ELF file");
    let (table, size, count) = (long(file, 32)?, short(file, 54)?, short(file, 56)?);
    for number in 0..count {
        let at = table + number * size;
        match word(file, at)? {
            SEGMENT_INTERPRETER => return Ok(Some("it asks for a dynamic linker")),
            SEGMENT_DYNAMIC if needs_library(file, long(file, at + 8)?, long(file, at + 32)?)? => {
                return Ok(Some("it needs a shared library"));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A static program that can be loaded anywhere has a dynamic section too, but no library in it.
fn needs_library(file: &[u8], at: u64, length: u64) -> Result<bool> {
    for entry in 0..length / 16 {
        if long(file, at + entry * 16)? == TAG_NEEDED {
            return Ok(true);
        }
    }
    Ok(false)
}

fn bytes<const N: usize>(file: &[u8], at: u64) -> Result<[u8; N]> {
    let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).context("an ELF file cut short")?;
    rest.first_chunk().copied().context("an ELF file cut short")
}

fn short(file: &[u8], at: u64) -> Result<u64> {
    Ok(u16::from_le_bytes(bytes(file, at)?).into())
}

fn word(file: &[u8], at: u64) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes(file, at)?))
}

fn long(file: &[u8], at: u64) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(file, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with these segments: kind, then 16-byte entries of content.
    fn program(segments: &[(u32, &[u64])]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[32] = 64;
        file[54] = 56;
        file[56] = u8::try_from(segments.len()).expect("few");
        for (number, (kind, tags)) in segments.iter().enumerate() {
            let (at, content) = (64 + 56 * number, file.len() as u64);
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&content.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&(16 * tags.len() as u64).to_le_bytes());
            for tag in *tags {
                file.extend_from_slice(&tag.to_le_bytes());
                file.extend_from_slice(&[0; 8]);
            }
        }
        file
    }

    #[test]
    fn tells_static_from_dynamic() {
        assert_eq!(not_static(&program(&[(1, &[])])).expect("read"), None);
        assert_eq!(not_static(&program(&[(1, &[]), (2, &[30, 5])])).expect("read"), None);
        assert!(not_static(&program(&[(2, &[5, 1])])).expect("read").is_some());
        assert!(not_static(&program(&[(3, &[])])).expect("read").is_some());
    }

    #[test]
    fn refuses_what_is_no_program() {
        assert!(not_static(b"#!/bin/sh").is_err());
        let whole = program(&[(2, &[5, 30])]);
        assert!(not_static(&whole[..whole.len() - 20]).is_err());
    }

    #[test]
    fn reads_this_very_program() {
        let file = std::fs::read(std::env::current_exe().expect("a path")).expect("read");
        assert!(not_static(&file).is_ok());
    }
}
