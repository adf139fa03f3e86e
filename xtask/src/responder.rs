//! A name server that knows a few names, for a test that has no other. RFC 1035, one question a message.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::Result;

const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];
const NO_SUCH_NAME: u8 = 3;

/// Answers on port 53 of `address` until the process ends: the names given are `address` itself, others do not exist.
///
/// # Errors
/// When the port is not to be had.
pub fn start(address: Ipv4Addr, names: &'static [&'static str]) -> Result<()> {
    let socket = UdpSocket::bind((address, 53))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length], names, address) {
                // An answer that is lost is asked for again.
                drop(socket.send_to(&answer, from));
            }
        }
    });
    Ok(())
}

/// The answer to a query; `None` for what is none.
fn answer(query: &[u8], names: &[&str], address: Ipv4Addr) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let kind = query.get(end..end + 2)?;
    let known = names.iter().any(|known| known.eq_ignore_ascii_case(&name));
    let found = known && kind == TYPE_A;
    let mut out = query.get(..end + 4)?.to_vec();
    // A response, with recursion as asked for and available.
    out[2] = 0x80 | (query[2] & 0x01);
    out[3] = 0x80 | if known { 0 } else { NO_SUCH_NAME };
    out[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    if found {
        // The name is at offset 12; type A, class IN, 60 seconds, 4 bytes.
        out.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend_from_slice(&address.octets());
    }
    Some(out)
}

/// The name asked for, and where it ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut at = HEADER;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(std::str::from_utf8(query.get(at..at + length)?).ok()?.to_owned());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut out = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            out.push(u8::try_from(label.len()).expect("short"));
            out.extend_from_slice(label.as_bytes());
        }
        out.extend_from_slice(&[0, 0, kind, 0, 1, 99, 99]);
        out
    }

    #[test]
    fn answers_what_it_knows() {
        let out = answer(&query("a.test", 1), &["A.test"], HERE).expect("an answer");
        assert_eq!(out[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(out[out.len() - 4..], [127, 0, 0, 1]);
        let other_kind = answer(&query("a.test", 28), &["a.test"], HERE).expect("an answer");
        assert_eq!((other_kind[3], other_kind[7]), (0x80, 0));
        let unknown = answer(&query("b.test", 1), &["a.test"], HERE).expect("an answer");
        assert_eq!((unknown[3], unknown[7]), (0x83, 0));
    }

    #[test]
    fn passes_over_what_is_no_query() {
        let whole = query("a.test", 1);
        for length in 0..whole.len() - 4 {
            assert!(answer(&whole[..length], &["a.test"], HERE).is_none(), "{length}");
        }
    }
}
