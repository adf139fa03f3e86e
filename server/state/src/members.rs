//! The replicated member table: what clients are shown of the cluster, and what etcd's membership checks are decided
//! on. Quorum is not counted here.

use std::collections::{BTreeMap, BTreeSet};

use keepstone_proto::{
    etcdserverpb,
    keepstonepb::{ClusterInit, Member, MemberAdd, MemberBind, MemberUpdate, SoleSurvivor},
    membershippb::{ClusterMemberAttrSetRequest, DowngradeInfoSetRequest},
};

use crate::{
    error::Error,
    tables::Row,
    types::{Effects, MemberId},
};

/// How many IDs of earlier times a cluster remembers.
const MAX_FORMER: usize = 16;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// 0 until the cluster is initialized.
    cluster_id: u64,
    former_ids: Vec<u64>,
    token: String,
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
    incarnations: BTreeMap<MemberId, Vec<u8>>,
    permit: Option<Vec<u8>>,
    version: Option<String>,
    downgrade: Option<String>,
}

impl Members {
    /// `None` until the cluster is initialized.
    pub fn cluster_id(&self) -> Option<u64> {
        (self.cluster_id != 0).then_some(self.cluster_id)
    }

    /// The IDs the cluster had before a survivor went on under another one, oldest first; the last 16.
    pub fn former_ids(&self) -> &[u64] {
        &self.former_ids
    }

    /// The token the cluster was founded with.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// All rows, in the order of their IDs.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether the ID belonged to a member that was removed. It never comes back.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    pub fn learners(&self) -> usize {
        self.iter().filter(|member| member.is_learner).count()
    }

    /// Which data directory the ID belongs to.
    pub fn incarnation(&self, id: MemberId) -> Option<&[u8]> {
        self.incarnations.get(&id).map(Vec::as_slice)
    }

    /// The nonce of the permit the cluster was founded with, or with which a survivor last went on alone.
    pub fn permit(&self) -> Option<&[u8]> {
        self.permit.as_deref()
    }

    /// The cluster version, once it is decided: "3.6.0".
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The version that a downgrade under way goes to.
    pub fn downgrade_target(&self) -> Option<&str> {
        self.downgrade.as_deref()
    }

    /// The rows as clients see them.
    pub fn list(&self) -> Vec<etcdserverpb::Member> {
        self.iter().cloned().map(shown).collect()
    }

    /// Whether a member may be added. The bound on learners is a setting of the proposer; apply asks without it, so
    /// that it depends on no setting.
    ///
    /// # Errors
    /// [`Error::MemberNotFound`] for an ID that was removed, [`Error::MemberExists`], [`Error::PeerUrlExists`],
    /// [`Error::TooManyLearners`].
    pub fn check_add(&self, add: &MemberAdd, max_learners: usize) -> Result<(), Error> {
        let id = MemberId(add.id);
        if self.is_removed(id) {
            return Err(Error::MemberNotFound);
        }
        if self.members.contains_key(&id) {
            return Err(Error::MemberExists);
        }
        self.check_urls(&add.peer_urls, None)?;
        if add.is_learner && self.learners() >= max_learners {
            return Err(Error::TooManyLearners);
        }
        Ok(())
    }

    /// Whether these peer URLs are nobody's, `except` one member's.
    ///
    /// # Errors
    /// [`Error::PeerUrlExists`].
    pub fn check_urls(&self, urls: &[String], except: Option<MemberId>) -> Result<(), Error> {
        let others = self.members.iter().filter(|(id, _)| Some(**id) != except);
        let mut taken = others.flat_map(|(_, member)| &member.peer_urls);
        if taken.any(|url| urls.contains(url)) { Err(Error::PeerUrlExists) } else { Ok(()) }
    }

    pub(crate) fn init(&mut self, init: &ClusterInit, effects: &mut Effects) -> Result<(), Error> {
        if self.cluster_id != 0 {
            let same = self.cluster_id == init.cluster_id && self.token == init.token;
            return if same { Ok(()) } else { Err(Error::ClusterInitialized) };
        }
        let cluster = ClusterInit { members: Vec::new(), former_ids: Vec::new(), ..init.clone() };
        effects.write(&Row::Cluster(cluster.clone()));
        self.restore(Row::Cluster(cluster));
        for member in &init.members {
            self.save(member.clone(), effects);
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, add: &MemberAdd, effects: &mut Effects) -> Result<etcdserverpb::Member, Error> {
        self.check_add(add, usize::MAX)?;
        let member = Member {
            id: add.id,
            name: add.name.clone(),
            peer_urls: add.peer_urls.clone(),
            client_urls: add.client_urls.clone(),
            is_learner: add.is_learner,
        };
        let answer = shown(member.clone());
        self.save(member, effects);
        Ok(answer)
    }

    /// The last voter stays, whatever its proposer knew: two removals may have been proposed side by side.
    pub(crate) fn remove(&mut self, id: MemberId, effects: &mut Effects) -> Result<(), Error> {
        let voter = !self.get(id).ok_or(Error::MemberNotFound)?.is_learner;
        if voter && !self.iter().any(|other| other.id != id.0 && !other.is_learner) {
            return Err(Error::MemberNotEnoughStarted);
        }
        self.members.remove(&id);
        effects.erase_member(id);
        effects.write(&Row::Removed(id));
        self.restore(Row::Removed(id));
        Ok(())
    }

    /// Leaves one member in the table, as a voter; the others count as removed. Returns whether the cluster has
    /// another ID now.
    pub(crate) fn survive(&mut self, survivor: &SoleSurvivor, effects: &mut Effects) -> bool {
        let row = survivor.member.clone().unwrap_or_default();
        let id = MemberId(row.id);
        let lost: Vec<MemberId> = self.members.keys().copied().filter(|other| *other != id).collect();
        for id in lost {
            self.members.remove(&id);
            effects.erase_member(id);
            effects.write(&Row::Removed(id));
            self.restore(Row::Removed(id));
        }
        if self.removed.remove(&id) {
            effects.erase_removed(id);
        }
        let row = self.get(id).cloned().unwrap_or(row);
        self.save(Member { is_learner: false, ..row }, effects);
        if !survivor.permit_nonce.is_empty() {
            let row = Row::Permit(survivor.permit_nonce.to_vec());
            effects.write(&row);
            self.restore(row);
        }
        let another = self.cluster_id != 0 && self.cluster_id != survivor.cluster_id;
        if self.cluster_id != survivor.cluster_id {
            let mut former_ids = self.former_ids.clone();
            former_ids.extend((self.cluster_id != 0).then_some(self.cluster_id));
            let forgotten = former_ids.len().saturating_sub(MAX_FORMER);
            let former_ids = former_ids.split_off(forgotten);
            let (cluster_id, token) = (survivor.cluster_id, self.token.clone());
            let cluster = Row::Cluster(ClusterInit { cluster_id, token, members: Vec::new(), former_ids });
            effects.write(&cluster);
            self.restore(cluster);
        }
        another
    }

    pub(crate) fn promote(&mut self, id: MemberId, effects: &mut Effects) -> Result<(), Error> {
        let mut member = self.get(id).ok_or(Error::MemberNotFound)?.clone();
        if !member.is_learner {
            return Err(Error::MemberNotLearner);
        }
        member.is_learner = false;
        self.save(member, effects);
        Ok(())
    }

    /// Replaces what is set; an empty field leaves the row's own.
    pub(crate) fn update(&mut self, update: &MemberUpdate, effects: &mut Effects) -> Result<(), Error> {
        let id = MemberId(update.id);
        let mut member = self.get(id).ok_or(Error::MemberNotFound)?.clone();
        self.check_urls(&update.peer_urls, Some(id))?;
        if !update.name.is_empty() {
            member.name.clone_from(&update.name);
        }
        if !update.peer_urls.is_empty() {
            member.peer_urls.clone_from(&update.peer_urls);
        }
        if !update.client_urls.is_empty() {
            member.client_urls.clone_from(&update.client_urls);
        }
        self.save(member, effects);
        Ok(())
    }

    /// What a member says of itself once it has started. Of one that was removed it is ignored.
    pub(crate) fn publish(&mut self, set: &ClusterMemberAttrSetRequest, effects: &mut Effects) -> Result<(), Error> {
        let id = MemberId(set.member_id);
        if self.is_removed(id) {
            return Ok(());
        }
        let mut member = self.get(id).ok_or(Error::MemberNotFound)?.clone();
        let attributes = set.member_attributes.clone().unwrap_or_default();
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        self.save(member, effects);
        Ok(())
    }

    /// Binds an ID to a data directory, once and for all.
    pub(crate) fn bind(&mut self, bind: &MemberBind, effects: &mut Effects) -> Result<(), Error> {
        let id = MemberId(bind.member_id);
        if !self.members.contains_key(&id) {
            return Err(Error::MemberNotFound);
        }
        match self.incarnation(id) {
            Some(bound) if *bound == *bind.incarnation => return Ok(()),
            Some(_) => return Err(Error::IncarnationMismatch),
            None => {}
        }
        let row = Row::Bound(id, bind.incarnation.to_vec());
        effects.write(&row);
        self.restore(row);
        if !bind.permit_nonce.is_empty() && self.permit.is_none() {
            let row = Row::Permit(bind.permit_nonce.to_vec());
            effects.write(&row);
            self.restore(row);
        }
        Ok(())
    }

    pub(crate) fn set_version(&mut self, version: &str, effects: &mut Effects) {
        effects.write(&Row::Version(version.to_owned()));
        self.version = Some(version.to_owned());
    }

    pub(crate) fn set_downgrade(&mut self, set: &DowngradeInfoSetRequest, effects: &mut Effects) {
        self.downgrade = set.enabled.then(|| set.ver.clone());
        match &self.downgrade {
            Some(target) => effects.write(&Row::Downgrade(target.clone())),
            None => effects.erase_downgrade(),
        }
    }

    fn save(&mut self, member: Member, effects: &mut Effects) {
        effects.write(&Row::Member(member.clone()));
        self.restore(Row::Member(member));
    }

    /// Takes in one of its own rows; gives back any other.
    pub(crate) fn restore(&mut self, row: Row) -> Option<Row> {
        match row {
            Row::Member(member) => drop(self.members.insert(MemberId(member.id), member)),
            Row::Removed(id) => drop(self.removed.insert(id)),
            Row::Bound(id, incarnation) => drop(self.incarnations.insert(id, incarnation)),
            Row::Permit(nonce) => self.permit = Some(nonce),
            Row::Cluster(cluster) => {
                self.cluster_id = cluster.cluster_id;
                self.former_ids = cluster.former_ids;
                self.token = cluster.token;
            }
            Row::Version(version) => self.version = Some(version),
            Row::Downgrade(target) => self.downgrade = Some(target),
            other => return Some(other),
        }
        None
    }
}

/// A row as clients see it.
pub fn shown(member: Member) -> etcdserverpb::Member {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    etcdserverpb::Member { id, name, peer_urls, client_urls, is_learner }
}
