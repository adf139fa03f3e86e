//! Who is woken when something about a cluster changes: one task a cluster, which never runs twice at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::controller::kind::Name;

/// What comes in so quickly after each other is seen in one pass.
const TOGETHER: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
pub struct Bell {
    rung: Notify,
    waiting: AtomicBool,
}

impl Bell {
    /// Until it rings, but not longer.
    pub async fn wait(&self, longest: Duration) {
        if tokio::time::timeout(longest, self.rung.notified()).await.is_ok() {
            self.waiting.store(false, Ordering::Relaxed);
            tokio::time::sleep(TOGETHER.min(longest)).await;
        }
    }
}

#[derive(Debug, Default)]
pub struct Wakeups(Mutex<HashMap<Name, Arc<Bell>>>);

impl Wakeups {
    /// Gives back the bell where nobody listens to it yet.
    pub fn ring(&self, name: &Name) -> Option<Arc<Bell>> {
        let mut all = self.0.lock();
        if let Some(bell) = all.get(name) {
            bell.waiting.store(true, Ordering::Relaxed);
            bell.rung.notify_one();
            return None;
        }
        let bell = Arc::new(Bell::default());
        all.insert(name.clone(), bell.clone());
        Some(bell)
    }

    /// Whether nobody rang since; then whoever listens may go.
    pub fn forget(&self, name: &Name) -> bool {
        let mut all = self.0.lock();
        let quiet = all.get(name).is_none_or(|bell| !bell.waiting.swap(false, Ordering::Relaxed));
        if quiet {
            all.remove(name);
        }
        quiet
    }

    pub fn all(&self) -> Vec<Name> {
        self.0.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster that was deleted and made anew in the meantime would not be looked at.
    #[test]
    fn a_ring_while_it_is_being_forgotten_is_not_lost() {
        let (wakeups, name) = (Wakeups::default(), Name::new("a", "b"));
        assert!(wakeups.ring(&name).is_some());
        assert!(wakeups.ring(&name).is_none());
        assert!(!wakeups.forget(&name), "it rang");
        assert!(wakeups.forget(&name));
        assert!(wakeups.ring(&name).is_some());
    }
}
