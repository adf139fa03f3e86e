//! Where things are: the checkout, and what is built from it. Everything made goes below the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

pub struct Place {
    pub root: PathBuf,
    target: PathBuf,
    /// The compiler's own target triple. A static build must name it: only then do flags spare build scripts.
    pub triple: String,
}

impl Place {
    /// # Errors
    /// When this is not run by cargo in a checkout, or there is no rustc.
    pub fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run me as `cargo xtask`")?;
        let root = Path::new(&manifest).parent().context("xtask is not in a checkout")?.to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let said = Command::new("rustc").arg("-vV").output().context("no rustc")?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let triple = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        Ok(Self { root, target, triple: triple.to_owned() })
    }

    /// A program or library of the development build.
    pub fn dev(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }

    /// A program of `cargo build --release`.
    pub fn optimized(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// Members that a person runs.
    pub fn cluster(&self) -> PathBuf {
        self.target.join("cluster")
    }

    /// A program of the static release build.
    pub fn release(&self, name: &str) -> PathBuf {
        self.target.join(&self.triple).join("release").join(name)
    }

    /// etcd, etcdctl, etcdutl and etcd's compiled tests.
    pub fn etcd_tools(&self) -> PathBuf {
        self.target.join("etcd-tools")
    }

    /// A kube-apiserver.
    pub fn kube_tools(&self) -> PathBuf {
        self.target.join("kube-tools")
    }

    /// An S3 server.
    pub fn s3_tools(&self) -> PathBuf {
        self.target.join("s3-tools")
    }

    /// Programs that are installed for the tests.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The end-to-end tests: their programs, images and cluster.
    pub fn e2e(&self) -> PathBuf {
        self.target.join("e2e")
    }

    pub fn dist(&self) -> PathBuf {
        self.target.join("dist")
    }

    /// Data directories of measurements: on the disk that the checkout is on, never on a tmpfs.
    pub fn bench(&self) -> PathBuf {
        self.target.join("bench")
    }

    pub fn conformance(&self) -> PathBuf {
        self.root.join("tests/conformance")
    }
}
