//! What a certificate says of its holder, and what a request may know of the connection it came on.

use std::net::IpAddr;
use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// In every request's extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// The connection is encrypted.
    pub secure: bool,
    /// What the other side showed, verified; absent where nobody was asked.
    pub certificate: Option<Arc<Certificate>>,
}

/// The parts of a certificate that decide anything here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The last CN of the subject, as Go reads it; empty without one.
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    /// Big-endian, without zeros in front.
    pub serial: Vec<u8>,
    /// Seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// It is no X.509 certificate, or its alternative names are broken.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| format!("x509: {error}"))?;
        let common_name = parsed.subject().iter_common_name().last().and_then(|cn| cn.as_str().ok());
        let mut certificate = Self {
            common_name: common_name.unwrap_or_default().to_owned(),
            serial: magnitude(parsed.raw_serial()),
            not_after: parsed.validity().not_after.timestamp(),
            ..Self::default()
        };
        let names = parsed.subject_alternative_name().map_err(|error| format!("x509: {error}"))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => certificate.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => certificate.ip_addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(certificate)
    }
}

/// An integer's bytes without the zeros that only say that it is positive.
pub(super) fn magnitude(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
