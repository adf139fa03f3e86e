//! What goes wrong in a round, and when. Everything is healed before it ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::members::{Group, Replace};

/// How often each fault was done.
pub type Done = BTreeMap<&'static str, u32>;

pub struct Nemesis {
    rng: StdRng,
    pub done: Done,
    /// Members whose disk was full and who ended for it.
    pub ended_full: u32,
    noisy: bool,
}

impl Nemesis {
    pub fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7300);
        let noisy = std::env::var_os("KEEPSTONE_TRACE").is_some();
        Self { rng, done: Done::new(), ended_full: 0, noisy }
    }

    /// Makes trouble until the time has come, then sees that all members serve.
    ///
    /// # Errors
    /// When a member does not come back, or ends by itself.
    pub async fn run(&mut self, group: &mut Group, until: Instant) -> Result<()> {
        while Instant::now() < until {
            self.rest(200..2500).await;
            let leader = group.leader().await;
            let target = match leader {
                Some(leader) if self.rng.random_bool(0.5) => leader,
                _ => self.rng.random_range(0..group.len()),
            };
            let name = self.choose(leader == Some(target));
            *self.done.entry(name).or_default() += 1;
            self.note(group, &format!("{name} m{target}, leader {leader:?}"));
            self.trouble(group, name, target).await.with_context(|| format!("{name} (m{target})"))?;
            self.note(group, "healed");
            group.all_run()?;
        }
        group.all_serve().await
    }

    fn note(&self, group: &Group, what: &str) {
        if self.noisy {
            eprintln!("{:.3} {what}", group.world.now().as_secs_f64());
        }
    }

    fn choose(&mut self, leads: bool) -> &'static str {
        match self.rng.random_range(0..100) {
            0..22 if leads => "kill leader",
            0..22 => "kill follower",
            22..26 => "kill most",
            26..29 => "kill all",
            29..41 if leads => "pause leader",
            29..41 => "pause follower",
            41..53 if leads => "cut leader off",
            41..53 => "cut follower off",
            53..61 => "split",
            61..70 => "one way",
            70..76 => "unplug",
            76..83 => "full disk",
            83..89 => "replace",
            89..93 => "rolling restart",
            93..97 => "move leader",
            _ => "kill in a split",
        }
    }

    async fn trouble(&mut self, group: &mut Group, name: &str, target: usize) -> Result<()> {
        let all: Vec<usize> = (0..group.len()).collect();
        let others: Vec<usize> = all.iter().copied().filter(|n| *n != target).collect();
        match name {
            "kill leader" | "kill follower" => self.kill(group, &[target]).await,
            "kill most" => {
                let many = group.len() / 2 + 1;
                let first = self.rng.random_range(0..group.len());
                let some: Vec<usize> = (first..first + many).map(|n| n % group.len()).collect();
                self.kill(group, &some).await
            }
            "kill all" => self.kill(group, &all).await,
            "pause leader" | "pause follower" => {
                group.pause(target, true)?;
                self.rest(50..4000).await;
                group.pause(target, false)
            }
            "cut leader off" | "cut follower off" => self.split(group, &both_ways(&[target], &others), None).await,
            "split" | "kill in a split" => {
                let cuts = self.sides(&all);
                self.split(group, &cuts, (name != "split").then_some(target)).await
            }
            "one way" => {
                let away: Vec<(usize, usize)> = others.iter().map(|n| (target, *n)).collect();
                let to: Vec<(usize, usize)> = others.iter().map(|n| (*n, target)).collect();
                let cuts = if self.rng.random() { away } else { to };
                self.split(group, &cuts, None).await
            }
            "unplug" => {
                group.network.wire(target, false)?;
                self.rest(100..5000).await;
                group.network.wire(target, true)
            }
            "full disk" => {
                group.fill_disk(target)?;
                self.rest(100..2000).await;
                if self.rng.random_bool(0.7) {
                    group.write_state(target).await;
                    self.rest(100..2000).await;
                }
                self.ended_full += u32::from(group.free_disk(target).await?);
                Ok(())
            }
            "replace" => {
                let how =
                    Replace { killed_first: self.rng.random(), learner: self.rng.random(), by_join: self.rng.random() };
                self.note(group, &format!("{how:?}"));
                // The others must be there for it, and know it for a while.
                group.all_serve().await?;
                group.replace(target, how).await
            }
            "rolling restart" => {
                for n in all {
                    group.stop(n).await?;
                    group.start(n)?;
                    group.serves(n).await?;
                }
                Ok(())
            }
            _ => {
                group.move_leader(target).await;
                Ok(())
            }
        }
    }

    async fn kill(&mut self, group: &mut Group, who: &[usize]) -> Result<()> {
        for n in who {
            group.kill(*n)?;
        }
        for n in who {
            self.rest(0..2000).await;
            group.start(*n)?;
        }
        Ok(())
    }

    /// Cuts, waits and heals. One member may be killed and started meanwhile.
    async fn split(&mut self, group: &mut Group, cuts: &[(usize, usize)], kill: Option<usize>) -> Result<()> {
        for (from, to) in cuts {
            group.network.cut(*from, *to)?;
        }
        self.rest(100..6000).await;
        if let Some(n) = kill {
            self.kill(group, &[n]).await?;
            self.rest(100..3000).await;
        }
        for (from, to) in cuts {
            group.network.heal(*from, *to)?;
        }
        Ok(())
    }

    /// Two sides that don't hear each other.
    fn sides(&mut self, all: &[usize]) -> Vec<(usize, usize)> {
        let (some, others): (Vec<usize>, Vec<usize>) = all.iter().partition(|_| self.rng.random_bool(0.5));
        both_ways(&some, &others)
    }

    async fn rest(&mut self, millis: std::ops::Range<u64>) {
        let rest = Duration::from_millis(self.rng.random_range(millis));
        tokio::time::sleep(rest).await;
    }
}

fn both_ways(some: &[usize], others: &[usize]) -> Vec<(usize, usize)> {
    let pairs = some.iter().flat_map(|a| others.iter().map(|b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}
