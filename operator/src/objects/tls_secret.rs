//! The Secrets with certificates and keys: a CA's, which only the operator reads, and those that pods and clients mount.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use keepstone_operator_plan::observed::Surface;

use crate::Blueprint;
use crate::objects::mounts::CA_KEY;
use crate::pki::{self, Bundle, Ca, Leaf};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A CA, or the one that will follow it.
#[must_use]
pub fn ca(b: &Blueprint, ca: &Ca, next: bool) -> Secret {
    secret(b, b.names.ca_key(next), vec![(CERTIFICATE, ca.certificate.to_pem()), (KEY, ca.key_pem())])
}

/// A certificate, with the CAs that its holder is to trust.
#[must_use]
pub fn leaf(b: &Blueprint, surface: Surface, leaf: &Leaf, bundle: &Bundle) -> Secret {
    let data =
        vec![(CERTIFICATE, leaf.certificate_pem.clone()), (KEY, leaf.key_pem.clone()), (CA_KEY, bundle.to_pem())];
    secret(b, b.names.leaf(surface), data)
}

/// # Errors
/// It lacks a part, or has one of no use.
pub fn read_ca(secret: &Secret) -> Result<Ca, pki::Error> {
    Ca::from_pem(&text(secret, CERTIFICATE)?, &text(secret, KEY)?)
}

/// # Errors
/// It lacks a part.
pub fn read_leaf(secret: &Secret) -> Result<Leaf, pki::Error> {
    Ok(Leaf { certificate_pem: text(secret, CERTIFICATE)?, key_pem: text(secret, KEY)? })
}

fn text(secret: &Secret, key: &'static str) -> Result<String, pki::Error> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).ok_or(pki::Error::Missing(key))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| pki::Error::Missing(key))
}

fn secret(b: &Blueprint, name: String, data: Vec<(&str, String)>) -> Secret {
    let data = data.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect();
    Secret {
        metadata: b.metadata(name),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}
