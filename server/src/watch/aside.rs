//! Tells a task which of its wake-ups concern what seldom happens, so that it need not look each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// Poll what seldom happens with [`waker`](Self::waker) when [`take`](Self::take) says so.
pub struct Aside {
    shared: Arc<Shared>,
    waker: Waker,
}

struct Shared {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Aside {
    /// Woken at first.
    pub fn new() -> Self {
        let shared = Arc::new(Shared { woken: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: shared.clone().into(), shared }
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether it was woken since the last call; `task` is woken next time.
    pub fn take(&self, task: &Waker) -> bool {
        self.shared.task.register(task);
        self.shared.woken.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_wake_up_is_passed_on_and_told_once() {
        let task = Arc::new(Flag::default());
        let aside = Aside::new();
        assert!(aside.take(&task.clone().into()));
        assert!(!aside.take(&task.clone().into()));
        aside.waker().wake_by_ref();
        assert!(task.0.load(Ordering::SeqCst));
        assert!(aside.take(&task.clone().into()));
        assert!(!aside.take(&task.into()));
    }
}
