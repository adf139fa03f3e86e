//! The members' ServiceAccount. It may do nothing, and its token is not given out: a member needs nothing of Kubernetes.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::Blueprint;

#[must_use]
pub fn build(b: &Blueprint) -> ServiceAccount {
    ServiceAccount {
        metadata: b.metadata(b.names.main()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
