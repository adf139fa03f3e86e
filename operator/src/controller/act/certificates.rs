//! Certificates. Whatever is trusted is written into the leaves' Secrets first and into the ConfigMap last: it tells what
//! everybody else has been given already.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use keepstone_operator_plan::ids::Seconds;
use keepstone_operator_plan::observed::Surface;

use super::{ActError, Done, Hands};
use crate::controller::api::{Api, typed};
use crate::controller::kind::Kind;
use crate::controller::look::at;
use crate::controller::members::Members;
use crate::controller::write::wanted;
use crate::objects::mounts::CA_KEY;
use crate::objects::{tls_secret, trust};
use crate::pki::{Authority, LIFE, profile};

impl<A: Api, M: Members> Hands<'_, A, M> {
    pub(super) async fn create_ca(&self, next: bool) -> Done {
        let b = &self.look.blueprint;
        let life = Seconds(LIFE.0.max(profile::validity(b).saturating_mul(3)));
        let made = {
            let mut keys = self.keys.lock();
            self.look.authority.create(next, &b.names.cluster, life, self.now, keys.as_mut())?
        };
        let ca = if next { made.next } else { made.issuer };
        let ca = ca.ok_or(ActError::Gone("the CA"))?;
        let name = b.names.ca_key(next);
        self.put(Kind::Secret, &name, &wanted(&tls_secret::ca(b, &ca, next))).await
    }

    pub(super) async fn publish(&self, cas: &BTreeSet<Arc<str>>) -> Done {
        let b = &self.look.blueprint;
        let after = self.look.authority.publish(cas, self.now)?;
        for surface in Surface::ALL {
            if after.leaves.contains_key(&surface) {
                self.write_leaf(&after, surface).await?;
            }
        }
        let extra = self.extra().await?;
        let map = trust::build(b, &after.bundle, extra.as_deref(), after.since.unwrap_or(self.now));
        self.put(Kind::ConfigMap, &b.names.trust(), &wanted(&map)).await
    }

    /// What the user trusts besides.
    async fn extra(&self) -> Result<Option<String>, ActError> {
        let b = &self.look.blueprint;
        let Some(name) = b.certificates().ca_bundle_secret else { return Ok(None) };
        let Some(object) = self.api.get(Kind::Secret, &at(b, &name)).await? else {
            return Err(ActError::Gone("the Secret with more CAs"));
        };
        let secret: Secret = typed(&object)?;
        let ca = secret.data.as_ref().and_then(|data| data.get(CA_KEY)).map(|bytes| bytes.0.clone());
        Ok(ca.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    pub(super) async fn issue(&self, surface: Surface, ca: &str) -> Done {
        let b = &self.look.blueprint;
        let valid = Seconds(profile::validity(b));
        let after = {
            let mut keys = self.keys.lock();
            self.look.authority.sign(surface, ca, &profile::of(b, surface), valid, self.now, keys.as_mut())?
        };
        self.write_leaf(&after, surface).await
    }

    async fn write_leaf(&self, authority: &Authority, surface: Surface) -> Done {
        let b = &self.look.blueprint;
        let leaf = authority.leaves.get(&surface).ok_or(ActError::Gone("the certificate"))?;
        let secret = tls_secret::leaf(b, surface, leaf, &authority.bundle);
        self.put(Kind::Secret, &b.names.leaf(surface), &wanted(&secret)).await
    }

    pub(super) async fn switch(&self, to: &str) -> Done {
        let b = &self.look.blueprint;
        let after = self.look.authority.switch(to)?;
        let ca = after.issuer.ok_or(ActError::Gone("the CA"))?;
        self.put(Kind::Secret, &b.names.ca_key(false), &wanted(&tls_secret::ca(b, &ca, false))).await
    }
}
