//! The Auth service's place: authentication can't be enabled, and says so.

use std::sync::Arc;

use keepstone_proto::etcdserverpb::auth_server::Auth;
use keepstone_proto::etcdserverpb::*;
use tonic::{Request, Response, Status};

use super::context::Context;

/// The revision of a store of users that never changed, as etcd counts it.
const AUTH_REVISION: u64 = 1;

/// etcd's Auth service, as far as it is served.
#[derive(Clone)]
pub struct AuthService {
    ctx: Arc<Context>,
}

impl AuthService {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx }
    }

    /// Authentication is never enabled.
    pub async fn status(&self) -> AuthStatusResponse {
        AuthStatusResponse { header: Some(self.ctx.header(0)), enabled: false, auth_revision: AUTH_REVISION }
    }
}

fn not_served() -> Status {
    Status::unimplemented("keepstone: authentication is not served by this version")
}

/// The methods that are refused, whatever they are asked.
macro_rules! refused {
    ($($method:ident: $request:ident => $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            async fn auth_status(&self, _: Request<AuthStatusRequest>) -> Result<Response<AuthStatusResponse>, Status> {
                Ok(Response::new(self.status().await))
            }
            $(
                async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                    Err(not_served())
                }
            )*
        }
    };
}

refused! {
    auth_enable: AuthEnableRequest => AuthEnableResponse,
    auth_disable: AuthDisableRequest => AuthDisableResponse,
    authenticate: AuthenticateRequest => AuthenticateResponse,
    user_add: AuthUserAddRequest => AuthUserAddResponse,
    user_get: AuthUserGetRequest => AuthUserGetResponse,
    user_list: AuthUserListRequest => AuthUserListResponse,
    user_delete: AuthUserDeleteRequest => AuthUserDeleteResponse,
    user_change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse,
    user_grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse,
    user_revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse,
    role_add: AuthRoleAddRequest => AuthRoleAddResponse,
    role_get: AuthRoleGetRequest => AuthRoleGetResponse,
    role_list: AuthRoleListRequest => AuthRoleListResponse,
    role_delete: AuthRoleDeleteRequest => AuthRoleDeleteResponse,
    role_grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse,
    role_revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse,
}
