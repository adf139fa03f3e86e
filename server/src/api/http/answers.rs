//! Answers as Go's `net/http` makes them.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

const NOSNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Text that a browser must not take for anything else.
pub(super) fn text(status: StatusCode, body: String) -> Response {
    let mut response = answer(status, TEXT, Body::from(body));
    response.headers_mut().insert(NOSNIFF.0, NOSNIFF.1);
    response
}

/// An error: its text and a line feed.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    text(status, format!("{message}\n"))
}

pub(super) fn json(body: String) -> Response {
    answer(StatusCode::OK, "application/json", Body::from(body))
}

pub(super) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// The refusal of anything but GET; HEAD is refused too.
pub(super) fn get_only(request: &Request) -> Option<Response> {
    if request.method() == Method::GET {
        return None;
    }
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    Some(response)
}

/// The pairs of a request's query; none if it can't be read.
pub(super) fn query(request: &Request) -> Vec<(String, String)> {
    axum::extract::Query::try_from_uri(request.uri()).map(|axum::extract::Query(pairs)| pairs).unwrap_or_default()
}
