//! Answers as grpc-gateway gives them: JSON bodies, and the HTTP status that belongs to a gRPC code.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::{Code, Status};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What the gateway passes on of the inner call's headers.
const INNER: (HeaderName, HeaderValue) =
    (HeaderName::from_static("grpc-metadata-content-type"), HeaderValue::from_static("application/grpc"));

#[derive(Serialize)]
struct Failure<'a> {
    code: i32,
    message: &'a str,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: Failure<'a>,
}

#[derive(Serialize)]
struct Item<T> {
    result: T,
}

fn with(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// A message, or a stream of them, that a service gave.
pub(super) fn success(body: Body) -> Response {
    let mut response = with(StatusCode::OK, body);
    response.headers_mut().insert(INNER.0, INNER.1);
    response
}

/// A stream that ended before its first message.
pub(super) fn nothing() -> Response {
    Response::new(Body::from_stream(futures_util::stream::empty::<Result<bytes::Bytes, Status>>()))
}

/// A call that failed before anything was sent.
pub(super) fn failure(status: &Status) -> Response {
    failed(status, &Failure { code: status.code() as i32, message: status.message() }, "")
}

/// The same of a call that would have answered with a stream.
pub(super) fn stream_failure(status: &Status) -> Response {
    failed(status, &Failed { error: Failure { code: status.code() as i32, message: status.message() } }, "\n")
}

fn failed(status: &Status, body: &impl Serialize, end: &str) -> Response {
    let body = serde_json::to_string(body).expect("numbers and strings are JSON");
    let mut response = with(http_status(status.code()), Body::from(body + end));
    if status.code() == Code::Unauthenticated
        && let Ok(why) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, why);
    }
    response
}

/// One line of a stream.
pub(super) fn line<T: Serialize>(item: Result<T, Status>) -> Result<Vec<u8>, Status> {
    let mut line = match item {
        Ok(result) => serde_json::to_vec(&Item { result }),
        Err(status) => {
            let error = Failure { code: status.code() as i32, message: status.message() };
            serde_json::to_vec(&Failed { error })
        }
    }
    .map_err(|error| Status::internal(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

pub(super) async fn not_found() -> Response {
    failure(&Status::not_found("Not Found"))
}

/// A known path, but not called with POST.
pub(super) fn wrong_method() -> Response {
    failure(&Status::unimplemented("Method Not Allowed"))
}

fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    };
    StatusCode::from_u16(number).expect("a status of three digits")
}
