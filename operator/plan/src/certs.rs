//! Certificates, and the CA behind them. Members read their files anew, so that none of this restarts anybody.
//!
//! A new CA is trusted everywhere before it signs anything, and the old one is trusted until nothing it signed is in use.
//! The secrets hold how far that is; no record is needed, and no repair waits for it.

use std::collections::BTreeSet;

use crate::act::Act;
use crate::condition::Reason;
use crate::desired::Tls;
use crate::ids::{Seconds, Time};
use crate::next::Next;
use crate::observed::{Ca, Certificates, Leaf, Surface};
use crate::view::View;

/// Few renew a certificate that is good for years less than a week before its end.
const MARGIN: Seconds = Seconds(7 * 24 * 3600);

pub(crate) fn before_founding(v: &View) -> Next {
    match (&v.d.tls, v.o.certificates.known()) {
        (Tls::Disabled, _) => Next::Pass,
        (_, None) => Next::wait(Reason::MembersUnreachable, "the certificates can't be read"),
        (Tls::Given, Some(c)) => complete(c),
        (Tls::Auto { .. }, Some(c)) => step(v).or(|| complete(c)),
    }
}

/// Whether members have what they start with.
fn complete(c: &Certificates) -> Next {
    if [Surface::Server, Surface::Peer].iter().all(|surface| c.leaves.contains_key(surface)) {
        return Next::Pass;
    }
    match &c.flaw {
        Some((reason, why)) => Next::wait(*reason, why.as_ref()),
        None => Next::wait(Reason::CertificatePending, "the certificates are not there yet"),
    }
}

pub(crate) fn step(v: &View) -> Next {
    let (Tls::Auto { renew_before, settle, .. }, Some(certs)) = (&v.d.tls, v.o.certificates.known()) else {
        return Next::Pass;
    };
    let Some(issuer) = &certs.issuer else {
        // One that can't be read is not written over.
        return if certs.flaw.is_some() { Next::Pass } else { v.once(Act::CreateCa { next: false }) };
    };
    trust(v, certs, issuer)
        .or(|| switch(v, certs, *settle))
        .or(|| leaves(v, certs, issuer, *renew_before, *settle))
        .or(|| forget(v, certs, issuer, *settle))
}

/// A bundle only ever gets longer here.
fn trust(v: &View, certs: &Certificates, issuer: &Ca) -> Next {
    let mut cas = certs.bundle.clone();
    cas.insert(issuer.id.clone());
    cas.extend(certs.next.iter().map(|ca| ca.id.clone()));
    if cas == certs.bundle { Next::Pass } else { v.once(Act::PublishBundle { cas }) }
}

fn settled(v: &View, certs: &Certificates, settle: Seconds) -> bool {
    // Before there is a cluster nobody has an old bundle. That there is no StatefulSet says nothing: it may be about to
    // be made anew around its pods.
    let nobody = v.o.cluster.cluster_id.is_none() && v.workload.is_none() && v.pods.is_empty();
    nobody || certs.bundle_since.is_some_and(|since| v.now.since(since) >= settle)
}

fn switch(v: &View, certs: &Certificates, settle: Seconds) -> Next {
    match &certs.next {
        Some(next) if settled(v, certs, settle) && certs.bundle.contains(&next.id) => {
            v.once(Act::SwitchCa { to: next.id.clone() })
        }
        _ => Next::Pass,
    }
}

fn leaves(v: &View, certs: &Certificates, issuer: &Ca, renew_before: Seconds, settle: Seconds) -> Next {
    let since = settled(v, certs, settle) && certs.bundle.contains(&issuer.id);
    let trusted = since || certs.leaves.values().any(|leaf| leaf.ca == issuer.id);
    if !trusted {
        return Next::Pass;
    }
    for surface in Surface::ALL {
        let due = match certs.leaves.get(&surface) {
            None => true,
            // One that ends with its CA has no better one, until there is another CA.
            Some(leaf) if leaf.ca == issuer.id => {
                left(v, leaf.not_after) <= renew_before && leaf.not_after < issuer.not_after
            }
            Some(_) => true,
        };
        let next = if due { v.once(Act::IssueLeaf { surface, ca: issuer.id.clone() }) } else { Next::Pass };
        if next != Next::Pass {
            return next;
        }
    }
    Next::Pass
}

/// The old CA goes when the last leaf it signed has been out of use for as long as files take to be read.
fn forget(v: &View, certs: &Certificates, issuer: &Ca, settle: Seconds) -> Next {
    let mut cas = BTreeSet::from([issuer.id.clone()]);
    cas.extend(certs.next.iter().map(|ca| ca.id.clone()));
    let current = Surface::ALL.iter().all(|s| certs.leaves.get(s).is_some_and(|leaf| leaf.ca == issuer.id));
    let newest = certs.leaves.values().map(|leaf| leaf.issued).max();
    let unused = newest.is_some_and(|issued| v.now.since(issued) >= settle);
    if current && unused && cas != certs.bundle { v.once(Act::PublishBundle { cas }) } else { Next::Pass }
}

/// Begins a rotation in a quiet hour.
pub(crate) fn rotate(v: &View) -> Next {
    rotate_within(v, 1)
}

/// Begins it whatever else is under way, or can't get on: half the time there was is over.
pub(crate) fn rotate_late(v: &View) -> Next {
    rotate_within(v, 2)
}

/// Where no more than this part of the time is left that there is for it: 2 is a half.
fn rotate_within(v: &View, part: u64) -> Next {
    let (Tls::Auto { ca_renew_before, .. }, Some(certs)) = (&v.d.tls, v.o.certificates.known()) else {
        return Next::Pass;
    };
    let Some(issuer) = &certs.issuer else { return Next::Pass };
    // What is wrong with them would break it off half way.
    let ready = certs.next.is_none() && certs.bundle.len() <= 1 && certs.flaw.is_none();
    let due = ready && left(v, issuer.not_after).0 <= ca_renew_before.0 / part;
    if due { v.once(Act::CreateCa { next: true }) } else { Next::Pass }
}

fn left(v: &View, until: Time) -> Seconds {
    until.since(v.now)
}

/// What is wrong with them.
pub(crate) fn trouble(v: &View) -> Option<(Reason, String)> {
    if v.d.tls == Tls::Disabled {
        return None;
    }
    let Some(certs) = v.o.certificates.known() else { return Some((Reason::MembersUnreachable, String::new())) };
    let flaw = certs.flaw.as_ref().map(|(reason, why)| (*reason, why.as_ref().to_owned()));
    let serving = [Surface::Server, Surface::Peer];
    if serving.iter().any(|s| !certs.leaves.contains_key(s)) {
        return flaw.or_else(|| Some((Reason::CertificatePending, String::new())));
    }
    let any = |like: &dyn Fn(&Leaf) -> bool| certs.leaves.iter().find(|(_, leaf)| like(leaf)).map(|(s, _)| *s);
    if let Some(surface) = any(&|leaf| leaf.not_after <= v.now) {
        return Some((Reason::CertificateExpired, surface.told().to_owned()));
    }
    let late = |leaf: &Leaf| left(v, leaf.not_after) < margin(v, leaf);
    flaw.or_else(|| any(&late).map(|surface| (Reason::CertificateExpiringSoon, surface.told().to_owned())))
}

/// Whoever renews a certificate has done so before only this much is left.
fn margin(v: &View, leaf: &Leaf) -> Seconds {
    let some = Seconds(leaf.not_after.since(leaf.issued).0 / 10).min(MARGIN);
    match &v.d.tls {
        Tls::Auto { renew_before, .. } => some.min(Seconds(renew_before.0 / 2)),
        Tls::Disabled | Tls::Given => some,
    }
}
