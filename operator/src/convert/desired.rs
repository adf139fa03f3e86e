//! What the spec asks for, as the planner wants to know it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use keepstone_operator_api::Span;
use keepstone_operator_api::operation::Restore;
use keepstone_operator_api::policy::{
    DefragmentRule, DeletionPolicy, Maintenance as AskedMaintenance, QuorumLossMode, SnapshotBefore,
};
use keepstone_operator_api::tls::TlsProvider;
use keepstone_operator_plan::desired::{
    BackupPolicy, Compaction, Deadlines, Defragmentation, Desired, Maintenance, Recovery, Retention, Rule, Tls, Update,
};
use keepstone_operator_plan::ids::{Seconds, Template, Time};

use super::{Unclear, schedule};
use crate::{Blueprint, pki, quantity};

/// Seconds that a CA is renewed before its end: a year, or a third of the time of what it signs where that is longer.
const CA_RENEW_BEFORE: u64 = 365 * 24 * 3600;
/// Seconds until a changed Secret has reached every pod: kubelets look about once a minute.
const SETTLE: u64 = 150;
/// How many entries a restarted member may be behind and count as caught up.
const MAX_LAG: u64 = 1000;

/// What a cluster's spec asks for now, of pods that are made of `template`.
///
/// # Errors
/// A text can't be read, and the schema could not see it: mostly a cron or a time zone.
pub fn read(b: &Blueprint, template: Template, now: Time) -> Result<Desired, Unclear> {
    let spec = &b.spec;
    Ok(Desired {
        size: u32::try_from(spec.size).map_err(|_| Unclear::new("spec.size", "it is below 0"))?,
        template,
        storage: b.storage,
        paused: spec.paused,
        hibernate: spec.hibernate,
        deletion_policy: retention(spec.deletion_policy),
        retain_policy: retention(spec.storage_spec.retain_policy),
        quota: b.quota,
        tls: tls(b),
        update: Update {
            pause_between: seconds("spec.updateStrategy.pauseBetween", &spec.update_strategy.pause_between)?,
            allow_downgrade: spec.update_strategy.allow_downgrade,
            snapshot_before: spec.update_strategy.snapshot_before == SnapshotBefore::Full,
            max_lag: MAX_LAG,
        },
        recovery: recovery(b)?,
        maintenance: maintenance(&spec.maintenance, now)?,
        backup: backup(b, now)?,
        backup_suspended: spec.backup.as_ref().is_some_and(|asked| asked.suspend),
        source: spec.bootstrap.as_ref().map(|bootstrap| source(&bootstrap.restore)),
        deadlines: Deadlines::default(),
    })
}

fn retention(policy: DeletionPolicy) -> Retention {
    match policy {
        DeletionPolicy::Retain => Retention::Retain,
        DeletionPolicy::Delete => Retention::Delete,
    }
}

fn tls(b: &Blueprint) -> Tls {
    match b.spec.tls.provider {
        TlsProvider::Disabled => Tls::Disabled,
        TlsProvider::CertManager | TlsProvider::Secret => Tls::Given,
        TlsProvider::Auto => {
            let renew_before = pki::profile::renew_before(b);
            Tls::Auto {
                renew_before: Seconds(renew_before),
                ca_renew_before: Seconds(CA_RENEW_BEFORE.max(pki::profile::validity(b) / 3)),
                settle: Seconds(SETTLE),
            }
        }
    }
}

fn recovery(b: &Blueprint) -> Result<Recovery, Unclear> {
    let (replace, loss) = (&b.spec.recovery.replace_member, &b.spec.recovery.quorum_loss);
    let restarts = u32::try_from(replace.after_restarts);
    Ok(Recovery {
        replace: replace.enabled,
        after_restarts: restarts
            .map_err(|_| Unclear::new("spec.recovery.replaceMember.afterRestarts", "it is below 0"))?,
        min_unhealthy: seconds("spec.recovery.replaceMember.minUnhealthy", &replace.min_unhealthy)?,
        automatic: loss.mode == QuorumLossMode::Automatic,
        after: seconds("spec.recovery.quorumLoss.after", &loss.after)?,
    })
}

fn maintenance(asked: &AskedMaintenance, now: Time) -> Result<Maintenance, Unclear> {
    let compact = asked.compact.as_ref().map(|it| {
        let schedule = schedule::read("spec.maintenance.compact", &it.when, now)?;
        Ok(Compaction { schedule, keep: it.keep.revisions })
    });
    let defragment = asked.defragment.as_ref().map(|it| {
        let schedule = schedule::read("spec.maintenance.defragment", &it.when, now)?;
        Ok(Defragmentation { schedule, rule: rule("spec.maintenance.defragment.rule", &it.rule)? })
    });
    Ok(Maintenance { compact: compact.transpose()?, defragment: defragment.transpose()? })
}

/// `None` while it is suspended.
fn backup(b: &Blueprint, now: Time) -> Result<Option<BackupPolicy>, Unclear> {
    let Some(asked) = b.spec.backup.as_ref().filter(|asked| !asked.suspend) else { return Ok(None) };
    let keep = u32::try_from(asked.retention.keep_last).unwrap_or(1).max(1);
    let schedule = schedule::read("spec.backup.full", &asked.full.when, now)?;
    Ok(Some(BackupPolicy { schedule, keep, immediate: asked.full.immediate }))
}

/// A backup to begin with, as the planner hands it on without looking: all that is asked, as JSON.
#[must_use]
pub fn source(asked: &Restore) -> Arc<str> {
    serde_json::to_string(asked).expect("it has no maps with keys of another kind than text").into()
}

/// What [`source`] wrote.
///
/// # Errors
/// It is something else.
pub fn source_of(text: &str) -> Result<Restore, Unclear> {
    serde_json::from_str(text).map_err(|why| Unclear::new("source", why.to_string()))
}

/// # Errors
/// It has no unit, or is longer than all time.
pub fn seconds(field: &str, span: &Span) -> Result<Seconds, Unclear> {
    let span_of = span.duration().map(|time| Seconds(time.as_secs()));
    span_of.ok_or_else(|| Unclear::new(field, format!("{:?} is no length of time such as 1h30m", span.0)))
}

/// # Errors
/// A size or the percentage can't be read.
pub fn rule(field: &str, asked: &DefragmentRule) -> Result<Rule, Unclear> {
    let bytes = |name: &str, size: &Quantity| {
        let why = || Unclear::new(&format!("{field}.{name}"), format!("{:?} is no amount of bytes", size.0));
        quantity::bytes(size).ok_or_else(why)
    };
    let percent = asked.quota_usage_above.strip_suffix('%').and_then(|number| number.parse().ok());
    let percent = percent.filter(|percent| *percent <= 100).ok_or_else(|| {
        Unclear::new(&format!("{field}.quotaUsageAbove"), format!("{:?} is no percentage", asked.quota_usage_above))
    })?;
    Ok(Rule {
        free_above: bytes("freeSpaceAbove", &asked.free_space_above)?,
        quota_percent: percent,
        min_reclaim: bytes("minReclaim", &asked.min_reclaim)?,
    })
}

/// What [`rule`] reads.
#[must_use]
pub fn rule_of(rule: &Rule) -> DefragmentRule {
    DefragmentRule {
        free_space_above: Quantity(rule.free_above.to_string()),
        quota_usage_above: format!("{}%", rule.quota_percent),
        min_reclaim: Quantity(rule.min_reclaim.to_string()),
    }
}

#[cfg(test)]
mod tests;
