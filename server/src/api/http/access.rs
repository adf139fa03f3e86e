//! Who may call over HTTP, and what a browser is told about it. Goes before the routes, because it may change the
//! path.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tower::ServiceExt;

use super::answers::error;
use crate::config::Allowed;
use crate::tls::Connection;

/// The settings this obeys.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) hosts: Allowed,
    pub(super) origins: Allowed,
}

/// Puts the rules before a router.
pub(super) fn guard(rules: Rules, router: Router) -> Router {
    Router::new().fallback_service(tower::service_fn(move |request: Request| {
        let (rules, router) = (rules.clone(), router.clone());
        async move { Ok::<_, Infallible>(rules.serve(request, router).await) }
    }))
}

impl Rules {
    async fn serve(&self, mut request: Request, router: Router) -> Response {
        let host = host(&request);
        // A certificate proves whom the client meant; a rebound name has none.
        let secure = request.extensions().get::<Connection>().is_some_and(|connection| connection.secure);
        if !secure && !self.hosts.admits(&host) {
            tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
            return error(StatusCode::MISDIRECTED_REQUEST, &unrecognized(&host));
        }
        let allowed = self.allowed_origin(&request);
        let mut response = if request.method() == Method::OPTIONS {
            Response::new(Body::empty())
        } else {
            modernize(&mut request);
            router.oneshot(request).await.unwrap_or_else(|never| match never {})
        };
        if let Some(origin) = allowed {
            let headers = response.headers_mut();
            let text = HeaderValue::from_static;
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, text("POST, GET, OPTIONS, PUT, DELETE"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, text("accept, content-type, authorization"));
        }
        response
    }

    fn allowed_origin(&self, request: &Request) -> Option<HeaderValue> {
        if self.origins == Allowed::Everyone {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.headers().get(header::ORIGIN)?;
        self.origins.admits(origin.to_str().ok()?).then(|| origin.clone())
    }
}

/// The host a request names, without its port.
fn host(request: &Request) -> String {
    let of_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = of_header.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    without_port(named.unwrap_or_default()).to_owned()
}

/// `localhost` of `localhost:2379`, `::1` of `[::1]:2379`; what is neither stays as it is.
fn without_port(host: &str) -> &str {
    if let Some((inside, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return if port.starts_with(':') { inside } else { host };
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// The gateway's prefix before etcd 3.4 still works.
fn modernize(request: &mut Request) {
    let Some(rest) = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix("/v3beta/")) else {
        return;
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("/v3/{rest}").parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// What etcd says, so that what is searched for on the web is found.
fn unrecognized(host: &str) -> String {
    format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
           - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_left_off() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("localhost:2379", "localhost"),
            ("localhost.:2379", "localhost."),
            ("127.0.0.1:2379", "127.0.0.1"),
            ("[::1]:2379", "::1"),
            ("[::1]", "[::1]"),
            ("localhost:::::", "localhost:::::"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name, "{host}");
        }
    }

    #[test]
    fn the_old_prefix_keeps_its_query() {
        let mut request =
            Request::builder().uri("http://h/v3beta/kv/range?a=b").body(Body::empty()).expect("a request");
        modernize(&mut request);
        assert_eq!(request.uri(), "http://h/v3/kv/range?a=b");
        let mut request = Request::builder().uri("/v3betas").body(Body::empty()).expect("a request");
        modernize(&mut request);
        assert_eq!(request.uri(), "/v3betas");
    }
}
