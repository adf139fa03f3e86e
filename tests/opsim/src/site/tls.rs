//! What members have mounted of certificates, and that everybody trusts what everybody shows.
//!
//! A kubelet looks at Secrets and ConfigMaps about once a minute, each pod's at a time of its own; a pod that is made begins with
//! what there is. The operator reads its own Secret anew in each pass.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use keepstone_operator::controller::kind::Kind;
use keepstone_operator::objects::tls_secret;
use keepstone_operator::pki::{Bundle, CaCertificate};
use keepstone_operator_plan::observed::Surface;
use serde::de::DeserializeOwned;

use super::Site;
use crate::render;
use crate::rng::Rng;

/// Seconds after which every kubelet has looked.
const LATEST: u64 = 90;

type Cas = BTreeSet<String>;

/// A certificate: who signed it, and until when it is good.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Shown {
    ca: String,
    until: u64,
}

/// What one holder has: what it shows on each surface, and whom it trusts there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Files {
    shown: BTreeMap<Surface, Shown>,
    /// The CAs beside each certificate.
    beside: BTreeMap<Surface, Cas>,
    /// Of the ConfigMap: what members trust clients by.
    clients: Cas,
}

#[derive(Debug, Clone)]
struct Mount {
    pod: u32,
    version: u64,
    files: Files,
}

#[derive(Debug)]
pub struct Tls {
    rng: Rng,
    known: Vec<CaCertificate>,
    /// The resource versions that `now` was read from, a count of such states, and when the last began.
    read: Vec<String>,
    version: u64,
    since: u64,
    now: Files,
    mounts: BTreeMap<u32, Mount>,
    /// A client far from the operator, with its own copy of the client Secret.
    client: Option<Mount>,
}

impl Tls {
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        let (known, read, mounts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { rng, known, read, version: 0, since: 0, now: Files::default(), mounts, client: None }
    }

    /// CAs are told apart by when they were made.
    fn call(&self, id: &str) -> String {
        let at = self.known.iter().position(|ca| *ca.id == *id);
        at.map_or_else(|| "nobody".to_owned(), |at| format!("CA{at}"))
    }
}

impl Site {
    /// Kubelets look: those that must by now, and one besides. Whatever was changed is looked over.
    pub fn mount(&mut self, one: Option<u32>) {
        let Some(mut tls) = self.tls.take() else { return };
        let found = self.mount_with(&mut tls, one);
        self.tls = Some(tls);
        if let Err(why) = found {
            self.say(why.clone());
            self.broken.get_or_insert(why);
        }
    }

    fn mount_with(&mut self, tls: &mut Tls, one: Option<u32>) -> Result<(), String> {
        let changed = self.read_files(tls);
        let pods: BTreeMap<u32, u32> = self.world.kube.pods.iter().map(|(n, pod)| (*n, pod.made)).collect();
        let before = tls.mounts.len();
        tls.mounts.retain(|n, mount| pods.get(n) == Some(&mount.pod));
        let mut news = changed || before != tls.mounts.len();
        let fresh = |pod| Mount { pod, version: tls.version, files: tls.now.clone() };
        for (n, made) in &pods {
            if !tls.mounts.contains_key(n) {
                tls.mounts.insert(*n, fresh(*made));
                news = true;
            }
        }
        if tls.client.is_none() && tls.now.shown.contains_key(&Surface::Client) {
            tls.client = Some(fresh(0));
        }
        if news {
            self.trusted(tls)?;
        }
        let must = self.world.now >= tls.since + LATEST;
        let behind: Vec<u32> = tls.mounts.iter().filter(|(_, m)| m.version != tls.version).map(|(n, _)| *n).collect();
        let mut looks: Vec<u32> = behind.into_iter().filter(|n| must || Some(*n) == one).collect();
        while !looks.is_empty() {
            let at = usize::try_from(tls.rng.below(looks.len() as u64)).unwrap_or(0);
            let n = looks.swap_remove(at);
            if let Some(mount) = tls.mounts.get_mut(&n) {
                (mount.version, mount.files) = (tls.version, tls.now.clone());
            }
            self.trusted(tls)?;
        }
        let client = tls.client.as_ref().is_some_and(|client| client.version != tls.version);
        if client && (must || one == Some(u32::MAX)) {
            tls.client = Some(Mount { pod: 0, version: tls.version, files: tls.now.clone() });
            self.trusted(tls)?;
        }
        if must && !tls.mounts.is_empty() {
            self.in_time(tls)?;
        }
        Ok(())
    }

    /// Whether the Secrets and the ConfigMap say something new.
    fn read_files(&mut self, tls: &mut Tls) -> bool {
        let names = render::names();
        let mut places = vec![(Kind::ConfigMap, names.trust())];
        places.extend(Surface::ALL.map(|surface| (Kind::Secret, names.leaf(surface))));
        places.extend([false, true].map(|next| (Kind::Secret, names.ca_key(next))));
        let version = |(kind, name): &(Kind, String)| {
            let object = self.objects.get(&(*kind, name.clone()));
            object.map_or_else(String::new, |object| keepstone_operator::controller::api::version(object).to_owned())
        };
        let read: Vec<String> = places.iter().map(version).collect();
        if read == tls.read {
            return false;
        }
        tls.read = read;
        for next in [false, true] {
            let secret: Option<Secret> = self.typed(Kind::Secret, &names.ca_key(next));
            tls.known.extend(secret.and_then(|secret| tls_secret::read_ca(&secret).ok()).map(|ca| ca.certificate));
        }
        let mut known = Bundle::of(std::mem::take(&mut tls.known)).cas().to_vec();
        let mut files = Files::default();
        let ids = |pem: &str| Bundle::from_pem(pem).map(|cas| cas.ids().iter().map(ToString::to_string).collect());
        if let Some(map) = self.typed::<ConfigMap>(Kind::ConfigMap, &names.trust()) {
            let pem = map.data.and_then(|data| data.get("ca.crt").cloned()).unwrap_or_default();
            known.extend(Bundle::from_pem(&pem).into_iter().flat_map(|cas| cas.cas().to_vec()));
            files.clients = ids(&pem).unwrap_or_default();
        }
        for surface in Surface::ALL {
            let Some(secret) = self.typed::<Secret>(Kind::Secret, &names.leaf(surface)) else { continue };
            let pem = secret.data.as_ref().and_then(|data| data.get("ca.crt")).map(|bytes| bytes.0.clone());
            let pem = String::from_utf8(pem.unwrap_or_default()).unwrap_or_default();
            files.beside.insert(surface, ids(&pem).unwrap_or_default());
            let Ok(facts) = tls_secret::read_leaf(&secret).and_then(|leaf| leaf.facts()) else { continue };
            let ca = known.iter().find(|ca| facts.names(ca)).map_or_else(String::new, |ca| ca.id.to_string());
            files.shown.insert(surface, Shown { ca, until: facts.not_after.0 });
        }
        tls.known = Bundle::of(known).cas().to_vec();
        if files == tls.now {
            return false;
        }
        let call = |cas: &Cas| cas.iter().map(|ca| tls.call(ca)).collect::<Vec<_>>().join("+");
        let shown = |(surface, leaf): (&Surface, &Shown)| {
            let beside = files.beside.get(surface).map(call).unwrap_or_default();
            format!("{surface:?} by {} with {beside}", tls.call(&leaf.ca))
        };
        let all: Vec<_> = files.shown.iter().map(shown).collect();
        self.say(format!("certificates: {}; clients by {}", all.join(", "), call(&files.clients)));
        tls.now = files;
        tls.version += 1;
        tls.since = self.world.now;
        true
    }

    fn typed<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Option<T> {
        let object = self.objects.get(&(kind, name.to_owned()))?;
        T::deserialize(&**object).ok()
    }

    /// Everybody who runs trusts whatever anybody shows him.
    fn trusted(&self, tls: &Tls) -> Result<(), String> {
        if self.gone {
            return Ok(());
        }
        let runs = |n: &u32| self.world.kube.pods.get(n).is_some_and(|pod| pod.started);
        let up: Vec<_> = tls.mounts.iter().filter(|(n, _)| runs(n)).map(|(n, mount)| (*n, &mount.files)).collect();
        let signed =
            |files: &Files, surface| files.shown.get(&surface).map_or_else(String::new, |leaf| leaf.ca.clone());
        let beside = |files: &Files, surface| files.beside.get(&surface).cloned().unwrap_or_default();
        let outside = [(Surface::Operator, Some(&tls.now)), (Surface::Client, tls.client.as_ref().map(|m| &m.files))];
        for (n, files) in &up {
            for (m, others) in &up {
                if !beside(others, Surface::Peer).contains(&signed(files, Surface::Peer)) {
                    return Err(format!("member {m} does not trust what member {n} shows it"));
                }
            }
            for (surface, theirs) in outside.iter().filter_map(|(surface, files)| Some((*surface, (*files)?))) {
                if !files.clients.contains(&signed(theirs, surface)) {
                    return Err(format!("member {n} does not trust the certificate {surface:?}"));
                }
                if !beside(theirs, surface).contains(&signed(files, Surface::Server)) {
                    return Err(format!("{surface:?} does not trust member {n}"));
                }
            }
        }
        Ok(())
    }

    /// Nobody shows what has ended.
    fn in_time(&self, tls: &Tls) -> Result<(), String> {
        let ended = |files: &Files| files.shown.iter().find(|(_, leaf)| leaf.until <= self.world.now).map(|(s, _)| *s);
        let all = tls.mounts.values().map(|mount| &mount.files).chain([&tls.now]);
        match all.filter_map(ended).next() {
            Some(surface) if !self.gone => Err(format!("the certificate {surface:?} has ended, and is in use")),
            _ => Ok(()),
        }
    }

    /// Seconds until the first certificate ends that is in use, or that the operator has made.
    #[must_use]
    pub fn good_for(&self) -> Option<u64> {
        let tls = self.tls.as_ref()?;
        let all = tls.mounts.values().map(|mount| &mount.files).chain([&tls.now]);
        let first = all.flat_map(|files| files.shown.values()).map(|leaf| leaf.until).min()?;
        Some(first.saturating_sub(self.world.now))
    }

    /// Seconds until the CA ends that signs now.
    #[must_use]
    pub fn authority_good_for(&self) -> Option<u64> {
        let secret: Secret = self.typed(Kind::Secret, &render::names().ca_key(false))?;
        let ca = tls_secret::read_ca(&secret).ok()?;
        Some(ca.certificate.not_after.0.saturating_sub(self.world.now))
    }

    /// How many CAs are trusted.
    #[must_use]
    pub fn trusts(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.now.clients.len())
    }
}
