//! Keys that a seed decides, so that a run is the same twice.

use keepstone_operator::pki::{Error, KeySource};
use rcgen::KeyPair;

use crate::rng::Rng;

/// Ed25519 in PKCS#8, up to the key itself.
const BEFORE: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

#[derive(Debug)]
pub struct Keys(Rng);

impl Keys {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed ^ 0x6b65_7973))
    }
}

impl KeySource for Keys {
    fn key(&mut self) -> Result<KeyPair, Error> {
        let drawn = (0..4).flat_map(|_| self.0.draw().to_be_bytes());
        let der: Vec<u8> = BEFORE.into_iter().chain(drawn).collect();
        KeyPair::try_from(der).map_err(|why| Error::Key(why.to_string()))
    }
}
