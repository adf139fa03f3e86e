//! The network between the machines: messages take their time, overtake each other, and get lost.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;

use crate::dice::Dice;

/// What the network is like at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Messages lost of a hundred.
    pub loss: u64,
    /// Milliseconds that a message takes at most.
    pub delay: u64,
    /// Messages of a hundred that take ten times as long.
    pub straggle: u64,
}

impl Weather {
    pub const FAIR: Self = Self { loss: 0, delay: 3, straggle: 1 };
}

/// All wires.
pub struct Wires {
    inner: Mutex<Inner>,
}

struct Inner {
    dice: Dice,
    weather: Weather,
    /// Directions in which nothing gets through.
    cut: BTreeSet<(u64, u64)>,
}

impl Wires {
    pub fn new(dice: Dice) -> Self {
        Self { inner: Mutex::new(Inner { dice, weather: Weather::FAIR, cut: BTreeSet::new() }) }
    }

    /// How long a message takes that is sent now; `None` if it gets lost.
    pub fn send(&self, from: u64, to: u64) -> Option<Duration> {
        let mut inner = self.inner.lock();
        let Weather { loss, delay, straggle } = inner.weather;
        let lost = inner.dice.chance(loss);
        let slow = inner.dice.chance(straggle);
        let took = Duration::from_micros(inner.dice.within(100..delay * 1000 + 101)) * if slow { 10 } else { 1 };
        (!lost && !inner.cut.contains(&(from, to))).then_some(took)
    }

    /// Whether a connection gives up that nothing gets through.
    pub fn breaks(&self) -> bool {
        self.inner.lock().dice.chance(10)
    }

    /// Cuts one direction.
    pub fn cut(&self, from: u64, to: u64) {
        self.inner.lock().cut.insert((from, to));
    }

    pub fn set_weather(&self, weather: Weather) {
        self.inner.lock().weather = weather;
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.cut.clear();
        inner.weather = Weather::FAIR;
    }
}
