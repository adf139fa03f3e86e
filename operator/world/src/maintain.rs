//! How full stores are, what members complain of, and what maintenance does about it.

use keepstone_operator_plan::act::{Act, Alarm};
use keepstone_operator_plan::ids::Ordinal;
use keepstone_operator_plan::operation::Intent;

use crate::World;
use crate::act::{Answer, broken, when};

/// Bytes at which a store takes no more: what half of the smallest volume comes to.
pub const FULL: u64 = 5 << 30;

/// What a compaction leaves where there is anything to compact.
const KEPT: u64 = 64 << 20;

/// Bytes of a member's file, and those of it that hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Store {
    pub size: u64,
    pub used: u64,
    /// Whether what is used is old revisions.
    pub old: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self { size: 1, used: 1, old: false }
    }
}

impl World {
    pub(crate) fn store_at(&self, n: u32) -> Store {
        self.kube.disk(n).and_then(|disk| self.stores.get(&disk)).copied().unwrap_or_default()
    }

    pub(crate) fn corrupt(&mut self, n: u32) {
        if let Some((_, id)) = self.serves(n) {
            self.alarms.insert((id, Alarm::Corrupt));
        }
    }

    /// All of them hold the same; whoever notices first complains.
    pub(crate) fn fill_up(&mut self, n: u32, room: bool) {
        let full = Store { size: FULL, used: FULL - 1, old: room };
        for disk in self.servers.disks.keys().copied().collect::<Vec<_>>() {
            self.stores.insert(disk, full);
        }
        if let Some((_, id)) = self.serves(n) {
            self.alarms.insert((id, Alarm::NoSpace));
        }
    }

    pub(crate) fn relieve(&mut self) {
        self.alarms.clear();
        self.stores.clear();
    }

    /// # Errors
    /// What it broke.
    pub(crate) fn maintain(&mut self, act: &Act, fresh: bool) -> Answer {
        let Some(cluster) = self.latched.filter(|c| self.has_quorum(*c)) else { return when(false) };
        match act {
            Act::Compact { revision } => {
                if revision.0 > self.revision {
                    return when(false);
                }
                self.compacted = self.compacted.max(revision.0);
                for store in self.stores.values_mut().filter(|store| store.old) {
                    store.used = store.used.min(KEPT);
                }
                when(true)
            }
            Act::Defragment { ordinal } => self.defragment(cluster, *ordinal, fresh),
            Act::Disarm { id, alarm } => {
                self.alarms.remove(&(id.0, *alarm));
                when(true)
            }
            _ => when(false),
        }
    }

    /// A member answers nobody meanwhile: no other may be missing, and the leader waits for all others.
    fn defragment(&mut self, cluster: u64, ordinal: Ordinal, fresh: bool) -> Answer {
        let Some((_, id)) = self.serves(ordinal.0).filter(|(c, _)| *c == cluster) else { return when(false) };
        let table = &self.servers.clusters[&cluster];
        let voter = table.row(id).is_some_and(|r| !r.learner);
        let others = || table.rows.iter().filter(|r| !r.learner && r.id != id);
        let up = |r: &&crate::servers::Row| self.serves(r.ordinal) == Some((cluster, r.id));
        let room = matches!(self.intent(), Some(Intent::MakeRoom(_)));
        if fresh && voter && !room && others().any(|r| !up(&r)) {
            return broken(format!("member {ordinal} is defragmented while another is down"));
        }
        let rest = others().filter(up).count() + 1;
        if fresh && voter && table.voters() > 2 && rest - 1 <= table.voters() / 2 {
            return broken(format!("member {ordinal} is defragmented, and the rest have no quorum"));
        }
        let none = Default::default();
        let (done, only) = match self.intent() {
            Some(Intent::Defragment(run)) => (&run.done, run.members.clone()),
            Some(Intent::MakeRoom(run)) => (&run.done, Default::default()),
            // Of a run that somebody else has closed by now.
            _ => (&none, Default::default()),
        };
        let waits = |r: &&crate::servers::Row| {
            let n = Ordinal(r.ordinal);
            let store = self.store_at(r.ordinal);
            up(r) && !done.contains(&n) && (only.is_empty() || only.contains(&n)) && store.size > store.used
        };
        let recorded = self.intent().is_some();
        if fresh && recorded && self.leader(cluster) == Some(id) && others().any(|r| waits(&r)) {
            return broken(format!("member {ordinal} leads, and is defragmented before the others"));
        }
        if let Some(store) = self.kube.disk(ordinal.0).and_then(|disk| self.stores.get_mut(&disk)) {
            store.size = store.used;
        }
        when(true)
    }
}
