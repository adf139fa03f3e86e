//! Members as the operator meets them: clusters, who is in their tables, and what each disk holds.
//!
//! A server here does what ours does with an empty directory, a foreign one, a permit, or an ID that is bound to another
//! disk. It refuses nothing to save an operator from itself: a second learner, or a removal that costs the quorum, is
//! carried out, so that who asked for it is found out.

use std::collections::BTreeMap;

use keepstone_operator_plan::act::{Permit, PermitKind};
use keepstone_operator_plan::ids::Nonce;

/// A volume: the place it was made for, and how many that place had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiskId(pub u32, pub u32);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    /// Cluster and member; none while it is empty.
    pub member: Option<(u64, u64)>,
    /// Of the last permit that was used on it.
    pub nonce: Option<Nonce>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub id: u64,
    pub ordinal: u32,
    pub learner: bool,
    pub caught_up: bool,
    /// The disk its ID is bound to; none before its server has joined.
    pub disk: Option<DiskId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Table {
    pub rows: Vec<Row>,
    pub leader: Option<u64>,
    /// How many members it ever had.
    pub added: u64,
}

impl Table {
    pub fn row(&self, id: u64) -> Option<&Row> {
        self.rows.iter().find(|r| r.id == id)
    }

    pub fn at(&self, ordinal: u32) -> Option<&Row> {
        self.rows.iter().find(|r| r.ordinal == ordinal)
    }

    pub fn voters(&self) -> usize {
        self.rows.iter().filter(|r| !r.learner).count()
    }

    pub fn learners(&self) -> usize {
        self.rows.len() - self.voters()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Servers {
    /// By cluster ID, from 1.
    pub clusters: BTreeMap<u64, Table>,
    pub disks: BTreeMap<DiskId, Disk>,
}

/// What a server does when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Goes on as who it is.
    Run,
    Found(Nonce),
    /// Becomes the member of this cluster and ID that was added for it.
    Join(u64, u64),
    /// Makes a new cluster of what it has.
    ForceNew(Nonce),
    /// Nobody has added it yet.
    Wait,
    /// Its ID is bound to another disk, or to what this one held.
    DataLost,
    Removed,
}

impl Servers {
    /// `reach` says which clusters a server that joins could talk to: those with a quorum.
    pub fn start(
        &self,
        n: u32,
        disk: DiskId,
        permit: Option<&Permit>,
        pod: bool,
        reach: impl Fn(u64) -> bool,
    ) -> Start {
        let Some(held) = self.disks.get(&disk) else { return Start::Wait };
        let permit = permit.filter(|p| p.ordinal.0 == n && pod && held.nonce != Some(p.nonce));
        match (held.member, permit) {
            (Some(_), Some(p)) if p.kind == PermitKind::ForceNew => Start::ForceNew(p.nonce),
            (Some((cluster, id)), _) => match self.clusters.get(&cluster).and_then(|t| t.row(id)) {
                Some(row) if row.disk == Some(disk) => Start::Run,
                Some(_) => Start::DataLost,
                None => Start::Removed,
            },
            (None, Some(p)) if p.kind != PermitKind::ForceNew => Start::Found(p.nonce),
            (None, _) => {
                let cluster = self.clusters.iter().rev().find(|(id, t)| t.at(n).is_some() && reach(**id));
                match cluster.and_then(|(id, t)| Some((*id, t.at(n)?))) {
                    Some((cluster, row)) if row.disk.is_none() => Start::Join(cluster, row.id),
                    Some(_) => Start::DataLost,
                    None => Start::Wait,
                }
            }
        }
    }

    pub fn carry_out(&mut self, n: u32, disk: DiskId, start: Start) {
        match start {
            Start::Run | Start::Wait | Start::DataLost | Start::Removed => {}
            Start::Found(nonce) | Start::ForceNew(nonce) => {
                let cluster = self.clusters.keys().next_back().map_or(1, |last| last + 1);
                let row = Row { id: 1, ordinal: n, learner: false, caught_up: true, disk: Some(disk) };
                self.clusters.insert(cluster, Table { rows: vec![row], leader: Some(1), added: 1 });
                self.disks.insert(disk, Disk { member: Some((cluster, 1)), nonce: Some(nonce) });
            }
            Start::Join(cluster, id) => {
                if let Some(row) = self.clusters.get_mut(&cluster).and_then(|t| t.rows.iter_mut().find(|r| r.id == id))
                {
                    row.disk = Some(disk);
                    self.disks.insert(disk, Disk { member: Some((cluster, id)), nonce: None });
                }
            }
        }
    }
}
