//! Where keys come from. A certificate's serial number is made of its key, so that there is nothing else to draw.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use super::Error;

pub trait KeySource {
    /// One that nobody had before.
    ///
    /// # Errors
    /// There is none to be had.
    fn key(&mut self) -> Result<KeyPair, Error>;
}

/// The machine's random numbers. ECDSA on P-256: every client knows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemKeys;

impl KeySource for SystemKeys {
    fn key(&mut self) -> Result<KeyPair, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| Error::Key(error.to_string()))
    }
}
