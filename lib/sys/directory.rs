//! A directory that is entered once, by descriptor: what is removed in it is removed there, whatever its path
//! leads to by then, and links are removed and never followed (openat(2), unlinkat(2)).

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Deeper is no state of anybody's.
const DEPTH_LIMIT: u32 = 64;

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Enters `path`, whose last part must not be a link.
    ///
    /// # Errors
    /// Those of open(2): NotFound, and ELOOP or NotADirectory for a link.
    pub fn open(path: &Path) -> io::Result<Directory> {
        Ok(Directory(nix::fcntl::open(path, flags(), Mode::empty())?))
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    /// Those of readdir(3).
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        // A descriptor of its own, for the position in a directory is shared by duplicates.
        let again = nix::fcntl::openat(&self.0, ".", flags(), Mode::empty())?;
        let mut names = Vec::new();
        for entry in nix::dir::Dir::from_fd(again)?.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        Ok(names)
    }

    /// When `name` was changed last; `None` when it is not there.
    ///
    /// # Errors
    /// Those of fstatat(2), but for ENOENT.
    pub fn modified(&self, name: &OsStr) -> io::Result<Option<SystemTime>> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => {
                let seconds = Duration::from_secs(u64::try_from(found.st_mtime).unwrap_or(0));
                Ok(Some(
                    SystemTime::UNIX_EPOCH
                        + seconds
                        + Duration::from_nanos(u64::try_from(found.st_mtime_nsec).unwrap_or(0)),
                ))
            }
            Err(nix::errno::Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes `name` with everything below it; nothing happens when it is not there.
    ///
    /// # Errors
    /// Those of unlinkat(2); what could be removed is.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        remove(&self.0, &CString::new(name.as_bytes())?, DEPTH_LIMIT)
    }

    /// Puts what was done in it on the disk.
    ///
    /// # Errors
    /// Those of fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.0)?)
    }
}

fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn remove(at: &OwnedFd, name: &CString, depth: u32) -> io::Result<()> {
    use nix::errno::Errno;
    match unlinkat(at.as_fd(), name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // Linux says EISDIR of a directory, macOS EPERM (unlink(2)).
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    if depth == 0 {
        return Err(io::Error::from_raw_os_error(libc::ELOOP));
    }
    let below = Directory(nix::fcntl::openat(at, name.as_c_str(), flags(), Mode::empty())?);
    for inner in below.names()? {
        remove(&below.0, &CString::new(inner.as_bytes())?, depth - 1)?;
    }
    match unlinkat(at.as_fd(), name.as_c_str(), UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_its_links_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, outer) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir_all(inner.join("tree/a/b")).unwrap();
        std::fs::create_dir_all(&outer).unwrap();
        std::fs::write(outer.join("precious"), "x").unwrap();
        std::fs::write(inner.join("tree/a/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outer, inner.join("tree/a/link")).unwrap();
        std::os::unix::fs::symlink(&outer, inner.join("link")).unwrap();
        let directory = Directory::open(&inner).unwrap();
        assert_eq!(directory.names().unwrap(), ["link", "tree"]);
        for name in ["tree", "link", "absent"] {
            directory.remove(OsStr::new(name)).unwrap();
        }
        assert!(directory.names().unwrap().is_empty() && outer.join("precious").exists());
        std::os::unix::fs::symlink(&outer, dir.path().join("linked")).unwrap();
        assert!(Directory::open(&dir.path().join("linked")).is_err());
    }
}
