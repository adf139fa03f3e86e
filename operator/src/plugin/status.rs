//! A cluster in words, for a terminal. Pure: the same objects at the same time give the same text.

use k8s_openapi::jiff::Timestamp;
use keepstone_operator_api::condition::ConditionType;
use serde_json::Value;

use super::found::{Found, Operator};
use super::lines::{self, Health, Line, Role};
use super::table::table;
use super::text::{age, bytes, line, time, until};
use crate::controller::api::text;
use crate::controller::kind::Kind;

/// Rows of what grows without end.
const NEWEST: usize = 5;
const NEWEST_EVENTS: usize = 12;

/// The whole picture.
///
/// # Errors
/// The object is no `EtcdCluster`.
pub fn render(found: &Found, now: Timestamp) -> anyhow::Result<String> {
    let members = lines::members(found)?;
    let sections = [
        heading(found, now),
        section("Conditions", &conditions(&found.cluster, now)),
        section("Members", &members_table("  ", &members)) + &remarks(&members),
        section("Under way", &under_way(found, now)),
        section("Certificates end", &certificates(&found.cluster, now)),
        section("Backups", &backups(found, now)),
        section("Orders", &orders(found, now)),
        section("Events", &events(found, now)),
        section("Not to be read", &missing(found)),
    ];
    Ok(sections.into_iter().filter(|one| !one.is_empty()).collect::<Vec<_>>().join("\n"))
}

fn section(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("{title}\n{body}") }
}

fn or<'a>(value: &'a str, other: &'a str) -> &'a str {
    if value.is_empty() { other } else { value }
}

fn heading(found: &Found, now: Timestamp) -> String {
    let c = &found.cluster;
    let number = |pointer: &str| c.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let phase = or(text(c, "/status/phase"), "not seen by the operator yet");
    let mut rows: Vec<(&str, String)> = Vec::new();
    let (runs, wants) = (text(c, "/status/currentVersion"), text(c, "/spec/version"));
    let version = if runs == wants || runs.is_empty() { wants.to_owned() } else { format!("{runs}, to be {wants}") };
    rows.push(("Version", version));
    let (size, table, ready) = (number("/spec/size"), number("/status/memberCount"), number("/status/readyMembers"));
    rows.push(("Size", format!("{size} asked for, {table} in the cluster, {ready} ready")));
    rows.push(("Leader", or(text(c, "/status/leader"), "none known").to_owned()));
    rows.push(("ID", or(text(c, "/status/clusterID"), "none: it is not founded").to_owned()));
    let (asked, seen) = (number("/metadata/generation"), number("/status/observedGeneration"));
    if seen < asked {
        rows.push(("Spec", format!("changed, and the operator has not seen it (generation {asked}, seen {seen})")));
    }
    rows.push(("Age", age(time(c, "/metadata/creationTimestamp"), now)));
    if c.pointer("/metadata/deletionTimestamp").is_some() {
        rows.push(("Deleted", format!("{} ago", age(time(c, "/metadata/deletionTimestamp"), now))));
    }
    if let Some(operator) = &found.operator {
        let words = match operator {
            Ok(operator) => of_operator(operator, now),
            Err(_) => "not known".to_owned(),
        };
        rows.push(("Operator", words));
    }
    let recovered = number("/status/recoveryCount");
    if recovered > 0 {
        rows.push(("Recovered", format!("from one survivor: {recovered}")));
    }
    let mut all = format!("{}/{}: {phase}\n", text(c, "/metadata/namespace"), text(c, "/metadata/name"));
    for (name, value) in rows {
        all += &format!("  {name:<10} {value}\n");
    }
    all
}

fn of_operator(operator: &Operator, now: Timestamp) -> String {
    if operator.pods.is_empty() {
        return "no pod of it is there: members serve, and nobody looks after them".to_owned();
    }
    let is_ready = |pod: &&Value| {
        let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let ready = operator.pods.iter().filter(is_ready).count();
    let pods = format!("{ready} of {} pods ready", operator.pods.len());
    let Some(lease) = &operator.lease else { return pods };
    let holder = text(lease, "/spec/holderIdentity");
    let holder = holder.rsplit_once('_').map_or(holder, |(pod, _)| pod);
    let renewed = time(lease, "/spec/renewTime");
    let length = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or(15);
    let holds = renewed.is_some_and(|at| now.as_second() - at.as_second() <= length);
    match (holder, holds) {
        ("", _) => format!("{pods}; none of them works"),
        (holder, true) => format!("{pods}; {holder} works"),
        (_, false) => format!("{pods}; none of them has worked for {}", age(renewed, now)),
    }
}

fn conditions(cluster: &Value, now: Timestamp) -> String {
    let all = cluster.pointer("/status/conditions").and_then(Value::as_array);
    let rows = all.into_iter().flatten().map(|one| {
        let (kind, status) = (text(one, "/type"), text(one, "/status"));
        let good = match kind {
            kind if kind == ConditionType::Degraded.as_str() => "False",
            // Either is right.
            kind if kind == ConditionType::Progressing.as_str() => status,
            _ => "True",
        };
        let since = age(time(one, "/lastTransitionTime"), now);
        let mark = if status == good { " " } else { "!" };
        [&format!("{mark} {kind}"), status, &since, text(one, "/reason"), &line(text(one, "/message"))]
            .map(str::to_owned)
            .to_vec()
    });
    table("", &["  CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"], &rows.collect::<Vec<_>>())
}

/// The members' table, with what is amiss below it.
#[must_use]
pub fn members(lines: &[Line], found: &Found) -> String {
    if lines.is_empty() {
        return "there are none\n".to_owned();
    }
    members_table("", lines) + &remarks(lines) + &section("Not to be read", &missing(found))
}

fn members_table(indent: &str, lines: &[Line]) -> String {
    let size = |amount: Option<i64>| amount.map_or_else(|| "-".to_owned(), bytes);
    let given = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = lines.iter().map(|one| {
        let health = match one.health {
            Health::Healthy => "yes",
            Health::NoLeader => "no leader",
            Health::Unhealthy => "no",
            Health::Unknown => "-",
        };
        let role = match one.role {
            Role::Leader => "leader",
            Role::Voter => "voter",
            Role::Learner => "learner",
            Role::None => "-",
        };
        let pod = one.pod.as_ref();
        let claim = one.claim.as_ref().map_or_else(
            || "absent".to_owned(),
            |claim| {
                let phase = if claim.deleting { "being deleted" } else { claim.phase.as_str() };
                format!("{} {}", claim.size, phase).trim().to_owned()
            },
        );
        vec![
            one.name.clone(),
            role.to_owned(),
            format!("{health}{}", if one.answered || one.role == Role::None { "" } else { "*" }),
            given(&one.version),
            size(one.db_size_bytes),
            size(one.db_size_in_use_bytes),
            one.raft_applied_index.map_or_else(|| "-".to_owned(), |index| index.to_string()),
            if one.alarms.is_empty() { "-".to_owned() } else { one.alarms.join(",") },
            pod.map_or_else(|| "absent".to_owned(), |pod| pod.state.clone()),
            pod.map_or_else(|| "-".to_owned(), |pod| pod.restarts.to_string()),
            pod.map_or_else(|| "-".to_owned(), |pod| given(&pod.node)),
            claim,
            given(&one.id),
        ]
    });
    let heading = [
        "NAME", "ROLE", "HEALTHY", "VERSION", "SIZE", "IN USE", "APPLIED", "ALARMS", "POD", "RESTARTS", "NODE",
        "VOLUME", "ID",
    ];
    table(indent, &heading, &rows.collect::<Vec<_>>())
}

fn remarks(lines: &[Line]) -> String {
    let mut all = String::new();
    if lines.iter().any(|one| !one.answered && one.role != Role::None) {
        all += "  * not asked itself: as the operator last saw it\n";
    }
    for one in lines {
        if let Some(trouble) = one.pod.as_ref().and_then(|pod| pod.trouble.as_ref()) {
            all += &format!("  ! {}: {trouble}\n", one.name);
        }
    }
    all
}

fn under_way(found: &Found, now: Timestamp) -> String {
    let Some(record) = found.cluster.pointer("/status/operation") else { return String::new() };
    let mut words = vec![text(record, "/type").to_owned()];
    let member = text(record, "/member");
    if !member.is_empty() {
        words.push(format!("of {member}"));
    }
    words.push(format!("for {}", age(time(record, "/startedAt"), now)));
    if let Some(deadline) = time(record, "/deadline") {
        let late = deadline < now;
        words.push(format!("({} {})", if late { "should have ended" } else { "to end" }, until(deadline, now)));
    }
    let uid = text(record, "/requestUID");
    let order = found.of(Kind::Operation).find(|one| !uid.is_empty() && text(one, "/metadata/uid") == uid);
    if let Some(order) = order {
        words.push(format!("as {} has it", text(order, "/metadata/name")));
    }
    format!("  {}\n", words.join(" "))
}

fn certificates(cluster: &Value, now: Timestamp) -> String {
    let of = |(name, key): (&str, &str)| {
        let end = time(cluster, &format!("/status/certificates/{key}"))?;
        let mark = if end < now { "!" } else { " " };
        let day = end.strftime("%Y-%m-%d %H:%M UTC");
        Some(format!("{mark} {name:<8} {day} ({})\n", until(end, now)))
    };
    let all =
        [("CA", "caNotAfter"), ("servers", "serverNotAfter"), ("peers", "peerNotAfter"), ("clients", "clientNotAfter")];
    all.into_iter().filter_map(of).collect()
}

/// The newest of a kind, newest first.
fn newest<'a>(all: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut all: Vec<_> = all.collect();
    let key = |one: &Value| (time(one, "/metadata/creationTimestamp"), text(one, "/metadata/name").to_owned());
    all.sort_by_key(|one| std::cmp::Reverse(key(one)));
    all
}

fn reason(object: &Value) -> String {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let completed = all.into_iter().flatten().find(|one| one["type"] == ConditionType::Completed.as_str());
    completed.filter(|one| one["status"] != "True").map_or_else(String::new, |one| {
        line(&format!("{}: {}", text(one, "/reason"), text(one, "/message"))).trim_end_matches(':').to_owned()
    })
}

fn more(shown: usize, all: usize) -> String {
    if all > shown { format!("  and {} older ones\n", all - shown) } else { String::new() }
}

fn backups(found: &Found, now: Timestamp) -> String {
    let all = newest(found.of(Kind::Backup));
    let rows = all.iter().take(NEWEST).map(|one| {
        let number = |pointer: &str| one.pointer(pointer).and_then(Value::as_i64);
        vec![
            text(one, "/metadata/name").to_owned(),
            or(text(one, "/status/phase"), "Pending").to_owned(),
            number("/status/artifact/revision").map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
            number("/status/artifact/sizeBytes").map_or_else(|| "-".to_owned(), bytes),
            age(time(one, "/status/completedAt"), now),
            or(or(text(one, "/status/artifact/uri"), &reason(one)), "-").to_owned(),
        ]
    });
    let heading = ["NAME", "PHASE", "REVISION", "SIZE", "DONE", "WHERE"];
    let text = table("  ", &heading, &rows.collect::<Vec<_>>()) + &more(NEWEST, all.len());
    let scheduled = found.cluster.pointer("/spec/backup").is_some();
    if text.is_empty() && scheduled { "  none yet\n".to_owned() } else { text }
}

fn orders(found: &Found, now: Timestamp) -> String {
    let all = newest(found.of(Kind::Operation));
    let rows = all.iter().take(NEWEST).map(|one| {
        vec![
            text(one, "/metadata/name").to_owned(),
            or(text(one, "/status/verb"), "-").to_owned(),
            or(text(one, "/status/phase"), "Pending").to_owned(),
            age(time(one, "/metadata/creationTimestamp"), now),
            reason(one),
        ]
    });
    table("  ", &["NAME", "VERB", "PHASE", "AGE", "WHY"], &rows.collect::<Vec<_>>()) + &more(NEWEST, all.len())
}

/// When an event was last seen.
fn seen(event: &Value) -> Option<Timestamp> {
    let places = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    places.into_iter().find_map(|place| time(event, place))
}

fn events(found: &Found, now: Timestamp) -> String {
    let mut all: Vec<_> = found.events.iter().collect();
    all.sort_by_key(|one| (seen(one), text(one, "/metadata/name").to_owned()));
    let newest = all.iter().rev().take(NEWEST_EVENTS).rev();
    let rows = newest.map(|one| {
        let about = format!("{}/{}", text(one, "/involvedObject/kind"), text(one, "/involvedObject/name"));
        let mark = if text(one, "/type") == "Warning" { "!" } else { " " };
        vec![
            format!("{mark} {}", age(seen(one), now)),
            about,
            text(one, "/reason").to_owned(),
            line(text(one, "/message")).chars().take(160).collect(),
        ]
    });
    table("", &["  AGE", "ABOUT", "REASON", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn missing(found: &Found) -> String {
    found.missing().into_iter().map(|(what, why)| format!("  {what}: {}\n", line(why))).collect()
}

/// Clusters, one a line.
#[must_use]
pub fn clusters(all: &[Value], everywhere: bool, now: Timestamp) -> String {
    if all.is_empty() {
        return "there is no EtcdCluster\n".to_owned();
    }
    let condition = |one: &Value| {
        let all = one.pointer("/status/conditions").and_then(Value::as_array);
        let ready = all.into_iter().flatten().find(|it| it["type"] == ConditionType::Ready.as_str());
        ready.map_or_else(|| "-".to_owned(), |it| format!("{} {}", text(it, "/status"), text(it, "/reason")))
    };
    let rows = all.iter().map(|one| {
        let number = |pointer: &str| one.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let mut row = vec![
            text(one, "/metadata/name").to_owned(),
            format!("{}/{}", number("/status/readyMembers"), number("/spec/size")),
            or(text(one, "/status/leader"), "-").to_owned(),
            or(text(one, "/status/currentVersion"), "-").to_owned(),
            or(text(one, "/status/phase"), "-").to_owned(),
            condition(one),
            age(time(one, "/metadata/creationTimestamp"), now),
        ];
        if everywhere {
            row.insert(0, text(one, "/metadata/namespace").to_owned());
        }
        row
    });
    let mut heading = vec!["NAME", "READY", "LEADER", "VERSION", "PHASE", "READY BECAUSE", "AGE"];
    if everywhere {
        heading.insert(0, "NAMESPACE");
    }
    table("", &heading, &rows.collect::<Vec<_>>())
}

/// How an order or a backup ended.
#[must_use]
pub fn end(kind: Kind, object: &Value) -> String {
    let words = text(object, "/status/phase");
    let why = reason(object);
    let mut all = format!(
        "{} {}: {words}{}{why}\n",
        kind,
        text(object, "/metadata/name"),
        if why.is_empty() { "" } else { ", " }
    );
    let artifact = &object["status"]["artifact"];
    if artifact.is_object() {
        let number = |key: &str| artifact[key].as_i64().unwrap_or(0);
        let (revision, size) = (number("revision"), bytes(number("sizeBytes")));
        all += &format!(
            "  revision {revision}, {size}, {}\n  sha256 {}\n",
            text(artifact, "/uri"),
            text(artifact, "/sha256")
        );
    }
    let members = object.pointer("/status/members").and_then(Value::as_array);
    let rows = members.into_iter().flatten().map(|one| {
        let size = |key: &str| one[key].as_i64().map_or_else(|| "-".to_owned(), bytes);
        let done = if one["done"] == true { "yes" } else { "no" };
        vec![
            text(one, "/name").to_owned(),
            done.to_owned(),
            size("bytesBefore"),
            size("bytesAfter"),
            line(text(one, "/message")),
        ]
    });
    all + &table("  ", &["MEMBER", "DONE", "BEFORE", "AFTER", "MESSAGE"], &rows.collect::<Vec<_>>())
}
