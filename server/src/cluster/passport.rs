//! What a data directory says of itself: the first record of its log. Written anew when something of it is learnt;
//! the last one counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;

use bytes::{Buf, BufMut, Bytes};
use keepstone_failpoint::points;
use keepstone_state::MemberId;
use keepstone_wal::Wal;

use crate::core::Identity;

/// Only an identity and an incarnation, of a member that has its cluster.
const FORMAT_1: u8 = 1;
/// No survival, no former IDs, no permit.
const FORMAT_2: u8 = 2;
const FORMAT_3: u8 = 3;
/// Flags of [`Survival`].
const PENDING: u8 = 4;
const DONE: u8 = 8;
/// Founders of one cluster at most: all their incarnations have to fit into one record.
pub const MAX_FOUNDERS: usize = 64;
/// Bytes of a permit's nonce at most.
pub const MAX_NONCE: usize = 64;

/// A random number that every data directory gets once. Binds a member's ID to this very directory.
pub type Incarnation = [u8; 16];

/// How far this member has got with going on alone. See `survive`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survival {
    #[default]
    None,
    /// It was told to, and what that takes is not all in the log.
    Pending,
    /// It did, and was not started without being told to since.
    Done,
}

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
    pub survival: Survival,
    /// IDs that the cluster had before: a state that is some entries behind may still have one of them.
    pub former_clusters: Vec<u64>,
    /// The nonce of the permit that this directory founds, or has founded, a cluster with; empty without one.
    pub permit: Bytes,
}

impl Passport {
    /// A new directory's.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(identity: Option<Identity>) -> io::Result<Self> {
        let mut incarnation = [0; 16];
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut incarnation)?;
        Ok(Self { identity, incarnation, ..Self::blank() })
    }

    fn blank() -> Self {
        Self {
            identity: None,
            incarnation: [0; 16],
            founders: BTreeMap::new(),
            settled: false,
            removed: false,
            survival: Survival::None,
            former_clusters: Vec::new(),
            permit: Bytes::new(),
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        out.put_u8(FORMAT_3);
        let identity = self.identity.unwrap_or(Identity { cluster_id: 0, member_id: MemberId(0) });
        out.put_u64_le(identity.cluster_id);
        out.put_u64_le(identity.member_id.0);
        out.put_slice(&self.incarnation);
        let survival = match self.survival {
            Survival::None => 0,
            Survival::Pending => PENDING,
            Survival::Done => DONE,
        };
        out.put_u8(u8::from(self.removed) | u8::from(self.settled) << 1 | survival);
        out.put_u8(self.former_clusters.len() as u8);
        self.former_clusters.iter().for_each(|id| out.put_u64_le(*id));
        out.put_u8(self.permit.len() as u8);
        out.put_slice(&self.permit);
        out.put_u8(self.founders.len() as u8);
        for (id, incarnation) in &self.founders {
            out.put_u64_le(id.0);
            out.put_slice(incarnation);
        }
        out.into()
    }

    /// # Errors
    /// Bytes of another format.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        Self::read(bytes).ok_or_else(|| "its identity record has another format".to_owned())
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let format = bytes.try_get_u8().ok()?;
        let identity =
            Identity { cluster_id: bytes.try_get_u64_le().ok()?, member_id: MemberId(bytes.try_get_u64_le().ok()?) };
        let mut passport = Self {
            identity: (identity.cluster_id != 0).then_some(identity),
            incarnation: take_incarnation(&mut bytes)?,
            settled: true,
            ..Self::blank()
        };
        if !(FORMAT_1..=FORMAT_3).contains(&format) {
            return None;
        }
        if format >= FORMAT_2 {
            let flags = bytes.try_get_u8().ok()?;
            (passport.removed, passport.settled) = (flags & 1 != 0, flags & 2 != 0);
            passport.survival = match flags & (PENDING | DONE) {
                0 => Survival::None,
                PENDING => Survival::Pending,
                _ => Survival::Done,
            };
        }
        if format >= FORMAT_3 {
            let former = bytes.try_get_u8().ok()?;
            passport.former_clusters = (0..former).map(|_| bytes.try_get_u64_le().ok()).collect::<Option<_>>()?;
            let permit = usize::from(bytes.try_get_u8().ok()?);
            passport.permit = Bytes::copy_from_slice(bytes.split_off(..permit)?);
        }
        if format >= FORMAT_2 {
            for _ in 0..bytes.try_get_u8().ok()? {
                let id = MemberId(bytes.try_get_u64_le().ok()?);
                passport.founders.insert(id, take_incarnation(&mut bytes)?);
            }
        }
        bytes.is_empty().then_some(passport)
    }

    /// Writes it to the log. Returns once it is on disk. Blocks for that long.
    ///
    /// # Errors
    /// The log's.
    pub fn save(&self, wal: &Wal) -> io::Result<()> {
        let (done, saved) = mpsc::channel();
        points::PASSPORT_BEFORE_SAVE.hit();
        wal.save_meta(self.encode(), Box::new(move |result| drop(done.send(result)))).map_err(io::Error::other)?;
        let saved = saved.recv().unwrap_or_else(|_| Err(io::Error::other("the log closed")));
        points::PASSPORT_AFTER_SAVE.hit();
        saved
    }
}

fn take_incarnation(bytes: &mut &[u8]) -> Option<Incarnation> {
    let mut incarnation = [0; 16];
    bytes.try_copy_to_slice(&mut incarnation).ok()?;
    Some(incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passport_reads_as_it_was_written() {
        let identity = Some(Identity { cluster_id: 7, member_id: MemberId(9) });
        let plain = Passport { identity, incarnation: [3; 16], ..Passport::blank() };
        let founders = BTreeMap::from([(MemberId(1), [1; 16]), (MemberId(2), [2; 16])]);
        let founder = Passport { founders, settled: true, removed: true, ..plain.clone() };
        let unclaimed = Passport { identity: None, ..plain.clone() };
        let former_clusters = vec![4, 5];
        let survivor = Passport { survival: Survival::Pending, former_clusters, settled: true, ..plain.clone() };
        let survived = Passport { survival: Survival::Done, permit: Bytes::from_static(b"nonce"), ..founder.clone() };
        for passport in [&plain, &founder, &unclaimed, &survivor, &survived] {
            assert_eq!(Passport::decode(&passport.encode()).as_ref(), Ok(passport));
            let bytes = passport.encode();
            assert!((0..bytes.len()).all(|len| Passport::decode(&bytes[..len]).is_err()));
        }
    }

    #[test]
    fn the_formats_of_before_still_read() {
        let mut bytes = vec![FORMAT_1];
        bytes.put_u64_le(7);
        bytes.put_u64_le(9);
        bytes.put_slice(&[3; 16]);
        let passport = Passport::decode(&bytes).expect("a passport");
        assert_eq!(passport.identity, Some(Identity { cluster_id: 7, member_id: MemberId(9) }));
        assert_eq!(passport.incarnation, [3; 16]);
        bytes[0] = FORMAT_2;
        bytes.extend([3, 1]);
        bytes.put_u64_le(8);
        bytes.put_slice(&[4; 16]);
        let passport = Passport::decode(&bytes).expect("a passport");
        assert!(passport.removed && passport.settled && passport.survival == Survival::None);
        assert_eq!(passport.founders, BTreeMap::from([(MemberId(8), [4; 16])]));
    }
}
