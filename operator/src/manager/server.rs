//! What the kubelet and Prometheus ask: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

use super::Manager;

type Answer = (StatusCode, String);

fn when(well: bool, what: &str) -> Answer {
    if well { (StatusCode::OK, "ok\n".to_owned()) } else { (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")) }
}

pub async fn serve(listener: TcpListener, manager: Arc<Manager>) {
    let (live, ready) = (manager.clone(), manager.clone());
    let routes = Router::new()
        .route("/livez", get(async move || when(live.alive(), "the lease was not looked at for two minutes")))
        .route("/readyz", get(async move || when(ready.ready(), "not every watch has begun")))
        .route("/metrics", get(async move || manager.metrics.text()));
    if let Err(why) = axum::serve(listener, routes).await {
        tracing::error!(%why, "probes and metrics are not served any more");
    }
}
