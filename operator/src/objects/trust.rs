//! The ConfigMap with the CAs: what members trust clients by, and clients members. It holds no secret, and is written last
//! whenever the CAs change, so that it tells what everybody else has already been given.

use k8s_openapi::api::core::v1::ConfigMap;
use keepstone_operator_plan::ids::Time;

use crate::Blueprint;
use crate::objects::mounts::CA_KEY;
use crate::pki::{self, Bundle};

/// When the CAs of the cluster itself last changed, in seconds since 1970.
const SINCE_ANNOTATION: &str = "keepstone.io/since";
/// The cluster's own CAs; `ca.crt` has the user's besides.
const OWN_KEY: &str = "own.crt";

/// `extra` is the PEM of the user's `caBundleSecret`.
#[must_use]
pub fn build(b: &Blueprint, bundle: &Bundle, extra: Option<&str>, since: Time) -> ConfigMap {
    let own = bundle.to_pem();
    let all = match extra.map(str::trim).filter(|extra| !extra.is_empty()) {
        Some(extra) => format!("{own}{extra}\n"),
        None => own.clone(),
    };
    let mut metadata = b.metadata(b.names.trust());
    metadata.annotations = Some([(SINCE_ANNOTATION.to_owned(), since.0.to_string())].into());
    let data = [(CA_KEY.to_owned(), all), (OWN_KEY.to_owned(), own)].into();
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

/// The cluster's own CAs, and since when it has been those.
///
/// # Errors
/// There is something in it that is no certificate.
pub fn read(map: &ConfigMap) -> Result<(Bundle, Option<Time>), pki::Error> {
    let own = map.data.as_ref().and_then(|data| data.get(OWN_KEY)).map_or("", String::as_str);
    let since = map.metadata.annotations.as_ref().and_then(|all| all.get(SINCE_ANNOTATION));
    Ok((Bundle::from_pem(own)?, since.and_then(|text| text.parse().ok()).map(Time)))
}
