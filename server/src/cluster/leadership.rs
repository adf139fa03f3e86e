//! Who leads, as far as this member can tell, and since when each of the others has been heard of.
//!
//! Raft itself keeps naming a leader that has gone silent; clients are told of one only as long as there is contact: a
//! follower with its leader, a leader with a quorum.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepstone_state::{Error, MemberId};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// What is known of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct View {
    /// `None`: there is none, or no contact with it.
    pub leader: Option<MemberId>,
    pub term: u64,
}

/// See the module's head. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Leadership {
    inner: Arc<Inner>,
}

struct Inner {
    me: MemberId,
    election: Duration,
    view: watch::Sender<View>,
    /// When the leader of now was elected, or found.
    elected: Mutex<Option<Instant>>,
    contacts: Mutex<BTreeMap<MemberId, Contact>>,
}

#[derive(Clone, Copy)]
struct Contact {
    since: Instant,
    last: Instant,
}

impl Leadership {
    /// `election` is the election timeout.
    pub fn new(me: MemberId, election: Duration) -> Self {
        let inner = Inner {
            me,
            election,
            view: watch::Sender::new(View::default()),
            elected: Mutex::default(),
            contacts: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A member was heard of just now.
    pub fn heard(&self, from: MemberId) {
        let now = Instant::now();
        let mut contacts = self.inner.contacts.lock();
        let contact = contacts.entry(from).or_insert(Contact { since: now, last: now });
        if now - contact.last > self.inner.election {
            contact.since = now;
        }
        contact.last = now;
    }

    /// Since when there has been contact with a member, without a gap of an election timeout.
    pub fn contact_since(&self, with: MemberId) -> Option<Instant> {
        let contacts = self.inner.contacts.lock();
        contacts.get(&with).filter(|contact| contact.last.elapsed() <= self.inner.election).map(|contact| contact.since)
    }

    /// What Raft says now. `leads` is whether this member leads and has had a quorum's answer within an election
    /// timeout.
    pub fn update(&self, leader: Option<MemberId>, term: u64, has_quorum: bool) {
        let known = match leader {
            Some(leader) if leader == self.inner.me => has_quorum,
            Some(leader) => self.contact_since(leader).is_some(),
            None => false,
        };
        let view = View { leader: leader.filter(|_| known), term };
        self.inner.view.send_if_modified(|old| {
            if old.leader != view.leader && view.leader.is_some() {
                *self.inner.elected.lock() = Some(Instant::now());
            }
            let changed = *old != view;
            *old = view;
            changed
        });
    }

    pub fn view(&self) -> View {
        *self.inner.view.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<View> {
        self.inner.view.subscribe()
    }

    pub fn leader(&self) -> Option<MemberId> {
        self.view().leader
    }

    pub fn leads(&self) -> bool {
        self.leader() == Some(self.inner.me)
    }

    /// What a request is told that has waited for its answer since `began` and got none: etcd's three ways to say it.
    pub fn timeout(&self, began: Instant) -> Error {
        let elected = *self.inner.elected.lock();
        if elected.is_some_and(|elected| began > elected - 2 * self.inner.election && began < elected) {
            return Error::TimeoutDueToLeaderFail;
        }
        if self.leader().is_none() && elected.is_some() { Error::TimeoutDueToConnectionLost } else { Error::Timeout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId(1);
    const OTHER: MemberId = MemberId(2);

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_has_gone_silent_is_none() {
        let leadership = Leadership::new(ME, Duration::from_secs(1));
        leadership.update(Some(OTHER), 3, false);
        assert_eq!(leadership.leader(), None);
        leadership.heard(OTHER);
        leadership.update(Some(OTHER), 3, false);
        assert_eq!(leadership.view(), View { leader: Some(OTHER), term: 3 });
        tokio::time::advance(Duration::from_millis(1100)).await;
        leadership.update(Some(OTHER), 3, false);
        assert_eq!(leadership.leader(), None);
        assert_eq!(leadership.timeout(Instant::now()), Error::TimeoutDueToConnectionLost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_a_quorum_is_none_too() {
        let leadership = Leadership::new(ME, Duration::from_secs(1));
        leadership.update(Some(ME), 3, true);
        assert!(leadership.leads());
        leadership.update(Some(ME), 3, false);
        assert!(!leadership.leads());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_from_before_an_election_is_told_so() {
        let leadership = Leadership::new(ME, Duration::from_secs(1));
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1500)).await;
        leadership.update(Some(ME), 4, true);
        assert_eq!(leadership.timeout(began), Error::TimeoutDueToLeaderFail);
        assert_eq!(leadership.timeout(Instant::now()), Error::Timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn contact_counts_from_its_last_gap() {
        let leadership = Leadership::new(ME, Duration::from_secs(1));
        leadership.heard(OTHER);
        let first = Instant::now();
        tokio::time::advance(Duration::from_millis(900)).await;
        leadership.heard(OTHER);
        assert_eq!(leadership.contact_since(OTHER), Some(first));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(leadership.contact_since(OTHER), None);
        leadership.heard(OTHER);
        assert_eq!(leadership.contact_since(OTHER), Some(Instant::now()));
    }
}
