//! One replicated request, applied. A pure function of the state and the request: no clock, no randomness, no setting
//! of this member's.

use keepstone_proto::{
    etcdserverpb::{
        AlarmRequest, AlarmResponse, AlarmType, AuthDisableResponse, AuthStatusResponse, CompactionRequest,
        CompactionResponse, InternalRaftRequest, LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest,
        LeaseGrantResponse, LeaseRevokeResponse, MemberAddResponse, MemberPromoteResponse, MemberRemoveResponse,
        MemberUpdateResponse, ResponseHeader, alarm_request::AlarmAction,
    },
    keepstonepb::{LeaseExpire, SoleSurvivor},
};

use crate::{
    error::Error,
    kv::Writer,
    quota,
    range::{self, header},
    reply::Reply,
    state::State,
    tables::Row,
    txn,
    types::{Effects, LeaseChange, LeaseId, MemberId, RecordError, Records},
    view::{Fault, settle},
};

/// What a revision is raised to at most by leaving revisions out.
const MAX_REVISION: i64 = (1 << 52) - 1;

impl State {
    /// Applies a request of the log, and adds what it changed to `effects`, which collects a whole run of requests:
    /// a value that the run wrote earlier is read from there, any other from `records`.
    ///
    /// `index` and `term` are the entry's.
    ///
    /// # Errors
    /// The inner error is the client's answer; nothing was changed then. The outer one is the store's: the request
    /// may be half applied, and the state must not be used any more.
    pub fn apply(
        &mut self,
        _index: u64,
        term: u64,
        request: &InternalRaftRequest,
        records: &dyn Records,
        effects: &mut Effects,
    ) -> Result<Result<Reply, Error>, RecordError> {
        if request.only_in_term != 0 && request.only_in_term != term {
            return Ok(Err(Error::LeaderChanged));
        }
        if let Err(error) = self.admit(request) {
            return Ok(Err(error));
        }
        let kv = settle(self.apply_kv(request, records, effects))?;
        match kv {
            Ok(Some(reply)) => Ok(Ok(reply)),
            Ok(None) => Ok(self.apply_small(request, records, effects)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Answers a transaction that only reads (see [`txn::is_read_only`]) on the state as it is.
    ///
    /// # Errors
    /// As [`State::apply`]; the state stays usable.
    pub fn read_txn(
        &self,
        request: &keepstone_proto::etcdserverpb::TxnRequest,
        records: &dyn Records,
    ) -> Result<Result<keepstone_proto::etcdserverpb::TxnResponse, Error>, RecordError> {
        settle(txn::read(request, &self.kv.view(&[], records), &self.leases))
    }

    /// What alarms refuse. A cluster that is corrupt refuses all that reads or writes keys; one without space, what
    /// would take more of it.
    fn admit(&self, request: &InternalRaftRequest) -> Result<(), Error> {
        let keys = request.range.is_some()
            || request.put.is_some()
            || request.delete_range.is_some()
            || request.txn.is_some()
            || request.compaction.is_some()
            || request.lease_grant.is_some()
            || request.lease_revoke.is_some()
            || request.lease_expire.is_some();
        if keys && self.alarms.any(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if self.alarms.any(AlarmType::Nospace) && quota::cost(request) > 0 {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Requests that read or write keys; `None` for any other.
    fn apply_kv(
        &mut self,
        request: &InternalRaftRequest,
        records: &dyn Records,
        effects: &mut Effects,
    ) -> Result<Option<Reply>, Fault> {
        if let Some(range) = &request.range {
            let view = self.kv.view(&effects.records, records);
            return range::answer(range, &view).map(|response| Some(Reply::Range(response)));
        }
        let mut writer = Writer::new(&mut self.kv, &mut self.leases, effects, records);
        let reply = if let Some(put) = &request.put {
            // The lease before the key: the other way round than inside a txn.
            if put.lease != 0 {
                writer.leases().admit(LeaseId(put.lease))?;
            }
            Reply::Put(writer.put(put)?)
        } else if let Some(delete) = &request.delete_range {
            Reply::DeleteRange(writer.delete_range(delete)?)
        } else if let Some(txn) = &request.txn {
            Reply::Txn(txn::write(txn, &mut writer)?)
        } else {
            return Ok(None);
        };
        writer.finish();
        Ok(Some(reply))
    }

    /// Requests that look at no record.
    fn apply_small(
        &mut self,
        request: &InternalRaftRequest,
        records: &dyn Records,
        effects: &mut Effects,
    ) -> Result<Reply, Error> {
        if let Some(compaction) = &request.compaction {
            return self.compact(compaction, effects);
        }
        if let Some(grant) = &request.lease_grant {
            return self.lease_grant(grant, effects);
        }
        if let Some(revoke) = &request.lease_revoke {
            self.end_lease(LeaseId(revoke.id), records, effects)?;
            return Ok(Reply::LeaseRevoke(LeaseRevokeResponse { header: self.header() }));
        }
        if let Some(expire) = &request.lease_expire {
            self.lease_expire(expire, records, effects);
            return Ok(Reply::Done);
        }
        if let Some(checkpoint) = &request.lease_checkpoint {
            return Ok(self.lease_checkpoint(checkpoint, effects));
        }
        if let Some(alarm) = &request.alarm {
            return Ok(self.alarm(alarm, effects));
        }
        if let Some(survivor) = &request.sole_survivor {
            self.survive(survivor, effects);
            return Ok(Reply::Done);
        }
        if let Some(reply) = self.apply_members(request, effects)? {
            return Ok(reply);
        }
        self.apply_auth(request)
    }

    fn header(&self) -> Option<ResponseHeader> {
        header(self.kv.revision)
    }

    fn compact(&mut self, compaction: &CompactionRequest, effects: &mut Effects) -> Result<Reply, Error> {
        self.kv.compact(compaction.revision)?;
        effects.write(&Row::Floor(compaction.revision));
        Ok(Reply::Compaction(CompactionResponse { header: self.header() }))
    }

    /// A cluster that gets another ID gets revisions that nobody can have seen under the old one, and no history: who
    /// watches has to list again.
    fn survive(&mut self, survivor: &SoleSurvivor, effects: &mut Effects) {
        effects.members = true;
        let raised = self.kv.revision.saturating_add(survivor.bump_revision).min(MAX_REVISION);
        if !self.members.survive(survivor, effects) || raised <= self.kv.revision {
            return;
        }
        self.kv.revision = raised;
        effects.write_revision(raised);
        if self.kv.compact(raised).is_ok() {
            effects.write(&Row::Floor(raised));
        }
    }

    fn lease_grant(&mut self, grant: &LeaseGrantRequest, effects: &mut Effects) -> Result<Reply, Error> {
        let lease = self.leases.grant(LeaseId(grant.id), grant.ttl)?;
        let (id, ttl) = (lease.id, lease.ttl);
        effects.write(&Row::Lease(lease));
        effects.leases.push(LeaseChange::Granted(LeaseId(id), ttl));
        let header = self.header();
        Ok(Reply::LeaseGrant(LeaseGrantResponse { header, id, ttl, ..LeaseGrantResponse::default() }))
    }

    /// Takes a lease out and deletes what hung on it: one revision, keys sorted; none if nothing did.
    fn end_lease(&mut self, id: LeaseId, records: &dyn Records, effects: &mut Effects) -> Result<(), Error> {
        let keys = self.leases.remove(id).ok_or(Error::LeaseNotFound)?;
        effects.erase_lease(id);
        effects.leases.push(LeaseChange::Gone(id));
        let mut writer = Writer::new(&mut self.kv, &mut self.leases, effects, records);
        writer.delete_detached(&keys);
        writer.finish();
        Ok(())
    }

    /// Each lease is a revision of its own, in the order given. One that is gone already is no error.
    fn lease_expire(&mut self, expire: &LeaseExpire, records: &dyn Records, effects: &mut Effects) {
        for id in &expire.ids {
            let ended = self.end_lease(LeaseId(*id), records, effects);
            debug_assert!(matches!(ended, Ok(()) | Err(Error::LeaseNotFound)));
        }
    }

    fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest, effects: &mut Effects) -> Reply {
        for checkpoint in &request.checkpoints {
            let id = LeaseId(checkpoint.id);
            if let Some(lease) = self.leases.checkpoint(id, checkpoint.remaining_ttl) {
                effects.write(&Row::Lease(lease));
                effects.leases.push(LeaseChange::Checkpointed(id, checkpoint.remaining_ttl));
            }
        }
        Reply::LeaseCheckpoint(LeaseCheckpointResponse { header: self.header() })
    }

    fn alarm(&mut self, request: &AlarmRequest, effects: &mut Effects) -> Reply {
        effects.alarms |= request.action != AlarmAction::Get as i32;
        let alarm = keepstone_proto::etcdserverpb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let none = request.alarm == AlarmType::None as i32;
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.alarms.list(request.alarm),
            Ok(AlarmAction::Activate) if !none => {
                if self.alarms.raise(&alarm) {
                    effects.write(&Row::Alarm(alarm));
                }
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) if self.alarms.lower(&alarm) => {
                effects.erase_alarm(&alarm);
                vec![alarm]
            }
            _ => Vec::new(),
        };
        Reply::Alarm(AlarmResponse { header: self.header(), alarms })
    }

    fn apply_members(&mut self, request: &InternalRaftRequest, effects: &mut Effects) -> Result<Option<Reply>, Error> {
        let header = Some(ResponseHeader::default());
        let table = &mut self.members;
        let reply = if let Some(add) = &request.member_add {
            let member = Some(table.add(add, effects)?);
            Reply::MemberAdd(MemberAddResponse { header, member, members: table.list() })
        } else if let Some(remove) = &request.member_remove {
            table.remove(MemberId(remove.id), effects)?;
            Reply::MemberRemove(MemberRemoveResponse { header, members: table.list() })
        } else if let Some(promote) = &request.member_promote {
            table.promote(MemberId(promote.id), effects)?;
            Reply::MemberPromote(MemberPromoteResponse { header, members: table.list() })
        } else if let Some(update) = &request.member_update {
            table.update(update, effects)?;
            Reply::MemberUpdate(MemberUpdateResponse { header, members: table.list() })
        } else if let Some(set) = &request.cluster_member_attr_set {
            table.publish(set, effects)?;
            Reply::Done
        } else if let Some(bind) = &request.member_bind {
            table.bind(bind, effects)?;
            Reply::Done
        } else if let Some(init) = &request.cluster_init {
            table.init(init, effects)?;
            Reply::Done
        } else if let Some(set) = &request.cluster_version_set {
            table.set_version(&set.ver, effects);
            Reply::Done
        } else if let Some(set) = &request.downgrade_info_set {
            table.set_downgrade(set, effects);
            Reply::Done
        } else {
            return Ok(None);
        };
        effects.members = true;
        Ok(Some(reply))
    }

    /// Authentication is never enabled: what can be said about that is, the rest is refused.
    fn apply_auth(&self, request: &InternalRaftRequest) -> Result<Reply, Error> {
        if request.auth_status.is_some() {
            let response = AuthStatusResponse { header: self.header(), enabled: false, auth_revision: 1 };
            return Ok(Reply::AuthStatus(response));
        }
        if request.auth_disable.is_some() {
            return Ok(Reply::AuthDisable(AuthDisableResponse { header: self.header() }));
        }
        if request.authenticate.is_some() {
            return Err(Error::AuthNotEnabled);
        }
        Err(Error::NotCapable)
    }
}
