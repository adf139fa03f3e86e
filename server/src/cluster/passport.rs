//! What a data directory says of itself: the first record of its log. Written anew when something of it is learnt;
//! the last one counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;

use bytes::{Buf, BufMut, Bytes};
use keepstone_state::MemberId;
use keepstone_wal::Wal;

use crate::core::Identity;

/// Only an identity and an incarnation, of a member that has its cluster.
const FORMAT_1: u8 = 1;
const FORMAT_2: u8 = 2;
/// Founders of one cluster at most: all their incarnations have to fit into one record.
pub const MAX_FOUNDERS: usize = 64;

/// A random number that every data directory gets once. Binds a member's ID to this very directory.
pub type Incarnation = [u8; 16];

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passport {
    /// `None` while a member that joins has not been told its ID.
    pub identity: Option<Identity>,
    pub incarnation: Incarnation,
    /// The data directories of the other founders, as each introduced itself first. Whoever comes with another one is
    /// not let in.
    pub founders: BTreeMap<MemberId, Incarnation>,
    /// This member has its cluster: neither founding nor joining is left to do, whatever the flags say.
    pub settled: bool,
    /// This member knows that it was removed from its cluster.
    pub removed: bool,
}

impl Passport {
    /// A new directory's.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(identity: Option<Identity>) -> io::Result<Self> {
        let mut incarnation = [0; 16];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut incarnation)?;
        Ok(Self { identity, incarnation, founders: BTreeMap::new(), settled: false, removed: false })
    }

    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        out.put_u8(FORMAT_2);
        let identity = self.identity.unwrap_or(Identity { cluster_id: 0, member_id: MemberId(0) });
        out.put_u64_le(identity.cluster_id);
        out.put_u64_le(identity.member_id.0);
        out.put_slice(&self.incarnation);
        out.put_u8(u8::from(self.removed) | u8::from(self.settled) << 1);
        out.put_u8(self.founders.len() as u8);
        for (id, incarnation) in &self.founders {
            out.put_u64_le(id.0);
            out.put_slice(incarnation);
        }
        out.into()
    }

    /// # Errors
    /// Bytes of another format.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let other = || "its identity record has another format".to_owned();
        let format = bytes.try_get_u8().map_err(|_| other())?;
        if bytes.len() < 32 || !matches!((format, bytes.len()), (FORMAT_1, 32) | (FORMAT_2, 34..)) {
            return Err(other());
        }
        let identity = Identity { cluster_id: bytes.get_u64_le(), member_id: MemberId(bytes.get_u64_le()) };
        let mut passport = Self {
            identity: (identity.cluster_id != 0).then_some(identity),
            incarnation: take_incarnation(&mut bytes),
            founders: BTreeMap::new(),
            settled: true,
            removed: false,
        };
        if format == FORMAT_2 {
            let flags = bytes.get_u8();
            (passport.removed, passport.settled) = (flags & 1 != 0, flags & 2 != 0);
            let founders = usize::from(bytes.get_u8());
            if bytes.len() != founders * 24 {
                return Err(other());
            }
            for _ in 0..founders {
                let id = MemberId(bytes.get_u64_le());
                passport.founders.insert(id, take_incarnation(&mut bytes));
            }
        }
        Ok(passport)
    }

    /// Writes it to the log. Returns once it is on disk. Blocks for that long.
    ///
    /// # Errors
    /// The log's.
    pub fn save(&self, wal: &Wal) -> io::Result<()> {
        let (done, saved) = mpsc::channel();
        wal.save_meta(self.encode(), Box::new(move |result| drop(done.send(result)))).map_err(io::Error::other)?;
        saved.recv().unwrap_or_else(|_| Err(io::Error::other("the log closed")))
    }
}

fn take_incarnation(bytes: &mut &[u8]) -> Incarnation {
    let mut incarnation = [0; 16];
    bytes.copy_to_slice(&mut incarnation);
    incarnation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passport_reads_as_it_was_written() {
        let identity = Some(Identity { cluster_id: 7, member_id: MemberId(9) });
        let plain =
            Passport { identity, incarnation: [3; 16], founders: BTreeMap::new(), settled: false, removed: false };
        let founders = BTreeMap::from([(MemberId(1), [1; 16]), (MemberId(2), [2; 16])]);
        let founder = Passport { founders, settled: true, removed: true, ..plain.clone() };
        let unclaimed = Passport { identity: None, ..plain.clone() };
        for passport in [&plain, &founder, &unclaimed] {
            assert_eq!(Passport::decode(&passport.encode()).as_ref(), Ok(passport));
            let bytes = passport.encode();
            assert!((0..bytes.len()).all(|len| Passport::decode(&bytes[..len]).is_err()));
        }
    }

    #[test]
    fn the_first_format_still_reads() {
        let mut bytes = vec![FORMAT_1];
        bytes.put_u64_le(7);
        bytes.put_u64_le(9);
        bytes.put_slice(&[3; 16]);
        let passport = Passport::decode(&bytes).expect("a passport");
        assert_eq!(passport.identity, Some(Identity { cluster_id: 7, member_id: MemberId(9) }));
        assert_eq!(passport.incarnation, [3; 16]);
    }
}
