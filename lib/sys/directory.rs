//! A directory that is entered once, by descriptor: what is removed in it is removed there, whatever its path
//! leads to by then, and links are removed and never followed (openat(2), unlinkat(2)).

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};
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

    /// Enters what is `below` it, if no part of that is a link.
    ///
    /// # Errors
    /// As `open`.
    pub fn enter(&self, below: &Path) -> io::Result<Directory> {
        self.reach(below, flags()).map(Directory)
    }

    /// The bytes of the regular file that is `below` it, at most `limit`, if no part of that is a link.
    ///
    /// # Errors
    /// Those of open(2), ELOOP for a link; `InvalidInput` for what is no regular file, `FileTooLarge`.
    pub fn read(&self, below: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.file(below, Purpose::Read)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        super::file::bounded(file, limit)
    }

    fn file(&self, below: &Path, purpose: Purpose) -> io::Result<File> {
        let quiet = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        self.reach(below, purpose.flags() | quiet).map(File::from)
    }

    fn reach(&self, below: &Path, last: OFlag) -> io::Result<OwnedFd> {
        if let Some(outcome) = beneath(&self.0, below, last) {
            return outcome;
        }
        let mut parts = below.components().peekable();
        let mut at: Option<OwnedFd> = None;
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
            let how = if parts.peek().is_some() { passing() } else { last };
            at = Some(nix::fcntl::openat(at.as_ref().unwrap_or(&self.0), name, how, mode(how))?);
        }
        at.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The directory as a file, for its times.
    pub fn into_file(self) -> File {
        self.0.into()
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

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read.
    Read,
    /// To be appended to; made 0600 where it is missing.
    Append,
    /// To be locked; made 0600 where it is missing.
    Lock,
}

impl Purpose {
    fn flags(self) -> OFlag {
        match self {
            Purpose::Read => OFlag::O_RDONLY,
            Purpose::Append => OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT,
            Purpose::Lock => OFlag::O_RDWR | OFlag::O_CREAT,
        }
    }
}

/// Opens the file at `path`, an absolute one, if no part of it is a link (openat2(2), or one part after the
/// other). A FIFO or a terminal keeps nobody waiting.
///
/// # Errors
/// Those of open(2): ELOOP or NotADirectory for a link.
pub fn open_without_links(path: &Path, purpose: Purpose) -> io::Result<File> {
    let top = Directory(nix::fcntl::open("/", flags(), Mode::empty())?);
    let below = path.strip_prefix("/").map_err(|_| io::ErrorKind::InvalidInput)?;
    top.file(below, purpose)
}

/// openat2(2) where there is one. `None` where the kernel has none, or a sandbox forbids what it does not
/// know.
#[cfg(target_os = "linux")]
fn beneath(at: &OwnedFd, below: &Path, flags: OFlag) -> Option<io::Result<OwnedFd>> {
    use nix::errno::Errno;
    use nix::fcntl::{OpenHow, ResolveFlag, openat2};
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match openat2(at, below, OpenHow::new().flags(flags).mode(mode(flags)).resolve(resolve)) {
        Err(Errno::ENOSYS | Errno::EPERM) => None,
        outcome => Some(outcome.map_err(io::Error::from)),
    }
}

#[cfg(not(target_os = "linux"))]
fn beneath(_: &OwnedFd, _: &Path, _: OFlag) -> Option<io::Result<OwnedFd>> {
    None
}

/// Rights for what is made.
fn mode(flags: OFlag) -> Mode {
    if flags.contains(OFlag::O_CREAT) { Mode::S_IRUSR | Mode::S_IWUSR } else { Mode::empty() }
}

/// A directory that is only passed through need not be ours to list.
fn passing() -> OFlag {
    #[cfg(target_os = "linux")]
    return flags() | OFlag::O_PATH;
    #[cfg(not(target_os = "linux"))]
    flags()
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
