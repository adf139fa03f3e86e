//! What a seed stands for: how large the cluster is, how long it runs, how rough it gets, and what was broken on purpose.

use std::time::Duration;

use crate::dice::Dice;

/// Something broken on purpose, to see whether the checks find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Writes are acknowledged before they are synced.
    AckBeforeSync,
    /// Entries are applied, and checkpointed, before they are in the member's own log.
    ApplyBeforeSync,
    /// Reads are answered without asking who leads.
    UncheckedReads,
    /// A vote is not on disk when it is given.
    ForgottenVotes,
    /// One member applies nothing for some entries.
    SkippedEntries,
    /// A proposal whose answer is late is sent a second time.
    RepeatedProposals,
    /// An event now and then is left out of a watch.
    DroppedEvents,
    /// Who watches on a member while a snapshot is installed there is not given the first event that follows.
    EventsLostAtSnapshot,
    /// A revision's events reach a watch in two parts.
    SplitRevisions,
    /// Clocks gain more than leases are prepared for.
    FastClocks,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub members: u64,
    /// How long clients and faults go on, in simulated time.
    pub length: Duration,
    pub clients: u64,
    pub watchers: u64,
    pub keys: u64,
    /// Mean milliseconds between two faults.
    pub calm: u64,
    /// Times of a hundred that a task queues again.
    pub shuffle: u64,
    /// Microseconds a second that a clock is wrong by at most.
    pub skew: i64,
    pub segment_bytes: u64,
    /// Mean milliseconds between two membership changes, if there are any.
    pub churn: Option<u64>,
    /// Whether a membership change is refused while members are away, as by default.
    pub strict: bool,
    /// Entries of the log that are kept for those who lag; who lags further is sent a snapshot.
    pub catchup: u64,
    /// Of a hundred calls so many grant a lease.
    pub leases: u64,
    /// Of a hundred troubles so many are a power loss behind a slow disk, whatever else the dice say.
    pub slow_disks: u64,
    /// Of a hundred troubles so many cut a member off until the others' logs begin behind its own, instead.
    pub left_behind: u64,
    pub fault: Option<Fault>,
    /// Nobody looks at what clients can't see.
    pub blind: bool,
}

impl Plan {
    /// What `seed` stands for.
    pub fn new(seed: u64, members: Option<u64>, fault: Option<Fault>, blind: bool) -> Self {
        let mut dice = Dice::new(seed);
        let usual = *dice.pick(&[1, 3, 3, 3, 5]);
        let several = members.unwrap_or(usual) > 1;
        let plan = Self {
            seed,
            members: members.unwrap_or(usual),
            length: dice.millis(15_000..40_000),
            clients: dice.within(2..9),
            watchers: dice.within(2..6),
            keys: dice.within(3..30),
            calm: dice.within(300..3000),
            shuffle: *dice.pick(&[0, 2, 10, 30]),
            skew: *dice.pick(&[0, 1000, 50_000, 200_000]),
            segment_bytes: *dice.pick(&[64 << 10, 256 << 10, 1 << 20]),
            churn: (several && dice.chance(40)).then(|| dice.within(500..4000)),
            strict: dice.chance(30),
            catchup: *dice.pick(&[20, 100, 1_000_000]),
            leases: 2,
            slow_disks: 0,
            left_behind: 0,
            fault,
            blind,
        };
        plan.fit()
    }

    /// A planted fault gets the circumstances that it needs to show.
    fn fit(self) -> Self {
        let Some(fault) = self.fault else { return self };
        let members = if fault == Fault::AckBeforeSync { self.members } else { self.members.max(3) };
        let leases = if fault == Fault::FastClocks { 15 } else { self.leases };
        let slow_disks = if fault == Fault::ApplyBeforeSync { 70 } else { 0 };
        // A lease that ends must still have keys, which nobody else has written meanwhile.
        let keys = if fault == Fault::FastClocks { 300 } else { self.keys };
        let plan = Self { members, leases, keys, slow_disks, calm: self.calm.min(700), ..self };
        if fault == Fault::EventsLostAtSnapshot {
            // A snapshot takes a member that has missed more than the others' logs keep, and matters to who watches on it.
            return Self { left_behind: 80, catchup: 20, churn: None, clients: 40, watchers: 8, calm: 3000, ..plan };
        }
        plan
    }

    /// The dice of the run itself.
    pub fn dice(&self) -> Dice {
        Dice::new(self.seed ^ 0x5eed_d1ce)
    }
}
