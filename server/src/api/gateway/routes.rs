//! The table of paths: which method each is, and what it takes and gives.

use axum::Router;
use axum::routing::any;
use keepstone_proto::etcdserverpb::*;
use keepstone_proto::v3electionpb::*;
use keepstone_proto::v3lockpb::*;

use super::answer;
use super::call::Gate;

/// One path and its method; some methods have two paths.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    pub(super) add: fn(Router, &'static str, &'static str, &Gate) -> Router,
}

macro_rules! routes {
    ($($service:literal { $($path:literal => $method:literal $kind:ident $request:ident $response:ident),* $(,)? })*) => {
        /// In the order of etcd's services.
        pub(super) const ROUTES: &[Route] = &[$($(
            Route {
                path: concat!("/v3/", $path),
                method: concat!("/", $service, "/", $method),
                add: |router, path, method, gate| {
                    let gate = gate.clone();
                    router.route(path, any(move |request| gate.$kind::<$request, $response>(method, request)))
                },
            },
        )*)*];
    };
}

routes! {
    "etcdserverpb.KV" {
        "kv/range" => "Range" unary RangeRequest RangeResponse,
        "kv/put" => "Put" unary PutRequest PutResponse,
        "kv/deleterange" => "DeleteRange" unary DeleteRangeRequest DeleteRangeResponse,
        "kv/txn" => "Txn" unary TxnRequest TxnResponse,
        "kv/compaction" => "Compact" unary CompactionRequest CompactionResponse,
    }
    "etcdserverpb.Watch" {
        "watch" => "Watch" streams WatchRequest WatchResponse,
    }
    "etcdserverpb.Lease" {
        "lease/grant" => "LeaseGrant" unary LeaseGrantRequest LeaseGrantResponse,
        "lease/revoke" => "LeaseRevoke" unary LeaseRevokeRequest LeaseRevokeResponse,
        "kv/lease/revoke" => "LeaseRevoke" unary LeaseRevokeRequest LeaseRevokeResponse,
        "lease/keepalive" => "LeaseKeepAlive" streams LeaseKeepAliveRequest LeaseKeepAliveResponse,
        "lease/timetolive" => "LeaseTimeToLive" unary LeaseTimeToLiveRequest LeaseTimeToLiveResponse,
        "kv/lease/timetolive" => "LeaseTimeToLive" unary LeaseTimeToLiveRequest LeaseTimeToLiveResponse,
        "lease/leases" => "LeaseLeases" unary LeaseLeasesRequest LeaseLeasesResponse,
        "kv/lease/leases" => "LeaseLeases" unary LeaseLeasesRequest LeaseLeasesResponse,
    }
    "etcdserverpb.Cluster" {
        "cluster/member/add" => "MemberAdd" unary MemberAddRequest MemberAddResponse,
        "cluster/member/remove" => "MemberRemove" unary MemberRemoveRequest MemberRemoveResponse,
        "cluster/member/update" => "MemberUpdate" unary MemberUpdateRequest MemberUpdateResponse,
        "cluster/member/list" => "MemberList" unary MemberListRequest MemberListResponse,
        "cluster/member/promote" => "MemberPromote" unary MemberPromoteRequest MemberPromoteResponse,
    }
    "etcdserverpb.Maintenance" {
        "maintenance/alarm" => "Alarm" unary AlarmRequest AlarmResponse,
        "maintenance/status" => "Status" unary StatusRequest StatusResponse,
        "maintenance/defragment" => "Defragment" unary DefragmentRequest DefragmentResponse,
        "maintenance/hash" => "Hash" unary HashRequest HashResponse,
        "maintenance/hashkv" => "HashKV" unary HashKvRequest HashKvResponse,
        "maintenance/snapshot" => "Snapshot" stream SnapshotRequest SnapshotResponse,
        "maintenance/transfer-leadership" => "MoveLeader" unary MoveLeaderRequest MoveLeaderResponse,
        "maintenance/downgrade" => "Downgrade" unary DowngradeRequest DowngradeResponse,
    }
    "etcdserverpb.Auth" {
        "auth/enable" => "AuthEnable" unary AuthEnableRequest AuthEnableResponse,
        "auth/disable" => "AuthDisable" unary AuthDisableRequest AuthDisableResponse,
        "auth/status" => "AuthStatus" unary AuthStatusRequest AuthStatusResponse,
        "auth/authenticate" => "Authenticate" unary AuthenticateRequest AuthenticateResponse,
        "auth/user/add" => "UserAdd" unary AuthUserAddRequest AuthUserAddResponse,
        "auth/user/get" => "UserGet" unary AuthUserGetRequest AuthUserGetResponse,
        "auth/user/list" => "UserList" unary AuthUserListRequest AuthUserListResponse,
        "auth/user/delete" => "UserDelete" unary AuthUserDeleteRequest AuthUserDeleteResponse,
        "auth/user/changepw" => "UserChangePassword" unary AuthUserChangePasswordRequest AuthUserChangePasswordResponse,
        "auth/user/grant" => "UserGrantRole" unary AuthUserGrantRoleRequest AuthUserGrantRoleResponse,
        "auth/user/revoke" => "UserRevokeRole" unary AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse,
        "auth/role/add" => "RoleAdd" unary AuthRoleAddRequest AuthRoleAddResponse,
        "auth/role/get" => "RoleGet" unary AuthRoleGetRequest AuthRoleGetResponse,
        "auth/role/list" => "RoleList" unary AuthRoleListRequest AuthRoleListResponse,
        "auth/role/delete" => "RoleDelete" unary AuthRoleDeleteRequest AuthRoleDeleteResponse,
        "auth/role/grant" => "RoleGrantPermission" unary AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse,
        "auth/role/revoke" => "RoleRevokePermission" unary AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse,
    }
    "v3lockpb.Lock" {
        "lock/lock" => "Lock" unary LockRequest LockResponse,
        "lock/unlock" => "Unlock" unary UnlockRequest UnlockResponse,
    }
    "v3electionpb.Election" {
        "election/campaign" => "Campaign" unary CampaignRequest CampaignResponse,
        "election/proclaim" => "Proclaim" unary ProclaimRequest ProclaimResponse,
        "election/leader" => "Leader" unary LeaderRequest LeaderResponse,
        "election/observe" => "Observe" stream LeaderRequest LeaderResponse,
        "election/resign" => "Resign" unary ResignRequest ResignResponse,
    }
}

/// All of them as a router.
pub(super) fn all(gate: &Gate) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, route| (route.add)(router, route.path, route.method, gate));
    router.fallback(answer::not_found)
}
