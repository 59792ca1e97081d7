//! What defines a job on disk: a property list, or the files of a unit. The last ones that worked are kept,
//! and put back where new ones do not work.

use crate::service::job::Job;
use crate::sys::{digest, file, trust};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is added to the name of a file that did not work.
const REJECTED: &str = ".rejected";

/// What defines one job.
#[derive(Clone, Debug)]
pub enum Definition {
    /// A launchd property list.
    Plist(Box<Job>),
    /// The files of a unit of systemd.
    Units(UnitFiles),
    /// A file that others are defined by too: nothing of it is kept.
    Elsewhere,
}

impl Definition {
    /// What the definition is told apart by: the SHA-256 of its files.
    pub fn hash(&self) -> Option<String> {
        match self {
            Definition::Plist(job) => Some(digest::sha256(&job.bytes)),
            Definition::Units(units) => Some(units.hash()),
            Definition::Elsewhere => None,
        }
    }

    /// The property list.
    pub fn job(&self) -> Option<&Job> {
        if let Definition::Plist(job) = self { Some(job) } else { None }
    }
}

/// The files of a unit, with all that is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFiles(BTreeMap<PathBuf, String>);

impl UnitFiles {
    /// The size that all of them may have together.
    pub const LIMIT: u64 = 4 * 1024 * 1024;

    /// Reads them; `None` where there are none, or one cannot be read or is not text: then nothing is kept.
    pub fn read(paths: &[PathBuf]) -> Option<UnitFiles> {
        let one = |path: &PathBuf| {
            let text = String::from_utf8(file::read(path, UnitFiles::LIMIT / 8).ok()?).ok()?;
            Some((path.clone(), text))
        };
        let files: Option<BTreeMap<PathBuf, String>> = paths.iter().map(one).collect();
        files.filter(|files| !files.is_empty()).map(UnitFiles)
    }

    /// Their paths.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.keys()
    }

    /// The SHA-256 of their paths and contents.
    pub fn hash(&self) -> String {
        let mut all = Vec::new();
        for (path, text) in &self.0 {
            all.extend_from_slice(path.as_os_str().as_encoded_bytes());
            all.push(0);
            all.extend_from_slice(text.as_bytes());
            all.push(0);
        }
        digest::sha256(&all)
    }

    /// Puts these in the place of `now`. Each file that differs is kept beside its place; returns where the
    /// first of them is.
    ///
    /// # Errors
    /// As `put_back`.
    pub fn put_back(&self, now: &UnitFiles) -> Result<PathBuf> {
        let mut rejected = None;
        for (path, text) in &self.0 {
            if now.0.get(path) != Some(text) {
                rejected = rejected.or(Some(put_back(path, text.as_bytes())?));
            }
        }
        for path in now.0.keys().filter(|path| !self.0.contains_key(*path)) {
            let beside = beside(path);
            trust::way(path)
                .and_then(|_| std::fs::rename(path, &beside))
                .map_err(|cause| Error::io(format!("cannot set '{}' aside", path.display()), &cause))?;
            rejected = rejected.or(Some(beside));
        }
        rejected.ok_or_else(|| Error::bug("unit files that differ in nothing"))
    }
}

/// Where a file that did not work is kept.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(REJECTED);
    PathBuf::from(name)
}

/// Puts `bytes` in the place of the file at `path`, which is kept beside it; returns where.
///
/// # Errors
/// 74, 77. Nothing is lost: the file that did not work is kept before its place is taken. A file that another
/// user could have put there, or a link, is left alone.
pub fn put_back(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let cannot = |cause: std::io::Error| {
        Error::io(format!("cannot put the last version that worked back as '{}'", path.display()), &cause)
    };
    trust::way(path).map_err(cannot)?;
    let found = std::fs::symlink_metadata(path);
    if found.as_ref().is_ok_and(|found| !found.is_file()) {
        let why = format!("'{}' is no regular file, and is left as it is", path.display());
        return Err(Error::new(Status::BadConfig, why));
    }
    let beside = beside(path);
    let mode = found.as_ref().map_or(0o644, |found| found.permissions().mode() & 0o7777);
    if found.is_ok() {
        let bad = file::read(path, u64::MAX - 1).map_err(cannot)?;
        file::replace(&beside, &bad, mode).map_err(cannot)?;
    }
    file::replace(path, bytes, mode).map_err(cannot)?;
    Ok(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_work_is_kept_beside_what_did() {
        let room = tempfile::tempdir().unwrap();
        let (unit, drop_in) = (room.path().join("a.service"), room.path().join("b.conf"));
        std::fs::write(&unit, "old").unwrap();
        let old = UnitFiles::read(std::slice::from_ref(&unit)).unwrap();
        std::fs::write(&unit, "new").unwrap();
        std::fs::write(&drop_in, "more").unwrap();
        let new = UnitFiles::read(&[unit.clone(), drop_in.clone()]).unwrap();
        assert_ne!(old.hash(), new.hash());
        let rejected = old.put_back(&new).unwrap();
        assert_eq!(rejected, room.path().join("a.service.rejected"));
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&unit), read(&rejected)), ("old".to_owned(), "new".to_owned()));
        assert!(!drop_in.exists());
        assert_eq!(read(&room.path().join("b.conf.rejected")), "more");
        assert_eq!(UnitFiles::read(&[unit]), Some(old));
    }

    #[test]
    fn a_link_is_left_alone() {
        let room = tempfile::tempdir().unwrap();
        let (file, link) = (room.path().join("file"), room.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(put_back(&link, b"y").unwrap_err().status, Status::BadConfig);
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
        assert!(!room.path().join("link.rejected").exists());
    }
}
