//! Founding by permit: every member is started alike and joins, and one of them is told, in a file, to found the cluster.
//!
//! A permit names the member, and may name who runs it and its data directory. Its nonce goes into the directory before
//! anything else happens and into the replicated state with the first entries, so that whoever gave it can see what
//! became of it. A directory that has a cluster founds none, whatever the file says; one that hears of a cluster among
//! those it would join founds none either.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use keepstone_proto::keepstonepb::{Claim, Member};
use serde::Deserialize;

use super::found::{Founder, Founders};
use super::join::{Answered, Way};
use super::passport::{Incarnation, MAX_NONCE, Passport};
use super::reception::FrontDesk;
use crate::config::{ClusterState, Config, ConfigError, ListenUrl};
use crate::core::Identity;
use crate::data;
use crate::peer::grpc::Connector;

/// Pause between two looks for a permit, or two rounds of asking to be let in.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Every so many looks it is said what is waited for.
const TELL_EVERY: u32 = 25;
/// Bytes of the file that are looked at.
const MAX_FILE: u64 = 64 << 10;

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Founding a cluster of one, in a directory without data.
    Found,
    /// What `--force-new-cluster-id` does, in a directory with data.
    ForceNewClusterId,
}

/// A permit as it is written. What this version does not know may be a condition: it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    pub action: Action,
    /// `--name` of the member it is for.
    pub name: String,
    /// `--permit-holder` of the member it is for.
    #[serde(default)]
    pub holder: Option<String>,
    /// The data directory it is for, as `/keepstone/member` names it.
    #[serde(default)]
    pub directory: Option<String>,
    /// 1 to 64 bytes, used for no other permit.
    pub nonce: String,
}

impl Permit {
    /// # Errors
    /// Bytes that are no permit.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let permit: Self = serde_json::from_slice(bytes).map_err(|error| format!("it is no permit: {error}"))?;
        if permit.nonce.is_empty() || permit.nonce.len() > MAX_NONCE {
            return Err(format!("its nonce has to have 1 to {MAX_NONCE} bytes"));
        }
        Ok(permit)
    }

    /// Whether it is for this member and this directory.
    fn is_for(&self, config: &Config, incarnation: &Incarnation) -> bool {
        self.names(config) && self.directory.as_ref().is_none_or(|directory| *directory == hex(incarnation))
    }

    fn names(&self, config: &Config) -> bool {
        self.name == config.name && self.holder.as_ref().is_none_or(|holder| *holder == config.permit_holder)
    }

    pub fn nonce(&self) -> Bytes {
        Bytes::copy_from_slice(self.nonce.as_bytes())
    }
}

/// How a data directory is called outside: its incarnation, in hexadecimal.
pub fn hex(incarnation: &Incarnation) -> String {
    incarnation.iter().fold(String::with_capacity(32), |mut text, byte| {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "a String takes everything");
        text
    })
}

/// The permit for `action` that this member holds now. None if there is no file, or it is somebody else's.
///
/// # Errors
/// A file that can't be read, or holds something else.
pub fn held(config: &Config, incarnation: &Incarnation, action: Action) -> Result<Option<Permit>, String> {
    let permit = there(config)?;
    Ok(permit.filter(|permit| permit.action == action && permit.is_for(config, incarnation)))
}

/// Whether a permit lets this member go on alone, as long as nobody knows yet what its directory is called.
pub fn goes_on_alone(config: &Config) -> bool {
    let permit = there(config).ok().flatten();
    permit.is_some_and(|permit| permit.action == Action::ForceNewClusterId && permit.names(config))
}

fn there(config: &Config) -> Result<Option<Permit>, String> {
    let Some(path) = &config.permit_file else { return Ok(None) };
    let wrap = |why: String| format!("the permit in {}: {why}", path.display());
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrap(error.to_string())),
    };
    // What a mounted ConfigMap has for a permit that was taken back.
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    Permit::parse(&bytes).map(Some).map_err(wrap)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, MAX_FILE), &mut bytes)?;
    Ok(bytes)
}

/// Whom a member without a permit asks: as [`Way::from_config`], or nobody.
///
/// # Errors
/// etcd's words for settings that do not agree.
pub fn way(config: &Config) -> Result<Way, ConfigError> {
    if !config.join.is_empty() || config.initial_cluster_state == ClusterState::Existing {
        return Way::from_config(config);
    }
    Ok(Way { ask: Vec::new(), claim: Claim::default() })
}

/// What became of a member that was started to join, or to found with a permit.
pub enum Found {
    /// It is to found this cluster of one; that is on disk.
    Founds(Founders),
    /// It was let into a cluster; its identity is on disk.
    Joined(Identity, Vec<Member>),
}

/// The cluster that `permit` lets this member found. Its IDs are the permit's own: no other founding makes them.
fn founders(config: &Config, nonce: &Bytes) -> Founders {
    let peer_urls: Vec<String> = config.initial_advertise_peer_urls.iter().map(ListenUrl::to_string).collect();
    let token = format!("{}{}", config.initial_cluster_token, nonce.escape_ascii());
    let member_id = data::member_id(&peer_urls, &token);
    let cluster_id = data::cluster_id(&[member_id]);
    let members = BTreeMap::from([(member_id, Founder { name: config.name.clone(), peer_urls })]);
    Founders { identity: Identity { cluster_id, member_id }, members }
}

/// A founding that had gone so far that Raft has a membership. It needs no permit any more.
pub fn under_way(config: &Config, passport: &Passport) -> Option<Founders> {
    let founders = founders(config, &passport.permit);
    let identity = passport.identity?;
    let members = founders.members.into_values().map(|founder| (identity.member_id, founder)).collect();
    (!passport.permit.is_empty()).then_some(Founders { identity, members })
}

/// Waits for a permit, or to be let in, whichever comes first.
///
/// # Errors
/// A cluster refuses this member, or what happens can't be written down.
pub async fn found_or_join(
    config: &Config,
    way: &Way,
    desk: &FrontDesk,
    connector: &Connector,
) -> Result<Found, String> {
    let mut told = 0_u32;
    loop {
        let mut reasons = Vec::new();
        let mut cluster = None;
        let asked = way.ask.iter().map(|url| way.ask_at(url, desk, connector));
        for answered in join_all(asked).await {
            match answered? {
                Answered::Joined(identity, members) => return Ok(Found::Joined(identity, members)),
                Answered::Later { why, cluster_id } => {
                    // Whom this member has itself told of the cluster it was about to found.
                    let own = desk.passport().identity.map(|identity| identity.cluster_id);
                    cluster = cluster.or(cluster_id.filter(|id| Some(*id) != own));
                    reasons.push(why);
                }
            }
        }
        // Looked at last: asking takes time, and a permit may be taken back.
        match (held(config, &desk.passport().incarnation, Action::Found), cluster) {
            (Ok(Some(permit)), None) => return begin(config, &permit, desk),
            (Ok(Some(_)), Some(id)) => reasons.push(format!("the permit founds nothing: there is cluster {id:x}")),
            (Ok(None), _) => {
                give_up(desk)?;
                reasons.push("there is no permit for this member".to_owned());
            }
            (Err(why), _) => reasons.push(why),
        }
        if told.is_multiple_of(TELL_EVERY) {
            let directory = hex(&desk.passport().incarnation);
            tracing::info!(
                directory,
                why = reasons.join("; "),
                "waiting for a permit to found a cluster, or to be let into one"
            );
        }
        told = told.wrapping_add(1);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A permit that was taken back before Raft had a membership: nothing has come of it.
fn give_up(desk: &FrontDesk) -> Result<(), String> {
    let forget = |passport: &mut Passport| (passport.identity, passport.permit) = (None, Bytes::new());
    desk.update(forget).map_err(|error| format!("taking back a founding: {error}"))
}

fn begin(config: &Config, permit: &Permit, desk: &FrontDesk) -> Result<Found, String> {
    let founders = founders(config, &permit.nonce());
    desk.update(|passport| {
        (passport.identity, passport.permit) = (Some(founders.identity), permit.nonce());
    })
    .map_err(|error| format!("writing down the permit: {error}"))?;
    tracing::info!(nonce = permit.nonce, "founding a cluster with a permit");
    Ok(Found::Founds(founders))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMIT: &str =
        r#"{"action":"found","name":"a","holder":"pod","directory":"03030303030303030303030303030303","nonce":"n1"}"#;

    fn config(file: Option<&Path>) -> Config {
        let permit_holder = "pod".to_owned();
        let permit_file = file.map(Path::to_path_buf);
        Config { name: "a".to_owned(), permit_holder, permit_file, ..Config::defaults() }
    }

    #[test]
    fn a_permit_is_for_one_member_one_holder_and_one_directory() {
        let permit = Permit::parse(PERMIT.as_bytes()).expect("a permit");
        assert!(permit.is_for(&config(None), &[3; 16]));
        assert!(!permit.is_for(&config(None), &[4; 16]));
        assert!(!permit.is_for(&Config { name: "b".to_owned(), ..config(None) }, &[3; 16]));
        assert!(!permit.is_for(&Config { permit_holder: "other".to_owned(), ..config(None) }, &[3; 16]));
        let short = Permit::parse(br#"{"action":"found","name":"a","nonce":"n"}"#).expect("a permit");
        assert!(short.is_for(&config(None), &[4; 16]));
    }

    #[test]
    fn a_condition_that_is_not_known_is_not_passed_over() {
        for wrong in [
            r#"{"action":"found","name":"a","nonce":"n","before":"2030"}"#,
            r#"{"action":"dance","name":"a","nonce":"n"}"#,
            r#"{"action":"found","name":"a","nonce":""}"#,
            r#"{"action":"found","name":"a"}"#,
            "{",
        ] {
            Permit::parse(wrong.as_bytes()).expect_err(wrong);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_no_permit_and_one_that_makes_no_sense_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("permit");
        let held = |action| held(&config(Some(&path)), &[3; 16], action);
        assert_eq!(held(Action::Found), Ok(None));
        std::fs::write(&path, "\n").expect("written");
        assert_eq!(held(Action::Found), Ok(None));
        std::fs::write(&path, PERMIT).expect("written");
        assert_eq!(held(Action::Found).expect("a permit").expect("for this member").nonce, "n1");
        assert_eq!(held(Action::ForceNewClusterId), Ok(None));
        std::fs::write(&path, "{").expect("written");
        held(Action::Found).expect_err("no permit");
    }

    #[test]
    fn every_permit_founds_a_cluster_of_its_own() {
        let [one, two] =
            ["n1", "n2"].map(|nonce| founders(&config(None), &Bytes::from_static(nonce.as_bytes())).identity);
        assert!(one.cluster_id != two.cluster_id && one.member_id != two.member_id);
    }
}
