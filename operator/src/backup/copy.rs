//! Copies whole directories, for what is saved before a volume is given up: every file to the disk before it counts.
//! It follows no link, and never writes over a copy that is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub struct CopyError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// Copies each directory into one of its own name below `into`. One that is not there is left out; false where none was.
///
/// # Errors
/// The first file or directory that could not be read or written.
pub fn all(from: &[String], into: &Path) -> Result<bool, CopyError> {
    let mut found = false;
    for dir in from.iter().map(Path::new) {
        let wrap = |source| CopyError { path: dir.to_path_buf(), source };
        let Some(name) = dir.file_name() else {
            return Err(wrap(io::Error::new(io::ErrorKind::InvalidInput, "it has no name")));
        };
        match fs::symlink_metadata(dir) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(wrap(io::ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(wrap(error)),
        }
        directory(dir, &into.join(name))?;
        found = true;
    }
    sync(into)?;
    Ok(found)
}

fn directory(from: &Path, to: &Path) -> Result<(), CopyError> {
    let wrap = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CopyError { path, source }
    };
    fs::create_dir_all(to).map_err(wrap(to))?;
    for entry in fs::read_dir(from).map_err(wrap(from))? {
        let entry = entry.map_err(wrap(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(wrap(&source))?;
        if kind.is_dir() {
            directory(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(wrap(&source))?;
            sync(&target)?;
        }
    }
    sync(to)
}

fn sync(path: &Path) -> Result<(), CopyError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| CopyError { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_copied_whole_and_again_after_a_crash() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, into) = (dir.path().join("member"), dir.path().join("saved"));
        fs::create_dir_all(from.join("log/deep")).expect("made");
        fs::create_dir(&into).expect("made");
        fs::write(from.join("log/deep/1"), [7; 5000]).expect("written");
        fs::write(from.join("store"), "s").expect("written");
        let names = [from.display().to_string(), dir.path().join("wal").display().to_string()];
        for _ in 0..2 {
            assert!(all(&names, &into).expect("copied"));
            assert_eq!(fs::read(into.join("member/log/deep/1")).expect("there"), [7; 5000]);
            assert_eq!(fs::read(into.join("member/store")).expect("there"), b"s");
        }
        assert!(!all(&names[1..], &into).expect("nothing there"));
        assert!(all(&[into.join("member/store").display().to_string()], &into).is_err(), "no directory");
    }
}
