//! The Huffman code of HPACK (RFC 7541, appendix B), decoding only.
//!
//! The code is canonical, so the lengths alone define it. Decoding walks bit by bit over per-length ranges: it runs only
//! for header literals, which a connection sees a few times, never for the indexed headers of every answer.

/// Code length in bits of each octet.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26,
];
const MAX_BITS: usize = 30;

/// The decoding tables, built once per decoder.
pub struct Huffman {
    /// For each length: first code, number of codes, position of the first in `symbols`.
    ranges: [(u32, u32, u32); MAX_BITS + 1],
    symbols: Vec<u8>,
}

impl Huffman {
    pub fn new() -> Self {
        let mut symbols = Vec::with_capacity(256);
        let mut ranges = [(0, 0, 0); MAX_BITS + 1];
        let mut code = 0u32;
        for (bits, range) in ranges.iter_mut().enumerate().skip(1) {
            code <<= 1;
            let first = symbols.len();
            symbols.extend((0..=255u8).filter(|s| usize::from(LENGTHS[usize::from(*s)]) == bits));
            let count = (symbols.len() - first) as u32;
            *range = (code, count, first as u32);
            code += count;
        }
        Self { ranges, symbols }
    }

    /// Appends the decoded octets to `out`; false when a code or the padding is not valid.
    pub fn decode(&self, input: &[u8], out: &mut Vec<u8>) -> bool {
        let (mut code, mut bits) = (0u32, 0usize);
        for bit in input.iter().flat_map(|b| (0..8).rev().map(move |i| u32::from(b >> i) & 1)) {
            code = code << 1 | bit;
            bits += 1;
            if bits > MAX_BITS {
                return false;
            }
            let (first, count, at) = self.ranges[bits];
            if code >= first && code - first < count {
                out.push(self.symbols[(at + code - first) as usize]);
                (code, bits) = (0, 0);
            }
        }
        // The rest is padding: less than an octet, all ones.
        bits < 8 && code == (1 << bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_examples_of_the_rfc() {
        let h = Huffman::new();
        for (bytes, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
        ] {
            let mut out = Vec::new();
            assert!(h.decode(bytes, &mut out));
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn refuses_bad_padding() {
        assert!(!Huffman::new().decode(&[0x64, 0x02, 0x00], &mut Vec::new()));
        assert!(!Huffman::new().decode(&[0xff; 5], &mut Vec::new()));
    }
}
