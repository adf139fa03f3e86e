//! An image as an archive: an OCI layout in a tar, with the index that Docker reads beside it.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tar::{self, Entry, What};
use super::{BIN, Image, USER};

/// Nothing in an image has a time of its own.
const EPOCH: &str = "1970-01-01T00:00:00Z";

pub struct Archive {
    pub bytes: Vec<u8>,
    /// Of the image's manifest: what a registry would know it by.
    pub digest: String,
}

struct Blob {
    kind: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(kind: &'static str, bytes: Vec<u8>) -> Self {
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { kind, digest: format!("sha256:{hex}"), bytes }
    }

    fn json(kind: &'static str, value: &Value) -> Self {
        Self::new(kind, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.kind, "digest": self.digest, "size": self.bytes.len() })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

pub fn make(image: &Image, program: Vec<u8>, architecture: &str, tag: &str) -> Archive {
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", tar::write(image.entries(program)));
    let config = Blob::json("application/vnd.oci.image.config.v1+json", &config(image, architecture, tag, &layer));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    });
    let manifest = Blob::json("application/vnd.oci.image.manifest.v1+json", &manifest);
    let mut descriptor = manifest.descriptor();
    descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
    descriptor["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/{}:{tag}", image.repository),
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    });
    let docker = json!([{
        "Config": config.path(),
        "RepoTags": [format!("{}:{tag}", image.repository)],
        "Layers": [layer.path()],
    }]);
    let file = |path: &str, bytes: Vec<u8>| Entry { path: path.to_owned(), owner: 0, what: What::File(bytes) };
    let digest = manifest.digest.clone();
    let mut entries = vec![
        file("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()),
        file("index.json", index.to_string().into_bytes()),
        file("manifest.json", docker.to_string().into_bytes()),
    ];
    entries.extend([layer, config, manifest].map(|blob| file(&blob.path(), blob.bytes)));
    Archive { bytes: tar::write(entries), digest }
}

fn config(image: &Image, architecture: &str, tag: &str, layer: &Blob) -> Value {
    json!({
        "created": EPOCH,
        "architecture": architecture,
        "os": "linux",
        "config": {
            // By number: a kubelet can't tell that a name is not root's.
            "User": format!("{USER}:{USER}"),
            "Env": [format!("PATH={BIN}")],
            "Entrypoint": [format!("{BIN}/{}", image.program)],
            "WorkingDir": image.home.unwrap_or("/"),
            "Labels": {
                "org.opencontainers.image.description": image.about,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.title": image.program,
                "org.opencontainers.image.version": tag,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        "history": [{ "created": EPOCH, "created_by": "cargo xtask image" }],
    })
}
