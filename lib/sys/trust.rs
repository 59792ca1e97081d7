//! Whose word is believed: a file, a directory or a socket is ours only if we or root own it, nobody else may
//! change it or any directory on the way to it, and no link of a stranger led there. The one place that
//! decides.
//!
//! Checked is the way as the kernel walks it, component by component from the root, links resolved. Where
//! every step of it can be changed by root and by us alone, nobody can put another thing there between the
//! check and the use; where one cannot, the use is refused. So there is no race to win.

use crate::sys::user;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// More links on one way are a loop (ELOOP; MAXSYMLINKS of Linux).
const LINKS: u32 = 40;
/// Others may write, and only the owner of an entry may remove it (inode(7)).
const STICKY: u32 = 0o1000;

/// Why a thing is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Somebody else owns it.
    Owner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others may write to it.
    Writable {
        /// What.
        path: PathBuf,
    },
    /// It has another name elsewhere, by which somebody else may have put it there.
    Links {
        /// What.
        path: PathBuf,
    },
    /// It is a link where none may be, or no plain file, directory or socket.
    Kind {
        /// What.
        path: PathBuf,
    },
}

impl std::fmt::Display for Distrust {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Distrust::Owner { path, uid } => write!(out, "'{}' belongs to user {uid}", path.display()),
            Distrust::Writable { path } => write!(out, "others may write to '{}'", path.display()),
            Distrust::Links { path } => write!(out, "'{}' has more than one name", path.display()),
            Distrust::Kind { path } => write!(out, "'{}' is a link, or of no plain kind", path.display()),
        }
    }
}

impl std::error::Error for Distrust {}

impl From<Distrust> for io::Error {
    fn from(why: Distrust) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, why)
    }
}

/// Whether the way to `path` can be changed by root and by us alone: each directory on it, and each link.
/// What is at its end is not looked at. Returns the way without links.
///
/// # Errors
/// PermissionDenied with a `Distrust`; NotFound for a directory that is missing; those of lstat(2).
pub fn way(path: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let last = whole.file_name().map(OsStr::to_owned);
    let parent = whole.parent().unwrap_or(Path::new("/"));
    let mut todo: VecDeque<OsString> = parts(parent);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    directory(&at, &fs::symlink_metadata(&at)?)?;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let found = fs::symlink_metadata(&next)?;
        if found.is_symlink() {
            // Only its owner and root can change a link; in a sticky directory a stranger may have made it.
            owner(&next, &found)?;
            links += 1;
            if links > LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let to = fs::read_link(&next)?;
            if to.is_absolute() {
                at = PathBuf::from("/");
            }
            parts(&to).into_iter().rev().for_each(|part| todo.push_front(part));
            continue;
        }
        directory(&next, &found)?;
        at = next;
    }
    at.extend(last);
    Ok(at)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// Opens a regular file that is ours or root's, for reading, or with `options`.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of open(2).
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let path = way(path)?;
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(&path);
    let file = file.map_err(|cause| match cause.raw_os_error() {
        Some(libc::ELOOP) => Distrust::Kind { path: path.clone() }.into(),
        _ => cause,
    })?;
    judge(&path, &file.metadata()?)?;
    Ok(file)
}

/// The same, for the bytes in it, at most `limit`.
///
/// # Errors
/// As `open`; `FileTooLarge` for one over the limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    open(path, OpenOptions::new().read(true))?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Whether an open file is ours or root's alone: to be asked of what was opened, not of its name.
///
/// # Errors
/// Why it is not.
pub fn judge(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    if !found.is_file() {
        return Err(Distrust::Kind { path: path.to_owned() });
    }
    owner(path, found)?;
    writers(path, found)?;
    if found.nlink() > 1 {
        return Err(Distrust::Links { path: path.to_owned() });
    }
    Ok(())
}

/// Whether a directory, with the way to it, is ours or root's alone, or sticky.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of lstat(2).
pub fn check_directory(path: &Path) -> io::Result<()> {
    let path = way(path)?;
    let found = fs::symlink_metadata(&path)?;
    if !found.is_dir() {
        return Err(Distrust::Kind { path }.into());
    }
    Ok(directory(&path, &found)?)
}

/// One directory on a way.
fn directory(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    owner(path, found)?;
    // In a sticky one others make entries, but cannot touch those of somebody else.
    if found.mode() & STICKY == 0 { writers(path, found) } else { Ok(()) }
}

fn owner(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    let uid = found.uid();
    if uid == 0 || uid == user::own_uid() { Ok(()) } else { Err(Distrust::Owner { path: path.into(), uid }) }
}

/// Whether anybody but the owner may write. A group of the user's own, of which nobody else is a member
/// (Debian's and Fedora's user-private groups), is nobody else.
fn writers(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    let mode = found.mode();
    let group_is_ours = mode & 0o020 == 0 || (found.gid() == 0 && found.uid() == 0) || private(found.gid());
    if mode & 0o002 == 0 && group_is_ours { Ok(()) } else { Err(Distrust::Writable { path: path.into() }) }
}

/// Whether a group is our own primary one and /etc/group knows no other member of it.
fn private(gid: u32) -> bool {
    if gid != nix::unistd::getegid().as_raw() || user::own_uid() == 0 {
        return false;
    }
    let Ok(text) = fs::read_to_string("/etc/group") else { return false };
    let members = text.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(gid)).then(|| fields.next().unwrap_or("").to_owned())
    });
    members.is_some_and(|members| members.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path) -> String {
        let cause = open(path, OpenOptions::new().read(true)).unwrap_err();
        cause.into_inner().map_or_else(String::new, |why| why.to_string())
    }

    #[test]
    fn what_others_may_change_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("in"), dir.path().join("in/file"));
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "word").unwrap();
        mode(&file, 0o600);
        mode(&inner, 0o700);
        assert_eq!(read(&file, 10).unwrap(), b"word");
        assert!(read(&file, 3).is_err_and(|cause| cause.kind() == io::ErrorKind::FileTooLarge));
        let shown = |path: &Path| path.canonicalize().unwrap().display().to_string();
        mode(&file, 0o602);
        assert_eq!(refused(&file), format!("others may write to '{}'", shown(&file)));
        mode(&file, 0o644);
        mode(&inner, 0o777);
        assert_eq!(refused(&file), format!("others may write to '{}'", shown(&inner)));
        // As /tmp is: what is ours in it is ours.
        mode(&inner, 0o1777);
        assert!(open(&file, OpenOptions::new().read(true)).is_ok() && check_directory(&inner).is_ok());
        mode(&inner, 0o700);
        let second = dir.path().join("second");
        fs::hard_link(&file, &second).unwrap();
        assert_eq!(refused(&file), format!("'{}' has more than one name", shown(&file)));
        fs::remove_file(&second).unwrap();
        symlink(&file, &second).unwrap();
        assert!(refused(&second).ends_with("is a link, or of no plain kind"));
        assert!(refused(&inner).ends_with("is a link, or of no plain kind"));
        let missing = open(&inner.join("none"), OpenOptions::new().read(true)).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_way_may_lead_over_links_of_our_own_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("a/b")).unwrap();
        fs::write(real.join("a/b/file"), "").unwrap();
        symlink("b", real.join("a/link")).unwrap();
        symlink("../a/link", real.join("a/again")).unwrap();
        symlink("loop", real.join("loop")).unwrap();
        assert_eq!(way(&dir.path().join("a/again/file")).unwrap(), real.join("a/b/file"));
        assert_eq!(way(&real.join("a/b/../b/file")).unwrap(), real.join("a/b/file"));
        assert_eq!(way(&real.join("loop/x")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        if user::own_uid() == 0 {
            std::os::unix::fs::lchown(real.join("a/link"), Some(12345), Some(12345)).unwrap();
            let why = way(&real.join("a/again/file")).unwrap_err().to_string();
            assert_eq!(why, format!("'{}' belongs to user 12345", real.join("a/link").display()));
        }
    }

    #[test]
    fn root_believes_nobody_else() {
        if user::own_uid() != 0 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(open(&file, OpenOptions::new().read(true)).is_ok());
        chown(&file, Some(12345), None).unwrap();
        assert!(refused(&file).ends_with("belongs to user 12345"));
        chown(&file, Some(0), None).unwrap();
        chown(dir.path(), Some(12345), None).unwrap();
        assert!(refused(&file).ends_with("belongs to user 12345"));
    }
}
