//! What defines a job on disk: a property list, or the files of a unit. The last ones that worked are kept,
//! and put back where new ones do not work.

use crate::service::job::Job;
use crate::sys::{digest, file, trust};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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

    /// Puts these in the place of `now` and has the manager read them (`reread`): all of it or nothing. Each
    /// file that differs is kept beside its place; returns where.
    ///
    /// # Errors
    /// As `put_back`; those of `reread`.
    pub fn put_back(&self, now: &UnitFiles, reread: &dyn Fn() -> Result<()>) -> Result<Vec<PathBuf>> {
        let changed = |path: &&PathBuf| self.0.get(*path) != now.0.get(*path);
        let paths: BTreeSet<&PathBuf> = self.0.keys().chain(now.0.keys()).filter(changed).collect();
        let changes: Vec<Change<'_>> = paths
            .into_iter()
            .map(|path| {
                Change::of(
                    path,
                    now.0.get(path).map(String::as_bytes),
                    self.0.get(path).map(String::as_bytes),
                )
            })
            .collect();
        for change in &changes {
            change.check()?;
        }
        let mut rejected = Vec::new();
        for (done, change) in changes.iter().enumerate() {
            match change.make() {
                Ok(beside) => rejected.extend(beside),
                Err(error) => {
                    changes[..done].iter().rev().for_each(Change::undo);
                    return Err(error);
                }
            }
        }
        reread().inspect_err(|_| changes.iter().rev().for_each(Change::undo))?;
        Ok(rejected)
    }
}

/// What becomes of one file that did not work.
struct Change<'a> {
    path: &'a Path,
    /// What was in it when it was tried; `None` where it was not there.
    tested: Option<&'a [u8]>,
    /// What comes in its place; `None` where it goes.
    kept: Option<&'a [u8]>,
    /// Who may read it then. One that is not for everybody stays so; of one that was refused for it, the mode
    /// of the kept one counts.
    mode: u32,
}

impl<'a> Change<'a> {
    fn of(path: &'a Path, tested: Option<&'a [u8]>, kept: Option<&'a [u8]>) -> Change<'a> {
        Change { path, tested, kept, mode: file::mode(path, 0o644) }
    }

    fn cannot(&self, cause: &std::io::Error) -> Error {
        Error::io(format!("cannot put the last version that worked back as '{}'", self.path.display()), cause)
    }

    /// Whether it can be made.
    fn check(&self) -> Result<()> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        // The directory of a drop-in may have gone with the last of them.
        let way = if parent.is_dir() { self.path } else { parent };
        trust::way(way).map_err(|cause| self.cannot(&cause))?;
        let found = std::fs::symlink_metadata(self.path);
        if found.as_ref().is_ok_and(|found| !found.is_file()) {
            let why = format!("'{}' is no regular file, and is left as it is", self.path.display());
            return Err(Error::new(Status::BadConfig, why));
        }
        let now = found.is_ok().then(|| file::read(self.path, u64::MAX - 1)).transpose();
        if now.map_err(|cause| self.cannot(&cause))?.as_deref() != self.tested {
            // Somebody's next version, which nobody has tried.
            let why = format!("'{}' has been changed since, and is left as it is", self.path.display());
            return Err(Error::new(Status::Busy, why));
        }
        Ok(())
    }

    /// Makes it; returns where the file is kept that did not work.
    fn make(&self) -> Result<Option<PathBuf>> {
        let beside = beside(self.path);
        let rejected = match self.tested {
            Some(tested) => {
                file::replace(&beside, tested, file::mode(self.path, self.mode))
                    .map_err(|cause| self.cannot(&cause))?;
                Some(beside)
            }
            None => None,
        };
        self.put(self.kept).map_err(|cause| self.cannot(&cause))?;
        Ok(rejected)
    }

    /// As far as it can be undone; what was tested is kept beside it still.
    fn undo(&self) {
        let _ = self.put(self.tested);
    }

    fn put(&self, bytes: Option<&[u8]>) -> std::io::Result<()> {
        match bytes {
            Some(bytes) => {
                if let Some(parent) = self.path.parent()
                    && !parent.exists()
                {
                    std::fs::create_dir(parent)?;
                    std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755))?;
                }
                file::replace(self.path, bytes, self.mode)
            }
            None if self.path.exists() => std::fs::remove_file(self.path),
            None => Ok(()),
        }
    }
}

/// Where a file that did not work is kept.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(REJECTED);
    PathBuf::from(name)
}

/// Puts `kept` with `mode` in the place of the file at `path`, which was `tested` and is kept beside it;
/// returns where.
///
/// # Errors
/// 74, 77; 78 for a link, 75 where it is another file by now. Nothing is lost: the file that did not work is
/// kept before its place is taken. A file that another user could have put there is left alone.
pub fn put_back(path: &Path, tested: &[u8], kept: &[u8], mode: u32) -> Result<Vec<PathBuf>> {
    let change = Change { mode, ..Change::of(path, Some(tested), Some(kept)) };
    change.check()?;
    Ok(change.make()?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> Result<()> {
        Ok(())
    }

    #[test]
    fn files_that_the_manager_does_not_read_stay_as_they_were() {
        let room = tempfile::tempdir().unwrap();
        let (unit, drop_in) = (room.path().join("a.service"), room.path().join("b.conf"));
        std::fs::write(&unit, "old").unwrap();
        let old = UnitFiles::read(std::slice::from_ref(&unit)).unwrap();
        std::fs::write(&unit, "new").unwrap();
        std::fs::write(&drop_in, "a secret").unwrap();
        std::fs::set_permissions(&drop_in, std::fs::Permissions::from_mode(0o600)).unwrap();
        let new = UnitFiles::read(&[unit.clone(), drop_in.clone()]).unwrap();
        let deaf = || Err(Error::new(Status::Unavailable, "no answer"));
        assert_eq!(old.put_back(&new, &deaf).unwrap_err().status, Status::Unavailable);
        assert_eq!(UnitFiles::read(&[unit, drop_in.clone()]), Some(new));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&drop_in), mode(&beside(&drop_in))), (0o600, 0o600));
    }

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
        let rejected = old.put_back(&new, &taken).unwrap();
        let beside = room.path().join("a.service.rejected");
        assert_eq!(rejected, [beside.clone(), room.path().join("b.conf.rejected")]);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&unit), read(&beside)), ("old".to_owned(), "new".to_owned()));
        assert!(!drop_in.exists());
        assert_eq!(read(&room.path().join("b.conf.rejected")), "more");
        assert_eq!(UnitFiles::read(std::slice::from_ref(&unit)), Some(old.clone()));
        // A directory that went is made again; a file that somebody has changed since is nobody's to replace,
        // and then none is.
        let more = room.path().join("a.service.d/c.conf");
        std::fs::create_dir(more.parent().unwrap()).unwrap();
        std::fs::write(&more, "kept").unwrap();
        let with_more = UnitFiles::read(&[unit.clone(), more.clone()]).unwrap();
        std::fs::remove_dir_all(more.parent().unwrap()).unwrap();
        std::fs::write(&unit, "tested").unwrap();
        let tested = UnitFiles::read(std::slice::from_ref(&unit)).unwrap();
        std::fs::write(&unit, "next").unwrap();
        assert_eq!(with_more.put_back(&tested, &taken).unwrap_err().status, Status::Busy);
        assert!(read(&unit) == "next" && !more.exists());
        std::fs::write(&unit, "tested").unwrap();
        assert_eq!(with_more.put_back(&tested, &taken).unwrap(), [beside]);
        assert_eq!((read(&unit), read(&more)), ("old".to_owned(), "kept".to_owned()));
        // One that cannot be made undoes those before it.
        std::fs::write(&unit, "tested").unwrap();
        std::fs::remove_dir_all(more.parent().unwrap()).unwrap();
        std::fs::write(more.parent().unwrap(), "no directory").unwrap();
        assert!(with_more.put_back(&tested, &taken).is_err());
        assert_eq!(read(&unit), "tested");
    }

    #[test]
    fn a_link_is_left_alone() {
        let room = tempfile::tempdir().unwrap();
        let (file, link) = (room.path().join("file"), room.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(put_back(&link, b"x", b"y", 0o644).unwrap_err().status, Status::BadConfig);
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
        assert!(!room.path().join("link.rejected").exists());
    }
}
