//! `crdgen ROOT` writes what is made of the API into a checkout; `crdgen ROOT --check` says whether it is there already.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use keepstone_operator_api::{crd, reference};

/// Where the CRDs go; the chart has to carry its own. Nothing else may be in there.
const CRDS: &[&str] = &["crds", "charts/keepstone-operator/files/crds"];
const REFERENCE: &str = "docs/api.md";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [root] => write(Path::new(root)),
        [root, "--check"] => check(Path::new(root)),
        _ => Err("usage: crdgen ROOT [--check]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("crdgen: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Paths below the root, and contents.
fn outputs() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let crds = crd::files()?;
    let mut all = vec![(REFERENCE.to_owned(), reference::markdown())];
    for dir in CRDS {
        all.extend(crds.iter().map(|(name, text)| (format!("{dir}/{name}"), text.clone())));
    }
    Ok(all)
}

/// Files that are there, of kinds that are no more.
fn stale(root: &Path, outputs: &[(String, String)]) -> Result<Vec<String>, Box<dyn Error>> {
    let mut all = Vec::new();
    for dir in CRDS.iter().filter(|dir| root.join(dir).exists()) {
        for entry in fs::read_dir(root.join(dir))? {
            all.push(format!("{dir}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    all.retain(|path| !outputs.iter().any(|(known, _)| known == path));
    Ok(all)
}

fn write(root: &Path) -> Result<(), Box<dyn Error>> {
    let outputs = outputs()?;
    for path in stale(root, &outputs)? {
        fs::remove_file(root.join(path))?;
    }
    for (path, text) in outputs {
        let path = root.join(path);
        fs::create_dir_all(path.parent().ok_or("no directory")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

fn check(root: &Path) -> Result<(), Box<dyn Error>> {
    let outputs = outputs()?;
    let mut wrong = stale(root, &outputs)?;
    for (path, text) in outputs {
        if fs::read_to_string(root.join(&path)).unwrap_or_default() != text {
            wrong.push(path);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{} differ: run `cargo xtask crds`", wrong.join(", ")).into())
}
