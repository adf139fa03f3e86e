//! Where backups lie: a bucket or a directory, behind one trait. Nothing here knows what a backup is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keepstone_operator_api::backup::{S3Store, Store};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::{Certificate, ClientOptions, ObjectStore};

/// One request, with the part of a file that goes with it.
const REQUEST: Duration = Duration::from_secs(120);

/// Where the agent finds what its Job mounts.
#[derive(Debug, Clone)]
pub struct Mounts {
    /// `tls.crt` and `tls.key` that members are shown.
    pub tls: PathBuf,
    /// `ca.crt` that members are trusted by.
    pub ca: PathBuf,
    /// `ca.crt` that the store is trusted by.
    pub store_ca: PathBuf,
    /// The volume, for stores that are one.
    pub volume: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store is neither a bucket nor a volume")]
    Neither,
    #[error("{path}: {why}")]
    File { path: String, why: String },
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// Opens it; nothing is asked of it yet.
///
/// # Errors
/// Its description, the credentials or the CA are of no use.
pub fn open(store: &Store, mounts: &Mounts) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match (&store.s3, &store.pvc) {
        (Some(s3), None) => bucket(s3, &mounts.store_ca),
        (None, Some(_)) => {
            let directory = LocalFileSystem::new_with_prefix(&mounts.volume)?;
            // What is reported is on the disk.
            Ok(Arc::new(directory.with_fsync(true)))
        }
        _ => Err(StoreError::Neither),
    }
}

/// For people, and for whoever restores by hand.
#[must_use]
pub fn uri(store: &Store, key: &str) -> String {
    match (&store.s3, &store.pvc) {
        (Some(s3), _) => format!("s3://{}/{key}", s3.bucket),
        (None, Some(pvc)) => match &pvc.sub_path {
            Some(path) => format!("pvc://{}/{path}/{key}", pvc.claim_name),
            None => format!("pvc://{}/{key}", pvc.claim_name),
        },
        (None, None) => key.to_owned(),
    }
}

/// Credentials come from the environment: the Job's from its Secret, or those of the pod's identity.
fn bucket(s3: &S3Store, ca: &Path) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_virtual_hosted_style_request(!s3.force_path_style);
    if let Some(endpoint) = &s3.endpoint {
        // A server without encryption was asked for in so many letters. It never gets the credentials themselves, only what
        // they sign.
        builder = builder.with_endpoint(endpoint);
    }
    let plain = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new().with_allow_http(plain).with_timeout(REQUEST);
    // The image has no CAs: those that all the world trusts come with the program.
    options = options.with_no_system_certificates(true);
    for certificate in authorities(s3.ca_secret_ref.is_some().then_some(ca))? {
        options = options.with_root_certificate(certificate);
    }
    Ok(Arc::new(builder.with_client_options(options).build()?))
}

fn authorities(own: Option<&Path>) -> Result<Vec<Certificate>, StoreError> {
    let Some(path) = own else {
        let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        return Ok(public.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>()?);
    };
    let fail = |why: String| StoreError::File { path: path.display().to_string(), why };
    let pem = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let all = Certificate::from_pem_bundle(&pem).map_err(|error| fail(error.to_string()))?;
    if all.is_empty() { Err(fail("there is no certificate in it".to_owned())) } else { Ok(all) }
}
