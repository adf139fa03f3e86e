//! `crdgen DIR` writes the CRDs; `crdgen DIR --check` says whether what is there is what would be written.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use keepstone_operator_api::crd;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [dir] => write(Path::new(dir)),
        [dir, "--check"] => check(Path::new(dir)),
        _ => Err("usage: crdgen DIR [--check]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("crdgen: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Also removes CRDs of kinds that are no more.
fn write(dir: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let files = crd::files()?;
    for name in there(dir)? {
        if !files.iter().any(|(known, _)| *known == name) {
            fs::remove_file(dir.join(name))?;
        }
    }
    for (name, text) in files {
        fs::write(dir.join(name), text)?;
    }
    Ok(())
}

fn check(dir: &Path) -> Result<(), Box<dyn Error>> {
    let files = crd::files()?;
    let mut wrong: Vec<String> =
        there(dir)?.into_iter().filter(|name| !files.iter().any(|(known, _)| known == name)).collect();
    for (name, text) in files {
        if fs::read_to_string(dir.join(&name)).unwrap_or_default() != text {
            wrong.push(name);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{} differ: run `cargo xtask crds`", wrong.join(", ")).into())
}

/// The names of the files that are there.
fn there(dir: &Path) -> Result<Vec<String>, std::io::Error> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
