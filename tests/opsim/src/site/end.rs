//! The end of an `EtcdCluster`: it goes when nothing holds it any more, and what it owned goes with it.

use keepstone_operator::controller::kind::Kind;
use serde_json::{Value, json};

use super::Site;
use crate::render::{CLUSTER, OWNER};

impl Site {
    /// The API server removes an object that is being deleted and that no finalizer holds.
    pub(super) fn let_go(&mut self) {
        if self.gone || !self.world.deleting {
            return;
        }
        let cluster = self.get(Kind::Cluster, CLUSTER).unwrap_or_default();
        if cluster.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|all| !all.is_empty()) {
            return;
        }
        if self.world.kube.workload.is_some() {
            self.broken.get_or_insert("the cluster is let go, and its StatefulSet is still there".to_owned());
        }
        self.gone = true;
        self.say("the cluster is gone");
        self.sync();
        self.collect();
    }

    /// What is owned by nobody that is still there goes, also what came late.
    pub fn collect(&mut self) {
        let owned = |object: &Value| {
            let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.is_some_and(|all| all.iter().any(|one| one["uid"] == json!(OWNER)))
        };
        self.jobs_of_nobody_go();
        self.objects.retain(|_, object| !owned(object));
    }

    /// What should have gone with the cluster, and did not.
    #[must_use]
    pub fn left_behind(&self) -> Vec<String> {
        // Orders are their givers', and the lease is the operators'.
        let kept = [Kind::Claim, Kind::Operation, Kind::Lease];
        let left = self.objects.keys().filter(|(kind, _)| !kept.contains(kind));
        let mut left: Vec<_> = left.map(|(kind, name)| format!("{kind} {name}")).collect();
        if !self.world.keep_claims {
            left.extend(self.world.kube.claims.keys().map(|n| format!("claim {n}")));
        }
        left
    }
}
