//! Certificates that a CA signs.

use std::fmt;
use std::net::IpAddr;

use keepstone_operator_plan::ids::{Seconds, Time};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use x509_parser::extensions::ParsedExtension;

use super::ca::{at, name, parse, validity};
use super::profile::Profile;
use super::{Ca, CaCertificate, Error, KeySource, SKEW, pem};

/// A certificate and its key, as they stand in a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl fmt::Debug for Leaf {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub not_before: Time,
    pub not_after: Time,
    /// When it was made.
    pub issued: Time,
    authority_key_id: Vec<u8>,
}

impl Facts {
    /// Whether that CA signed it, by what it says.
    #[must_use]
    pub fn names(&self, ca: &CaCertificate) -> bool {
        ca.is_named(&self.authority_key_id)
    }
}

impl Leaf {
    /// # Errors
    /// It is no certificate.
    pub fn facts(&self) -> Result<Facts, Error> {
        let ders = pem::certificates(&self.certificate_pem)?;
        let parsed = parse(ders.first().ok_or(Error::Missing("the certificate"))?)?;
        let (not_before, not_after) = validity(&parsed);
        let authority_key_id = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            _ => None,
        });
        let issued = Time(not_before.0.saturating_add(SKEW));
        Ok(Facts { not_before, not_after, issued, authority_key_id: authority_key_id.unwrap_or_default() })
    }
}

/// Signs a certificate with a key of its own. It ends no later than the CA.
///
/// # Errors
/// The CA has ended, a name can't be in a certificate, or there is no key to be had.
pub fn issue(ca: &Ca, profile: &Profile, valid: Seconds, now: Time, keys: &mut dyn KeySource) -> Result<Leaf, Error> {
    let until = now.after(valid).min(ca.certificate.not_after);
    if until <= now {
        return Err(Error::Ended(ca.certificate.id.clone()));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&profile.common_name);
    for organization in &profile.organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.subject_alt_names = alt_names(profile)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let usages = [
        (profile.serves, ExtendedKeyUsagePurpose::ServerAuth),
        (profile.connects, ExtendedKeyUsagePurpose::ClientAuth),
    ];
    params.extended_key_usages = usages.into_iter().filter(|(wanted, _)| *wanted).map(|(_, usage)| usage).collect();
    params.use_authority_key_identifier_extension = true;
    params.not_before = at(Time(now.0.saturating_sub(SKEW))).into();
    params.not_after = at(until).into();
    let key = keys.key()?;
    let made = params.signed_by(&key, &ca.issuer()?).map_err(|error| Error::Signing(error.to_string()))?;
    Ok(Leaf {
        certificate_pem: pem::encode("CERTIFICATE", made.der()),
        key_pem: pem::encode("PRIVATE KEY", &key.serialize_der()),
    })
}

fn alt_names(profile: &Profile) -> Result<Vec<SanType>, Error> {
    let mut names = Vec::new();
    for dns in &profile.dns_names {
        let plain = !dns.is_empty() && dns.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
        let name = dns.as_str().try_into().ok().filter(|_| plain).ok_or_else(|| Error::Name(dns.clone()))?;
        names.push(SanType::DnsName(name));
    }
    for ip in &profile.ip_addresses {
        names.push(SanType::IpAddress(ip.parse::<IpAddr>().map_err(|_| Error::Name(ip.clone()))?));
    }
    Ok(names)
}
