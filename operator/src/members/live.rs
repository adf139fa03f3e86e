//! The controller's calls, made to real members. Connections are kept as long as they are used.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::MemberId;

use super::{CallError, Dialer, Member, Refusal, card};
use crate::controller::members::{Answer, Change, Failure, Members, Row, Target};
use crate::convert::text;
use crate::objects::permit;

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Connections that are kept. More members than this are called all the same, each with a connection of its own.
const KEPT: usize = 4096;

/// Calls over the network.
#[derive(Default)]
pub struct Live {
    lines: Mutex<HashMap<String, Line>>,
}

struct Line {
    target: Target,
    member: Member,
    used: Instant,
}

impl Live {
    /// A connection that was made with other credentials is not used: they may have been taken back.
    fn member(&self, target: &Target) -> Result<Member, Failure> {
        let now = Instant::now();
        let mut lines = self.lines.lock().expect("nobody panics with it");
        lines.retain(|_, line| now.duration_since(line.used) < IDLE);
        if let Some(line) = lines.get_mut(&target.client_url).filter(|line| line.target == *target) {
            line.used = now;
            return Ok(line.member.clone());
        }
        let member = Member::new(&target.client_url, &dialer(target)?)?;
        if lines.len() < KEPT {
            let line = Line { target: target.clone(), member: member.clone(), used: now };
            lines.insert(target.client_url.clone(), line);
        }
        Ok(member)
    }
}

/// Credentials that are of no use are silence: nobody was asked.
fn dialer(target: &Target) -> Result<Dialer, Failure> {
    match &target.credentials {
        Some(credentials) => Dialer::encrypted(credentials).map_err(|error| Failure::Silence(error.to_string())),
        None => Ok(Dialer::plain()),
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal.to_string()),
            CallError::Silence(why) => Self::Silence(why),
            url @ CallError::Url(_) => Self::Silence(url.to_string()),
        }
    }
}

impl Members for Live {
    async fn status(&self, of: &Target) -> Result<Answer, Failure> {
        let mut member = self.member(of)?;
        let plain = Dialer::plain();
        let (status, card) = tokio::join!(member.status(), card(&of.metrics_url, &plain));
        let status = status?;
        // Without its card it is not known whether this member founded with our permit. That it did not would be a
        // guess, and by that guess a volume is deleted. The card is of the directory whose member answered, or of none.
        let card = card?;
        if card.member_id != Some(status.member_id.to_string()) {
            let why = format!("{}: another member answers than at {}", of.metrics_url, of.client_url);
            return Err(Failure::Silence(why));
        }
        Ok(Answer {
            status,
            permit: card.permit.and_then(|nonce| permit::nonce(&nonce)),
            release: card.version.and_then(|version| text::version("version", &version).ok()),
        })
    }

    async fn table(&self, from: &Target) -> Result<Vec<Row>, Failure> {
        Ok(self.member(from)?.members().await?)
    }

    async fn alarms(&self, from: &Target) -> Result<BTreeSet<(MemberId, Alarm)>, Failure> {
        Ok(self.member(from)?.alarms().await?.into_iter().collect())
    }

    async fn change(&self, with: &Target, change: &Change) -> Result<(), Failure> {
        let mut member = self.member(with)?;
        let (made, settled) = match change {
            Change::Add { peer_url } => (member.add_learner(peer_url).await.map(drop), Some(Refusal::PeerUrlExists)),
            Change::Promote { id } => (member.promote(*id).await, Some(Refusal::NotALearner)),
            Change::Remove { id } => (member.remove(*id).await, Some(Refusal::MemberNotFound)),
            Change::MoveLeader { to } => (member.move_leader(*to).await, None),
            Change::Compact { revision } => (member.compact(*revision).await, Some(Refusal::Compacted)),
            Change::Defragment => (member.defragment().await, None),
            Change::Disarm { id, alarm } => (member.disarm(*id, *alarm).await, None),
        };
        match made {
            Err(CallError::Refused(refusal)) if settled == Some(refusal.clone()) => Ok(()),
            made => made.map_err(Failure::from),
        }
    }
}
