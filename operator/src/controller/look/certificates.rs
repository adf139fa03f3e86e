//! What the cluster's Secrets hold, and what the operator shows to members.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_plan::observed::{Certificates, Leaf, Seen, Surface};

use super::{Objects, at};
use crate::Blueprint;
use crate::controller::api::{Api, ApiError, typed};
use crate::controller::kind::Kind;
use crate::controller::members::Credentials;
use crate::objects::mounts::CA_KEY;
use crate::objects::{tls_secret, trust};
use crate::pki::Authority;

type Found = (Seen<Certificates>, Authority, Option<Credentials>);

/// Secrets are read by name, and never listed.
pub async fn look(api: &impl Api, b: &Blueprint, objects: &mut Objects) -> Found {
    let read = match b.spec.tls.provider {
        TlsProvider::Disabled => return (Seen::Known(Certificates::default()), Authority::default(), None),
        TlsProvider::Auto => own(api, b, objects).await,
        TlsProvider::CertManager | TlsProvider::Secret => given(api, b, objects).await,
    };
    match read {
        Ok((certificates, authority, credentials)) => (Seen::Known(certificates), authority, credentials),
        Err(why) => {
            tracing::warn!(%why, "the certificates can't be read");
            (Seen::Unknown, Authority::default(), None)
        }
    }
}

async fn fetch(api: &impl Api, b: &Blueprint, objects: &mut Objects, name: &str) -> Result<Option<Secret>, ApiError> {
    let Some(object) = api.get(Kind::Secret, &at(b, name)).await? else { return Ok(None) };
    let secret = typed(&object)?;
    objects.all.insert((Kind::Secret, name.to_owned()), object);
    Ok(Some(secret))
}

type Read = Result<(Certificates, Authority, Option<Credentials>), ApiError>;

async fn own(api: &impl Api, b: &Blueprint, objects: &mut Objects) -> Read {
    let unreadable = |why: crate::pki::Error| ApiError::Refused(why.to_string());
    let mut authority = Authority::default();
    for next in [false, true] {
        if let Some(secret) = fetch(api, b, objects, &b.names.ca_key(next)).await? {
            // One without its key signs nothing, and must not be written over: whoever lost it knows why.
            let ca = tls_secret::read_ca(&secret).map_err(unreadable)?;
            if next { authority.next = Some(ca) } else { authority.issuer = Some(ca) }
        }
    }
    let same = |a: &Authority| match (&a.issuer, &a.next) {
        (Some(issuer), Some(next)) => issuer.certificate.id == next.certificate.id,
        _ => false,
    };
    if same(&authority) {
        // The switch is done; its Secret stays until there is another next.
        authority.next = None;
    }
    if objects.unknown.contains(&Kind::ConfigMap) {
        return Err(ApiError::Silence("the CAs that are trusted".to_owned()));
    }
    if let Some(object) = objects.get(Kind::ConfigMap, &b.names.trust()) {
        let map: ConfigMap = typed(object)?;
        (authority.bundle, authority.since) = trust::read(&map).map_err(unreadable)?;
    }
    let mut credentials = None;
    for surface in Surface::ALL {
        let Some(secret) = fetch(api, b, objects, &b.names.leaf(surface)).await? else { continue };
        if let Ok(leaf) = tls_secret::read_leaf(&secret) {
            authority.leaves.insert(surface, leaf);
        }
        if surface == Surface::Operator {
            credentials = shown(&secret, &secret);
        }
    }
    Ok((authority.observed(), authority, credentials))
}

/// They are somebody else's to make: here it only counts whether they are there, and until when.
async fn given(api: &impl Api, b: &Blueprint, objects: &mut Objects) -> Read {
    let mut certificates = Certificates::default();
    let (mut operator, mut server) = (None, None);
    for surface in Surface::ALL {
        let Some(name) = place(b, surface) else { continue };
        let Some(secret) = fetch(api, b, objects, &name).await? else { continue };
        let facts = tls_secret::read_leaf(&secret).ok().and_then(|leaf| leaf.facts().ok());
        if let Some(facts) = facts {
            let leaf = Leaf { ca: Arc::from("given"), not_after: facts.not_after, issued: facts.issued };
            certificates.leaves.insert(surface, leaf);
        }
        match surface {
            Surface::Operator => operator = Some(secret),
            Surface::Server => server = Some(secret),
            Surface::Peer | Surface::Client => {}
        }
    }
    // What verifies members is what is beside their certificate.
    let credentials = match (&operator, &server) {
        (Some(operator), Some(server)) => shown(operator, server),
        _ => None,
    };
    Ok((certificates, Authority::default(), credentials))
}

fn place(b: &Blueprint, surface: Surface) -> Option<String> {
    match (&b.spec.tls.provider, &b.spec.tls.provider_cfg.secret_cfg) {
        (TlsProvider::Secret, Some(given)) => match surface {
            Surface::Server => Some(given.server_secret_ref.name.clone()),
            Surface::Peer => Some(given.peer_secret_ref.name.clone()),
            Surface::Operator => Some(given.operator_secret_ref.name.clone()),
            Surface::Client => None,
        },
        _ => Some(b.names.leaf(surface)),
    }
}

fn shown(own: &Secret, trusted: &Secret) -> Option<Credentials> {
    let part = |secret: &Secret, key: &str| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.clone());
    Some(Credentials { certificate: part(own, "tls.crt")?, key: part(own, "tls.key")?, ca: part(trusted, CA_KEY)? })
}
