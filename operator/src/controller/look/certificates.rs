//! What the cluster's Secrets hold, and what the operator shows to members.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use keepstone_operator_api::Reason;
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_plan::observed::{Certificates, Leaf, Seen, Surface};

use super::{Objects, at};
use crate::Blueprint;
use crate::controller::api::{Api, ApiError, typed};
use crate::controller::kind::Kind;
use crate::controller::members::Credentials;
use crate::controller::write::wanted;
use crate::objects::mounts::CA_KEY;
use crate::objects::{tls_secret, trust};
use crate::pki::{self, Authority, Bundle};

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
    let (mut authority, mut flaw) = (Authority::default(), None);
    for next in [false, true] {
        let name = b.names.ca_key(next);
        let Some(secret) = fetch(api, b, objects, &name).await? else { continue };
        match tls_secret::read_ca(&secret) {
            Ok(ca) if next => authority.next = Some(ca),
            Ok(ca) => authority.issuer = Some(ca),
            // One without its key signs nothing, and must not be written over: whoever lost it knows why.
            Err(why) => drop(flaw.get_or_insert_with(|| flawed(&name, &why))),
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
        match (authority.since, extra(api, b).await) {
            (Some(since), Ok(extra)) => {
                objects.trust = Some(wanted(&trust::build(b, &authority.bundle, extra.as_deref(), since)));
            }
            (_, Err(why)) => flaw = flaw.or_else(|| unusable(b, &why)),
            (None, Ok(_)) => {}
        }
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
    Ok((Certificates { flaw, ..authority.observed() }, authority, credentials))
}

/// What the user trusts besides can't be used, and nobody's silence is the reason.
fn unusable(b: &Blueprint, why: &ApiError) -> Option<Flaw> {
    let name = b.certificates().ca_bundle_secret?;
    let reason = match why {
        ApiError::NotFound(_) => Reason::SecretNotFound,
        ApiError::Refused(_) => Reason::CertificateInvalid,
        _ => return None,
    };
    Some((reason, format!("caBundleSecret {name}: {why}").into()))
}

/// What the user trusts besides, in PEM.
///
/// # Errors
/// It is not there, or is none; told in the log. What was trusted before stays until it can be read.
pub async fn extra(api: &impl Api, b: &Blueprint) -> Result<Option<String>, ApiError> {
    let Some(name) = b.certificates().ca_bundle_secret else { return Ok(None) };
    let read = async {
        let object = api.get(Kind::Secret, &at(b, &name)).await?;
        let secret: Secret = typed(&object.ok_or_else(|| ApiError::NotFound(name.clone()))?)?;
        let ca = secret.data.and_then(|mut data| data.remove(CA_KEY)).unwrap_or_default();
        let none = || ApiError::Refused(format!("there are no certificates under {CA_KEY}"));
        let pem = String::from_utf8(ca.0).map_err(|_| none())?;
        // A member would refuse the whole file for one that it can't read.
        let bundle = Bundle::from_pem(&pem).map_err(|why| ApiError::Refused(why.to_string()))?;
        if bundle.cas().is_empty() { Err(none()) } else { Ok(pem) }
    };
    match read.await {
        Ok(pem) => Ok(Some(pem)),
        Err(why) => {
            tracing::warn!(cluster = b.names.cluster, secret = name, %why, "caBundleSecret can't be used");
            Err(why)
        }
    }
}

/// They are somebody else's to make: here it only counts whether they are there, and until when.
async fn given(api: &impl Api, b: &Blueprint, objects: &mut Objects) -> Read {
    let mut certificates = Certificates::default();
    let (mut operator, mut server) = (None, None);
    let mut secrets = Vec::new();
    for surface in Surface::ALL {
        let Some(name) = place(b, surface) else { continue };
        let Some(secret) = fetch(api, b, objects, &name).await? else {
            certificates.flaw.get_or_insert_with(|| absent(b, objects, &name));
            continue;
        };
        let manager = b.spec.tls.provider == TlsProvider::CertManager;
        match leaf(&secret, manager || surface != Surface::Operator) {
            Ok(leaf) => {
                certificates.leaves.insert(surface, leaf);
                // One's own may be signed by itself, and shared by all members.
                if manager && signs_itself(&secret) {
                    let why = format!("the certificate in the Secret {name} is signed by itself");
                    certificates.flaw.get_or_insert((Reason::CANotShared, why.into()));
                }
            }
            Err(why) => drop(certificates.flaw.get_or_insert_with(|| flawed(&name, &why))),
        }
        secrets.push(secret.clone());
        match surface {
            Surface::Operator => operator = Some(secret),
            Surface::Server => server = Some(secret),
            Surface::Peer | Surface::Client => {}
        }
    }
    if b.spec.tls.provider == TlsProvider::CertManager && !objects.unknown.contains(&Kind::ConfigMap) {
        let since = certificates.leaves.values().map(|leaf| leaf.issued).max();
        if let (Some(since), Ok(extra)) = (since, extra(api, b).await) {
            objects.trust = signers(&secrets).map(|all| wanted(&trust::build(b, &all, extra.as_deref(), since)));
        }
    }
    // What verifies members is what is beside their certificate.
    let credentials = match (&operator, &server) {
        (Some(operator), Some(server)) => shown(operator, server),
        _ => None,
    };
    Ok((certificates, Authority::default(), credentials))
}

/// Whom the operator trusts is beside the members' certificate.
fn leaf(secret: &Secret, with_ca: bool) -> Result<Leaf, pki::Error> {
    let facts = tls_secret::read_leaf(secret)?.facts()?;
    if with_ca && !secret.data.as_ref().is_some_and(|data| data.contains_key(CA_KEY)) {
        return Err(pki::Error::Missing(CA_KEY));
    }
    Ok(Leaf { ca: Arc::from("given"), not_after: facts.not_after, issued: facts.issued })
}

/// Then there is no CA that could sign another.
fn signs_itself(secret: &Secret) -> bool {
    let part = |key: &str| secret.data.as_ref()?.get(key);
    part(CA_KEY) == part("tls.crt")
}

type Flaw = (Reason, Arc<str>);

/// Somebody's own Secret is there or not; cert-manager's comes.
fn absent(b: &Blueprint, objects: &Objects, name: &str) -> Flaw {
    if b.spec.tls.provider == TlsProvider::Secret {
        return (Reason::SecretNotFound, format!("the Secret {name} is not there").into());
    }
    if objects.of(Kind::Certificate).next().is_none() {
        return (Reason::IssuerNotFound, "there are no Certificates: is cert-manager installed?".into());
    }
    (Reason::CertificatePending, format!("cert-manager has not made the Secret {name} yet").into())
}

fn flawed(name: &str, why: &pki::Error) -> Flaw {
    let reason = match why {
        pki::Error::Missing(_) => Reason::SecretNotFound,
        _ => Reason::CertificateInvalid,
    };
    (reason, format!("the Secret {name}: {why}").into())
}

/// The CAs beside all certificates that are in use: members trust whoever has one of these. None while there is none.
fn signers(secrets: &[Secret]) -> Option<Bundle> {
    let pem = |secret: &Secret| String::from_utf8(secret.data.as_ref()?.get(CA_KEY)?.0.clone()).ok();
    let all: Vec<_> = secrets.iter().filter_map(pem).filter_map(|pem| Bundle::from_pem(&pem).ok()).collect();
    let bundle = Bundle::of(all.iter().flat_map(|one| one.cas().to_vec()).collect());
    (!bundle.cas().is_empty()).then_some(bundle)
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

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use keepstone_operator_plan::ids::Time;

    use super::*;
    use crate::Settings;
    use crate::blueprint::OperatorPods;
    use crate::pki::{Ca, LIFE, SystemKeys};

    #[test]
    fn what_a_secret_lacks_is_told_from_what_can_not_be_read() {
        let secret = |parts: &[(&str, &str)]| {
            let part = |(key, text): &(&str, &str)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()));
            Secret { data: Some(parts.iter().map(part).collect()), ..Secret::default() }
        };
        let reason = |parts: &[(&str, &str)]| flawed("mine", &leaf(&secret(parts), true).expect_err("it is no leaf")).0;
        assert_eq!(reason(&[]), Reason::SecretNotFound);
        assert_eq!(reason(&[("tls.crt", "x")]), Reason::SecretNotFound);
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(reason(&[("tls.crt", torn), ("tls.key", "y")]), Reason::CertificateInvalid);
    }

    /// While an issuer's CA changes, certificates of both are in use; each Secret has the one that signed what is in it.
    #[test]
    fn members_trust_whoever_signed_any_certificate_in_use() {
        let ca = |name| Ca::create(name, Time(1_800_000_000), LIFE, &mut SystemKeys).expect("a CA").certificate;
        let (old, new) = (ca("old"), ca("new"));
        let secret = |pem: String| Secret {
            data: Some([(CA_KEY.to_owned(), ByteString(pem.into_bytes()))].into()),
            ..Secret::default()
        };
        let both = [secret(old.to_pem()), secret(new.to_pem()), secret(old.to_pem()), secret("nothing".to_owned())];
        let found = signers(&both).expect("two");
        assert_eq!(found.cas().len(), 2);
        assert!(found.has(&old.id) && found.has(&new.id));
        assert_eq!(signers(&[secret(String::new()), Secret::default()]), None);
    }

    fn managed() -> Blueprint {
        let cluster = serde_json::json!({
            "metadata": {"name": "main", "namespace": "prod", "uid": "u"},
            "spec": {
                "size": 3, "version": "v0.1.0", "storageSpec": {"volumeSizeRequest": "1Gi"},
                "tls": {
                    "provider": "cert-manager",
                    "providerCfg": {"certManagerCfg": {"issuerName": "own", "issuerKind": "Issuer"}},
                },
            },
        });
        let cluster = serde_json::from_value(cluster).expect("a cluster");
        let operator = OperatorPods { namespace: "keepstone-system".to_owned(), labels: Vec::new() };
        let (image, domain, agent) = ("keepstone".to_owned(), "cluster.local".to_owned(), "agent".to_owned());
        Blueprint::read(&cluster, &Settings { image, domain, agent, operator }).expect("it is whole")
    }

    #[test]
    fn it_is_told_whether_a_certificate_is_late_or_nobody_makes_any() {
        let mut objects = Objects::default();
        assert_eq!(absent(&managed(), &objects, "main-server-tls").0, Reason::IssuerNotFound);
        objects.put(Kind::Certificate, serde_json::json!({"metadata": {"name": "main-server-tls"}}));
        assert_eq!(absent(&managed(), &objects, "main-server-tls").0, Reason::CertificatePending);
    }

    /// As an issuer of the kind selfSigned makes them: none verifies another.
    #[test]
    fn a_certificate_that_signs_itself_is_told_from_one_that_a_ca_signed() {
        let secret = |ca: &str| {
            let part = |(key, text): (&str, &str)| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
            Secret { data: Some([("tls.crt", "leaf"), (CA_KEY, ca)].map(part).into()), ..Secret::default() }
        };
        assert!(signs_itself(&secret("leaf")));
        assert!(!signs_itself(&secret("ca")));
    }
}
