//! Certificates. Whatever is trusted is written into the leaves' Secrets first and into the ConfigMap last: it tells what
//! everybody else has been given already.

use std::collections::BTreeSet;
use std::sync::Arc;

use keepstone_operator_plan::ids::Seconds;
use keepstone_operator_plan::observed::Surface;

use super::{ActError, Done, Hands};
use crate::controller::api::Api;
use crate::controller::kind::Kind;
use crate::controller::look::certificates::extra;
use crate::controller::members::Members;
use crate::controller::write::wanted;
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
        let extra = extra(self.api, b).await?;
        // Members get to know it from when it is written, not from when that was decided: a pass may be slow.
        let known = after.bundle.ids() == self.look.authority.bundle.ids();
        let since = after.since.filter(|_| known).unwrap_or_else(|| self.clock.now());
        let map = trust::build(b, &after.bundle, extra.as_deref(), since);
        self.put(Kind::ConfigMap, &b.names.trust(), &wanted(&map)).await
    }

    pub(super) async fn issue(&self, surface: Surface, ca: &str) -> Done {
        let b = &self.look.blueprint;
        let valid = Seconds(profile::validity(b));
        // The certificate before it is in use until this one is written, however long ago that was decided.
        let now = self.clock.now();
        let after = {
            let mut keys = self.keys.lock();
            self.look.authority.sign(surface, ca, &profile::of(b, surface), valid, now, keys.as_mut())?
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
