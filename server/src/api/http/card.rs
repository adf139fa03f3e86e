//! `/keepstone/repair` on the peer URLs: POST has this member get the leader's state. Who may, has a peer's certificate.
//!
//! `/keepstone/member`: which data directory this is, and what became of a permit. For whoever gives permits; on the
//! peer URLs from the first moment on, while the member still waits for its cluster, and on the metrics URLs once it runs.

use std::sync::Arc;

use ::http::{Method, StatusCode};
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use serde::Serialize;

use super::answers::{error, get_only, json, text as text_answer};
use crate::cluster::permit::hex;
use crate::cluster::reception::FrontDesk;
use crate::cluster::repair;
use crate::version;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Card {
    name: String,
    /// What a permit names the directory with.
    directory: String,
    /// "waiting" as long as there is no cluster, then "member".
    state: &'static str,
    /// Of this program; `/version` has etcd's, as which it behaves.
    version: &'static str,
    /// In hexadecimal.
    #[serde(rename = "memberID", skip_serializing_if = "Option::is_none")]
    member_id: Option<String>,
    #[serde(rename = "clusterID", skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    /// The nonce of the last permit that this directory used.
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<String>,
    /// The nonce of the last permit that the cluster knows of, as far as this member has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_permit: Option<String>,
}

fn text(nonce: &[u8]) -> Option<String> {
    (!nonce.is_empty()).then(|| String::from_utf8_lossy(nonce).into_owned())
}

fn card(name: String, desk: &FrontDesk) -> Card {
    let passport = desk.passport();
    let cluster_permit = desk.member().and_then(|ctx| ctx.core.state.read().members().permit().and_then(text));
    Card {
        name,
        directory: hex(&passport.incarnation),
        state: if passport.settled { "member" } else { "waiting" },
        version: version::KEEPSTONE,
        member_id: passport.identity.map(|identity| format!("{:x}", identity.member_id.0)),
        cluster_id: passport.identity.map(|identity| format!("{:x}", identity.cluster_id)),
        permit: text(&passport.permit),
        cluster_permit,
    }
}

/// The route. `name` is the member's.
pub fn router(name: &str, desk: &Arc<FrontDesk>) -> Router {
    let (name, desk) = (name.to_owned(), desk.clone());
    let answer = move |request: Request| {
        let answer: Response = get_only(&request).unwrap_or_else(|| {
            let card = card(name.clone(), &desk);
            json(serde_json::to_string(&card).expect("strings are JSON") + "\n")
        });
        std::future::ready(answer)
    };
    Router::new().route("/keepstone/member", any(answer))
}

/// The route that repairs, for those who may do what members do.
pub fn repair_router(desk: &Arc<FrontDesk>) -> Router {
    let desk = desk.clone();
    let answer = move |request: Request| {
        let ctx = desk.member().cloned();
        async move {
            if request.method() != Method::POST {
                return error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            }
            let Some(ctx) = ctx else { return error(StatusCode::SERVICE_UNAVAILABLE, "this member is starting") };
            match repair::order(&ctx, ctx.core.identity.member_id).await {
                Ok(()) => text_answer(StatusCode::OK, "repaired\n".to_owned()),
                Err(why) => error(StatusCode::CONFLICT, &why),
            }
        }
    };
    Router::new().route("/keepstone/repair", any(answer))
}
