//! The part of Kubernetes that makes and ends pods and claims: the StatefulSet controller, kubelets, and the protection
//! of claims in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepstone_operator_plan::ids::{MemberId, Template, Uid, Version};

use crate::servers::DiskId;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Kube {
    pub workload: Option<Workload>,
    pub pods: BTreeMap<u32, Pod>,
    pub claims: BTreeMap<u32, Claim>,
    /// How many each place ever had.
    pub pods_made: BTreeMap<u32, u32>,
    pub claims_made: BTreeMap<u32, u32>,
    pub workloads_made: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload {
    pub made: u32,
    pub replicas: u32,
    pub kind: Kind,
    /// What new claims ask for.
    pub storage: u64,
}

/// What a pod is made of: a configuration and a minor version. [`BAD`] never starts, nor does the minor [`ROTTEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    pub config: u8,
    pub minor: u8,
}

pub const BAD: u8 = 9;
/// The minor after those that are any good.
pub const ROTTEN: u8 = 6;

impl Kind {
    pub fn template(self) -> Template {
        Template { config: Arc::from(CONFIGS[self.config as usize % CONFIGS.len()]), version: self.version() }
    }

    pub fn version(self) -> Version {
        Version { major: 1, minor: self.minor.into(), patch: 0 }
    }

    /// # Panics
    /// On a template that is of no [`Kind`].
    pub fn of(template: &Template) -> Kind {
        let config = CONFIGS.iter().position(|c| **c == *template.config).expect("a template made of a kind");
        Kind { config: config as u8, minor: template.version.minor as u8 }
    }

    pub fn starts(self) -> bool {
        self.config != BAD && self.minor != BAD && self.minor != ROTTEN
    }
}

const CONFIGS: [&str; 10] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "bad"];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    pub made: u32,
    pub kind: Kind,
    pub created: u64,
    /// Whether its server runs.
    pub started: bool,
    /// When that last changed.
    pub changed: u64,
    pub terminating: bool,
    /// Since when its node is gone.
    pub node_lost: Option<u64>,
    /// Its node was shut down, and it with it: only another pod comes back.
    pub over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    pub disk: DiskId,
    pub terminating: bool,
    pub left: Option<Option<MemberId>>,
    pub request: u64,
    pub capacity: u64,
}

impl Kube {
    pub fn disk(&self, n: u32) -> Option<DiskId> {
        self.claims.get(&n).map(|c| c.disk)
    }

    pub fn replicas(&self) -> u32 {
        self.workload.as_ref().map_or(0, |w| w.replicas)
    }

    /// The StatefulSet makes a claim, and a pod, for a place that lacks one. The disk is the caller's to make.
    pub fn create(&mut self, n: u32, now: u64) -> Option<DiskId> {
        let Workload { kind, storage, .. } = *self.workload.as_ref()?;
        let mut made = None;
        if !self.claims.contains_key(&n) {
            let count = self.claims_made.entry(n).or_default();
            *count += 1;
            let disk = DiskId(n, *count);
            self.claims.insert(n, Claim { disk, terminating: false, left: None, request: storage, capacity: storage });
            made = Some(disk);
        }
        if !self.pods.contains_key(&n) {
            let count = self.pods_made.entry(n).or_default();
            *count += 1;
            let pod = Pod {
                made: *count,
                kind,
                created: now,
                started: false,
                changed: now,
                terminating: false,
                node_lost: None,
                over: false,
            };
            self.pods.insert(n, pod);
        }
        made
    }

    /// A place that lacks a pod or a claim and may have one: not while the claim of before is being deleted.
    pub fn lacks(&self, n: u32) -> bool {
        let claim = self.claims.get(&n);
        n < self.replicas() && !claim.is_some_and(|c| c.terminating) && (claim.is_none() || !self.pods.contains_key(&n))
    }

    /// The pod is gone, and with it a claim that waited for that. Gives back the disk that went.
    pub fn end(&mut self, n: u32) -> Option<DiskId> {
        self.pods.remove(&n);
        self.reclaim(n)
    }

    pub fn delete_claim(&mut self, n: u32) -> Option<DiskId> {
        self.claims.get_mut(&n)?.terminating = true;
        self.reclaim(n)
    }

    fn reclaim(&mut self, n: u32) -> Option<DiskId> {
        let free = self.claims.get(&n).is_some_and(|c| c.terminating) && !self.pods.contains_key(&n);
        if free { self.claims.remove(&n).map(|c| c.disk) } else { None }
    }
}

pub fn pod_uid(n: u32, made: u32) -> Uid {
    Uid(format!("pod-{n}-{made}").into())
}

pub fn claim_uid(disk: DiskId) -> Uid {
    Uid(format!("claim-{}-{}", disk.0, disk.1).into())
}

pub fn workload_uid(made: u32) -> Uid {
    Uid(format!("sts-{made}").into())
}
