//! The JSON gateway: every gRPC method under `/v3`, as JSON over HTTP/1 or HTTP/2.
//!
//! A call goes through the same door as a gRPC client's ([`Grpc::call`]), in this process: the same services, limits,
//! codes and counters. The gateway only translates; it knows no method's meaning.

mod answer;
mod call;
mod json;
mod routes;
mod split;
mod timeout;
mod websocket;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::any;
use http::{StatusCode, header};
use tower::ServiceExt as _;

use super::grpc::Grpc;
use super::watch::GRPC_OVERHEAD_BYTES;
use call::Gate;

/// How much larger than its message a JSON text may be: small numbers and names take several times their bytes.
const JSON_BYTES_PER_BYTE: usize = 8;

/// Every path under `/v3`. `max_request_bytes` is the limit of one request's message, in bytes.
pub fn router(grpc: &Arc<Grpc>, max_request_bytes: usize) -> Router {
    let limit = JSON_BYTES_PER_BYTE * (max_request_bytes + GRPC_OVERHEAD_BYTES);
    let methods = routes::all(&Gate::new(grpc.clone(), limit));
    let entry = move |request: Request| enter(methods.clone(), limit, request);
    Router::new().route("/v3", any(moved)).route("/v3/", any(entry.clone())).route("/v3/{*method}", any(entry))
}

async fn moved() -> impl axum::response::IntoResponse {
    let text = Html("<a href=\"/v3/\">Temporary Redirect</a>.\n\n");
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/v3/")], text)
}

/// Anything under `/v3/`, called plainly or as a websocket.
async fn enter(methods: Router, limit: usize, request: Request) -> Response {
    if websocket::is_wanted(&request) {
        return websocket::bridge(methods, limit, request).await.into_response();
    }
    methods.oneshot(request).await.unwrap_or_else(|never| match never {})
}
