//! How one CA takes another's place: the next one is made, everybody is given both, the next one signs, everything is signed
//! anew, and the old one is taken away. At each step what anybody shows is trusted by everybody, also by those whose files
//! are a step behind.
//!
//! Each step is a function from what there is to what there should be. Done twice it changes nothing the second time, but
//! that a certificate is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keepstone_operator_plan::ids::{Seconds, Time};
use keepstone_operator_plan::observed::{self, Certificates, Surface};

use super::profile::Profile;
use super::{Bundle, Ca, CaCertificate, Error, KeySource, Leaf, issue};

/// What a cluster's Secrets hold, all of them together.
#[derive(Debug, Clone, Default)]
pub struct Authority {
    /// Signs.
    pub issuer: Option<Ca>,
    /// Will sign.
    pub next: Option<Ca>,
    /// What everybody has been given to trust.
    pub bundle: Bundle,
    /// Since when.
    pub since: Option<Time>,
    pub leaves: BTreeMap<Surface, Leaf>,
}

impl Authority {
    /// Makes the first CA, or the next one.
    ///
    /// # Errors
    /// As [`Ca::create`].
    pub fn create(
        &self,
        next: bool,
        cluster: &str,
        life: Seconds,
        now: Time,
        keys: &mut dyn KeySource,
    ) -> Result<Self, Error> {
        let mut after = self.clone();
        let place = if next { &mut after.next } else { &mut after.issuer };
        if place.is_none() {
            *place = Some(Ca::create(cluster, now, life, keys)?);
        }
        Ok(after)
    }

    /// Has everybody trust these CAs, and no other.
    ///
    /// # Errors
    /// A CA is not known; or one is missing that signs, or signed what is still in use.
    pub fn publish(&self, cas: &BTreeSet<Arc<str>>, now: Time) -> Result<Self, Error> {
        if *cas == self.bundle.ids() {
            return Ok(self.clone());
        }
        let known = self.known();
        if let Some(unknown) = cas.iter().find(|id| !known.iter().any(|ca| ca.id == **id)) {
            return Err(Error::UnknownCa(unknown.clone()));
        }
        for ca in &known {
            if !cas.contains(&ca.id) && self.uses(ca) {
                return Err(Error::InUse(ca.id.clone()));
            }
        }
        let bundle = Bundle::of(known.into_iter().filter(|ca| cas.contains(&ca.id)).collect());
        Ok(Self { bundle, since: Some(now), ..self.clone() })
    }

    /// From now on the next CA signs.
    ///
    /// # Errors
    /// It is another, or not everybody has been given it.
    pub fn switch(&self, to: &str) -> Result<Self, Error> {
        if self.issuer.as_ref().is_some_and(|ca| *ca.certificate.id == *to) {
            return Ok(Self { next: self.next.clone().filter(|ca| *ca.certificate.id != *to), ..self.clone() });
        }
        let next = self.next.clone().filter(|ca| *ca.certificate.id == *to);
        let next = next.ok_or_else(|| Error::UnknownCa(to.into()))?;
        if !self.bundle.has(to) {
            return Err(Error::Untrusted(to.into()));
        }
        Ok(Self { issuer: Some(next), next: None, ..self.clone() })
    }

    /// Signs a certificate.
    ///
    /// # Errors
    /// `ca` does not sign, not everybody trusts it, or as [`issue`].
    pub fn sign(
        &self,
        surface: Surface,
        ca: &str,
        profile: &Profile,
        valid: Seconds,
        now: Time,
        keys: &mut dyn KeySource,
    ) -> Result<Self, Error> {
        let issuer = self.issuer.as_ref().filter(|issuer| *issuer.certificate.id == *ca);
        let issuer = issuer.ok_or_else(|| Error::UnknownCa(ca.into()))?;
        if !self.bundle.has(ca) {
            return Err(Error::Untrusted(ca.into()));
        }
        let leaf = issue(issuer, profile, valid, now, keys)?;
        let mut after = self.clone();
        after.leaves.insert(surface, leaf);
        Ok(after)
    }

    /// What the planner is told of it. A certificate that can't be read, or that no known CA signed, is as good as none.
    #[must_use]
    pub fn observed(&self) -> Certificates {
        let ca = |ca: &Ca| observed::Ca { id: ca.certificate.id.clone(), not_after: ca.certificate.not_after };
        let known = self.known();
        let leaf = |(surface, leaf): (&Surface, &Leaf)| {
            let facts = leaf.facts().ok()?;
            let ca = known.iter().find(|ca| facts.names(ca))?.id.clone();
            Some((*surface, observed::Leaf { ca, not_after: facts.not_after, issued: facts.issued }))
        };
        Certificates {
            issuer: self.issuer.as_ref().map(ca),
            next: self.next.as_ref().map(ca),
            bundle: self.bundle.ids(),
            bundle_since: self.since,
            leaves: self.leaves.iter().filter_map(leaf).collect(),
            flaw: None,
        }
    }

    /// Every CA there is.
    fn known(&self) -> Vec<CaCertificate> {
        let signing = self.issuer.iter().chain(&self.next).map(|ca| ca.certificate.clone());
        Bundle::of(signing.chain(self.bundle.cas().iter().cloned()).collect()).cas().to_vec()
    }

    /// Whether it signs, or signed what is still in use. What can't be read is of no use to anybody.
    fn uses(&self, ca: &CaCertificate) -> bool {
        let signs = self.issuer.iter().any(|issuer| issuer.certificate.id == ca.id);
        signs || self.leaves.values().any(|leaf| leaf.facts().is_ok_and(|facts| facts.names(ca)))
    }
}
