//! The StatefulSet and the claims.

use k8s_openapi::api::apps::v1::StatefulSet;
use keepstone_operator_plan::ids::{MemberId, Ordinal, Template, Uid};
use serde_json::{Value, json};

use super::{ActError, Done, Hands};
use crate::controller::api::{Api, Deletion, typed, uid, version};
use crate::controller::kind::Kind;
use crate::controller::look::claims::LEFT_ANNOTATION;
use crate::controller::look::{at, jobs};
use crate::controller::members::Members;
use crate::controller::write::wanted;
use crate::convert;
use crate::objects::pod::VERSION_ANNOTATION;
use crate::objects::stateful_set::{self, OWNER_ANNOTATION};

impl<A: Api, M: Members> Hands<'_, A, M> {
    pub(super) async fn apply_workload(&self, replicas: u32, template: &Template) -> Done {
        let b = &self.look.blueprint;
        let name = b.names.main();
        let existing: Option<StatefulSet> = self.live(Kind::StatefulSet, &name).map(typed).transpose()?;
        let now = existing.as_ref().and_then(|set| set.spec.as_ref()).map(|spec| spec.replicas.unwrap_or(1));
        if now.is_some_and(|now| u32::try_from(now) != Ok(replicas)) {
            return Err(ActError::Gone("a StatefulSet of that size"));
        }
        let version = self.version_text(template, existing.as_ref());
        let workload = stateful_set::Workload { replicas, version: &version, existing: existing.as_ref() };
        self.put(Kind::StatefulSet, &name, &wanted(&stateful_set::build(b, workload))).await
    }

    /// The version as somebody wrote it: it names an image.
    fn version_text(&self, template: &Template, existing: Option<&StatefulSet>) -> String {
        let asked = &self.look.blueprint.spec.version;
        let annotations = existing.and_then(|set| set.spec.as_ref()?.template.metadata.as_ref()?.annotations.as_ref());
        let pods = self.look.objects.of(Kind::Pod).map(|pod| {
            pod.pointer("/metadata/annotations").and_then(|all| all.get(VERSION_ANNOTATION)).and_then(Value::as_str)
        });
        let known = [Some(asked.as_str()), annotations.and_then(|all| all.get(VERSION_ANNOTATION)).map(String::as_str)];
        let same = |text: &&str| convert::text::version("version", text) == Ok(template.version);
        let found = known.into_iter().chain(pods).flatten().find(same);
        found.map_or_else(|| template.version.to_string(), str::to_owned)
    }

    pub(super) async fn set_replicas(&self, id: &Uid, from: u32, to: u32) -> Done {
        let name = self.look.blueprint.names.main();
        let live = self.same(Kind::StatefulSet, &name, &id.0)?;
        if live.pointer("/spec/replicas").and_then(Value::as_u64) != Some(u64::from(from)) {
            return Err(ActError::Gone("a StatefulSet of that size"));
        }
        let patch = json!({"spec": {"replicas": to}});
        self.amend(Kind::StatefulSet, &name, live, patch).await
    }

    /// A merge patch on the very object that was seen.
    pub(super) async fn amend(&self, kind: Kind, name: &str, live: &Value, mut patch: Value) -> Done {
        patch["metadata"]["uid"] = json!(uid(live));
        patch["metadata"]["resourceVersion"] = json!(version(live));
        self.api.merge(kind, &at(&self.look.blueprint, name), false, &patch).await?;
        Ok(())
    }

    /// The claim of the log goes first: nobody would look for it once that of the data is gone. A pod that has ended keeps
    /// its claims from going, so those of copies and restores go before either; their Jobs stay, and say what was done. One
    /// that is at work on the volume goes itself, and its pods with it.
    pub(super) async fn delete_claim(&self, ordinal: Ordinal, id: &str) -> Done {
        let names = &self.look.blueprint.names;
        let data = self.same(Kind::Claim, &names.claim(ordinal), id)?;
        for claim in [names.wal_claim(ordinal), names.claim(ordinal)] {
            for job in jobs::at_work(&self.look.objects, &claim) {
                let how = Deletion { uid: Some(uid(job).to_owned()), ..Deletion::default() };
                self.api.delete(Kind::Job, &crate::controller::write::name(job), &how).await?;
            }
            for pod in jobs::holding(&self.look.objects, &claim) {
                let how = Deletion { uid: Some(uid(pod).to_owned()), ..Deletion::default() };
                self.api.delete(Kind::Pod, &crate::controller::write::name(pod), &how).await?;
            }
        }
        let owner = |claim: &Value| claim.pointer("/metadata/annotations").map(owner_of).unwrap_or_default().to_owned();
        if let Some(wal) = self.live(Kind::Claim, &names.wal_claim(ordinal)).filter(|wal| owner(wal) == owner(data)) {
            self.delete(Kind::Claim, &names.wal_claim(ordinal), uid(wal), Deletion::default()).await?;
        }
        self.delete(Kind::Claim, &names.claim(ordinal), id, Deletion::default()).await
    }

    pub(super) async fn mark_left(&self, ordinal: Ordinal, id: &str, member: Option<MemberId>) -> Done {
        let name = self.look.blueprint.names.claim(ordinal);
        let live = self.same(Kind::Claim, &name, id)?;
        let member = member.map_or_else(String::new, |member| member.to_string());
        self.amend(Kind::Claim, &name, live, json!({"metadata": {"annotations": {LEFT_ANNOTATION: member}}})).await
    }

    pub(super) async fn grow(&self, ordinal: Ordinal, id: &str, bytes: u64) -> Done {
        let name = self.look.blueprint.names.claim(ordinal);
        let live = self.same(Kind::Claim, &name, id)?;
        let patch = json!({"spec": {"resources": {"requests": {"storage": bytes.to_string()}}}});
        self.amend(Kind::Claim, &name, live, patch).await
    }
}

fn owner_of(annotations: &Value) -> &str {
    annotations.get(OWNER_ANNOTATION).and_then(Value::as_str).unwrap_or_default()
}
