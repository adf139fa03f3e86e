//! What a run has in it besides members that come, go and are lost: not all of it in each, so that each has room.

use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::{ClusterId, Ordinal, Revision};
use keepstone_operator_plan::operation::Verb;
use keepstone_operator_world::kube::ROTTEN;
use keepstone_operator_world::{Fault, World};

use crate::rng::Rng;
use crate::run::Planted;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flavour {
    /// Certificates by the operator, and years that pass.
    pub tls: bool,
    /// Schedules, alarms, orders of each kind, volumes that grow, disks that rot.
    pub upkeep: bool,
    /// Somebody deletes the cluster.
    pub ends: bool,
    /// A majority is lost, data is given up and exchanged.
    pub drastic: bool,
    /// A lost quorum is recovered without a word.
    pub automatic: bool,
    /// The cluster begins with a backup.
    pub from_backup: bool,
    /// Backups by schedule and by hand.
    pub backups: bool,
}

impl Flavour {
    #[must_use]
    pub fn of(seed: u64, planted: Planted) -> Self {
        let mut rng = Rng::new(seed ^ 0x666c_6176_6f75_7200);
        let mut drawn =
            Self { tls: rng.one_in(250), upkeep: rng.one_in(500), ends: rng.one_in(200), ..Self::default() };
        drawn.drastic = rng.one_in(400);
        drawn.automatic = rng.one_in(300) && drawn.drastic;
        drawn.from_backup = rng.one_in(200);
        drawn.backups = rng.one_in(300) && !drawn.ends;
        match planted {
            Planted::NoSettling => Self { tls: true, ends: false, ..drawn },
            Planted::Greedy => Self { ends: true, backups: false, ..drawn },
            Planted::Unfenced => Self { drastic: true, automatic: true, ..drawn },
            _ => drawn,
        }
    }

    /// Faults besides those of any run, about the place `n` where they are about one.
    #[must_use]
    pub fn faults(self, n: u32) -> Vec<Fault> {
        let mut all = Vec::new();
        if self.upkeep {
            all.extend([
                Fault::ShutDown(n),
                Fault::Rotten(n),
                Fault::Corrupt(n),
                Fault::Full(n, true),
                Fault::Full(n, n != 0),
                Fault::Storage(u64::from(n % 3) + 1),
                Fault::Paused(n == 0),
                Fault::Garbled(n == 1),
                Fault::Minor([5, ROTTEN, 5, ROTTEN, 4][n as usize % 5]),
            ]);
        }
        all
    }

    /// Whether there are Jobs.
    #[must_use]
    pub fn works(self) -> bool {
        self.drastic || self.from_backup || self.backups
    }

    /// An order to give up data, or to exchange it.
    #[must_use]
    pub fn drastically(rng: &mut Rng, lost: ClusterId) -> Verb {
        match rng.below(2) {
            0 => Verb::Restore { source: "backup".into(), save: rng.one_in(700), confirm: lost },
            _ => Verb::RecoverQuorum { survivor: Ordinal(u32::try_from(rng.below(3)).unwrap_or(0)), confirm: lost },
        }
    }

    /// An order of any kind.
    #[must_use]
    pub fn order(self, rng: &mut Rng, world: &World) -> Verb {
        let n = Ordinal(u32::try_from(rng.below(4)).unwrap_or(0));
        match rng.below(8) {
            0 => Verb::MoveLeader { to: None },
            1 => Verb::MoveLeader { to: Some(n) },
            2 => Verb::ReplaceMember { ordinal: n },
            3 => Verb::RestartMembers { members: Default::default() },
            4 => Verb::RestartMembers { members: [n].into() },
            5 => Verb::Defragment { members: if n.0 == 0 { Default::default() } else { [n].into() }, rule: None },
            6 => Verb::Compact { revision: Revision(world.revision - 50 + 20 * i64::from(n.0)) },
            _ => Verb::DisarmAlarm { alarm: if n.0 == 0 { Alarm::Corrupt } else { Alarm::NoSpace }, member: None },
        }
    }
}
