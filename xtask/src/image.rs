//! The images to ship, as archives that need no Docker to be made: `ctr images import`, `docker load` and `podman load`
//! read them, and so does whatever takes an OCI layout in a tar.
//!
//! The same program gives the same archive, byte by byte: times are fixed and entries sorted. The Dockerfile makes the
//! same images where there is a Docker; tests hold both, the chart and the pods against each other.

mod archive;
mod tar;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::place::Place;
use crate::{build, elf};
use tar::{Entry, What};

const LIMIT: Duration = Duration::from_secs(60 * 60);
/// User and group of everything that runs: nobody's on any machine.
const USER: u32 = 65532;
/// Where programs are, as in etcd's image.
const BIN: &str = "/usr/local/bin";

#[derive(clap::Args)]
pub struct Args {
    /// The tag; v and the version where it is left out.
    #[arg(long)]
    tag: Option<String>,
    /// keepstone or keepstone-operator; both when none is given.
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// An image: one program, the other names it goes by, and nothing else.
pub struct Image {
    /// The repository, as the chart has it.
    pub repository: &'static str,
    /// The program, and the package it is built of.
    pub program: &'static str,
    /// Names that lead to the program.
    pub also: &'static [&'static str],
    pub about: &'static str,
    /// A directory that the program may write to where no volume is mounted, and where it starts.
    pub home: Option<&'static str>,
}

pub const IMAGES: &[Image] = &[
    Image {
        repository: "keepstone/keepstone",
        program: "keepstone",
        also: &["etcd"],
        about: "A replicated key-value store that every etcd client can use",
        home: Some("/var/lib/keepstone"),
    },
    Image {
        repository: "keepstone/keepstone-operator",
        program: "keepstone-operator",
        also: &["kubectl-keepstone"],
        about: "Runs keepstone clusters on Kubernetes",
        home: None,
    },
];

/// Builds the programs and writes `target/dist/NAME-ARCHITECTURE.tar`.
///
/// # Errors
/// When something does not compile, or is not static.
pub fn run(place: &Place, args: &Args) -> Result<()> {
    let wanted = chosen(&args.images)?;
    compile(place, &wanted, Instant::now() + LIMIT)?;
    let tag = args.tag.clone().unwrap_or_else(|| format!("v{}", env!("CARGO_PKG_VERSION")));
    for image in wanted {
        let (path, digest) = write(place, image, &tag)?;
        println!("{}: {}:{tag} {digest}", path.display(), image.repository);
    }
    Ok(())
}

/// Builds the programs of images.
///
/// # Errors
/// When one does not compile.
pub fn compile(place: &Place, images: &[&Image], deadline: Instant) -> Result<()> {
    let mut command = build::release_command(place);
    for image in images {
        command.args(["-p", image.program]);
    }
    crate::run::to_end(&mut command, deadline)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Image>> {
    if let Some(name) = names.iter().find(|name| !IMAGES.iter().any(|image| image.program == **name)) {
        bail!("there is no image {name}");
    }
    Ok(IMAGES.iter().filter(|image| names.is_empty() || names.iter().any(|name| name == image.program)).collect())
}

fn write(place: &Place, image: &Image, tag: &str) -> Result<(PathBuf, String)> {
    let path = place.dist().join(format!("{}-{}.tar", image.program, architecture(&place.triple)?));
    let digest = pack(place, image, &place.release(image.program), tag, &path)?;
    Ok((path, digest))
}

/// Writes the archive of an image around a program that is built, and returns the image's digest.
///
/// # Errors
/// When the program is not there, or not static.
pub fn pack(place: &Place, image: &Image, built: &Path, tag: &str, to: &Path) -> Result<String> {
    let bytes = std::fs::read(built).with_context(|| built.display().to_string())?;
    if let Some(why) = elf::not_static(&bytes)? {
        bail!("{} is not static: {why}", built.display());
    }
    let archive = archive::make(image, bytes, architecture(&place.triple)?, tag);
    std::fs::create_dir_all(to.parent().context("an archive in no directory")?)?;
    std::fs::write(to, &archive.bytes)?;
    Ok(archive.digest)
}

/// In the words of images.
fn architecture(triple: &str) -> Result<&'static str> {
    match triple.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => bail!("no image is made for {triple}"),
    }
}

impl Image {
    /// What is in it.
    fn entries(&self, program: Vec<u8>) -> Vec<Entry> {
        let mut all = vec![Entry { path: format!("{BIN}/{}", self.program), owner: 0, what: What::Program(program) }];
        let link =
            |name: &&str| Entry { path: format!("{BIN}/{name}"), owner: 0, what: What::Link(self.program.to_owned()) };
        all.extend(self.also.iter().map(link));
        all.extend(self.home.map(|home| Entry { path: home.to_owned(), owner: USER, what: What::Directory(0o700) }));
        all
    }
}

#[cfg(test)]
mod tests;
