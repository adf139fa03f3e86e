//! `/debug/vars`: what Go's expvar shows of a process, for tools that read it from etcd.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::answers;
use crate::metrics::{Observed, Process};

/// Command line, file descriptors, memory, Raft. There is no garbage collector: what its fields would say is left out or 0,
/// and memory is what the kernel counts as resident.
pub(super) fn answer(observed: &Observed) -> Response {
    let process = Process::read();
    let resident = process.resident_bytes.unwrap_or(0);
    let cmdline: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let memstats = json!({
        "Alloc": resident,
        "TotalAlloc": resident,
        "Sys": process.virtual_bytes.unwrap_or(0),
        "Mallocs": 0,
        "Frees": 0,
        "HeapAlloc": resident,
        "HeapSys": resident,
        "HeapIdle": 0,
        "HeapInuse": resident,
        "HeapReleased": 0,
        "HeapObjects": 0,
        "NextGC": 0,
        "LastGC": 0,
        "PauseTotalNs": 0,
        "NumGC": 0,
        "EnableGC": false,
    });
    let raft = json!({
        "id": format!("{:x}", observed.member_id),
        "commit": observed.committed,
        "applied": observed.applied,
        "raftState": if observed.is_leader { "StateLeader" } else { "StateFollower" },
    });
    let body = format!(
        "{{\n\"cmdline\": {},\n\"file_descriptor_limit\": {},\n\"memstats\": {memstats},\n\"raft.status\": {raft}\n}}\n",
        json!(cmdline),
        process.fd_limit.unwrap_or(0),
    );
    answers::answer(StatusCode::OK, "application/json; charset=utf-8", Body::from(body))
}
