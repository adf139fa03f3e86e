//! Where the other members are: their peer URLs, as the replicated member table has them, and as the flags said before
//! there was one.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepstone_proto::keepstonepb::Member;
use keepstone_state::MemberId;
use parking_lot::RwLock;

/// Cheap to clone; all clones are one book.
#[derive(Clone, Debug, Default)]
pub struct Book {
    urls: Arc<RwLock<BTreeMap<MemberId, Vec<String>>>>,
}

impl Book {
    /// What is known before the table is: the founders, or who answered a claim.
    pub fn new(members: impl IntoIterator<Item = (MemberId, Vec<String>)>) -> Self {
        Self { urls: Arc::new(RwLock::new(members.into_iter().collect())) }
    }

    /// Takes over the member table. A member that is not in it is still found under its last URLs: it may have to be
    /// told that it was removed.
    pub fn update<'a>(&self, members: impl IntoIterator<Item = &'a Member>) {
        let mut urls = self.urls.write();
        for member in members {
            let known = urls.entry(MemberId(member.id)).or_default();
            if *known != member.peer_urls {
                known.clone_from(&member.peer_urls);
            }
        }
    }

    /// The peer URLs of a member; empty for one that nobody has heard of.
    pub fn urls(&self, id: MemberId) -> Vec<String> {
        self.urls.read().get(&id).cloned().unwrap_or_default()
    }
}
