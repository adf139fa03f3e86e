//! Lets through what only looks, and what changes something only while the lease is surely held. The check and the call
//! are one: there is no way to the API server or a member around it.

use std::collections::BTreeSet;
use std::sync::Arc;

use keepstone_operator_plan::act::Alarm;
use keepstone_operator_plan::ids::MemberId;
use serde_json::Value;

use super::api::{Api, ApiError, Deletion, Fresh, Which};
use super::clock::Clock;
use super::kind::{Kind, Name};
use super::lease::Lease;
use super::members::{Answer, Change, Failure, Members, Row, Target};

pub struct Fenced<T, C> {
    inner: T,
    clock: Arc<C>,
    lease: Arc<Lease>,
}

impl<T, C: Clock> Fenced<T, C> {
    #[must_use]
    pub fn new(inner: T, clock: Arc<C>, lease: Arc<Lease>) -> Self {
        Self { inner, clock, lease }
    }

    fn may(&self) -> Result<&T, ApiError> {
        if self.lease.holds(&*self.clock) { Ok(&self.inner) } else { Err(ApiError::NotLeading) }
    }
}

impl<A: Api, C: Clock> Api for Fenced<A, C> {
    async fn get(&self, kind: Kind, name: &Name) -> Result<Option<Value>, ApiError> {
        self.inner.get(kind, name).await
    }

    async fn list(&self, kind: Kind, namespace: &str, which: Which<'_>, fresh: Fresh) -> Result<Vec<Value>, ApiError> {
        self.inner.list(kind, namespace, which, fresh).await
    }

    async fn create(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.may()?.create(kind, object).await
    }

    async fn apply(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.may()?.apply(kind, object).await
    }

    async fn merge(&self, kind: Kind, name: &Name, status: bool, patch: &Value) -> Result<Value, ApiError> {
        self.may()?.merge(kind, name, status, patch).await
    }

    async fn replace(&self, kind: Kind, object: &Value) -> Result<Value, ApiError> {
        self.may()?.replace(kind, object).await
    }

    async fn delete(&self, kind: Kind, name: &Name, how: &Deletion) -> Result<(), ApiError> {
        self.may()?.delete(kind, name, how).await
    }
}

impl<M: Members, C: Clock> Members for Fenced<M, C> {
    async fn status(&self, of: &Target) -> Result<Answer, Failure> {
        self.inner.status(of).await
    }

    async fn table(&self, from: &Target) -> Result<Vec<Row>, Failure> {
        self.inner.table(from).await
    }

    async fn alarms(&self, from: &Target) -> Result<BTreeSet<(MemberId, Alarm)>, Failure> {
        self.inner.alarms(from).await
    }

    async fn change(&self, with: &Target, change: &Change) -> Result<(), Failure> {
        let inner = self.may().map_err(|why| Failure::Refused(why.to_string()))?;
        inner.change(with, change).await
    }
}
