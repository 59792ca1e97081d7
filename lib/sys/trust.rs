//! Whose word is believed: a file, a directory or a socket is ours only if we or root own it, nobody else may
//! change it or any directory on the way to it, and no link of a stranger led there. The one place that
//! decides.
//!
//! Checked is the way as the kernel walks it, component by component from the root, links resolved. Where
//! every step of it can be changed by root and by us alone, nobody can put another thing there between the
//! check and the use; where one cannot, the use is refused. So there is no race to win.

use crate::sys::directory::{self, Directory};
use crate::sys::file::bounded;
use crate::sys::user;
use crate::words::error::Error;
use crate::words::exit::Status;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
#[cfg(target_os = "linux")]
use std::sync::OnceLock;

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
    /// It is a secret, and others may read it.
    Readable {
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
            Distrust::Readable { path } => write!(out, "others may read '{}'", path.display()),
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
    way_of(path, user::own_uid())
}

/// The same for the user `uid`: by root and by him alone.
///
/// # Errors
/// As `way`.
pub fn way_of(path: &Path, uid: u32) -> io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let mut walk = Walk::new(uid, parts(whole.parent().unwrap_or(Path::new("/"))));
    walk.all()?;
    walk.at.extend(whole.file_name());
    Ok(walk.at)
}

/// The same, and a link at the end is followed too: for files that are kept elsewhere and linked, as
/// settings and secrets often are.
///
/// # Errors
/// As `way`.
pub fn follow(path: &Path) -> io::Result<PathBuf> {
    follow_of(path, user::own_uid())
}

/// The same for the user `uid`.
///
/// # Errors
/// As `way`.
pub fn follow_of(path: &Path, uid: u32) -> io::Result<PathBuf> {
    let mut walk = Walk::new(uid, parts(&std::path::absolute(path)?));
    walk.all()?;
    Ok(walk.at)
}

/// Links are followed as far as only root and we can have made them; from there on the path stands as it was
/// given, and no link of it is to be followed.
fn reach(path: &Path) -> io::Result<PathBuf> {
    let mut walk = Walk::new(user::own_uid(), parts(&std::path::absolute(path)?));
    match walk.all() {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound && !is_distrust(&cause) => Err(cause),
        _ => Ok(walk.at.iter().map(OsStr::to_owned).chain(walk.todo).collect()),
    }
}

/// One walk from the root, as the kernel would go.
struct Walk {
    uid: u32,
    at: PathBuf,
    todo: VecDeque<OsString>,
    links: u32,
}

impl Walk {
    fn new(uid: u32, todo: VecDeque<OsString>) -> Walk {
        Walk { uid, at: PathBuf::from("/"), todo, links: 0 }
    }

    fn all(&mut self) -> io::Result<()> {
        directory(&self.at, &fs::symlink_metadata(&self.at)?, self.uid)?;
        while let Some(part) = self.todo.pop_front() {
            if let Err(cause) = self.step(&part) {
                self.todo.push_front(part);
                return Err(cause);
            }
        }
        Ok(())
    }

    fn step(&mut self, part: &OsStr) -> io::Result<()> {
        if part == ".." {
            self.at.pop();
            return Ok(());
        }
        let next = self.at.join(part);
        let found = fs::symlink_metadata(&next)?;
        if found.is_symlink() {
            // Only its owner and root can change a link; in a sticky directory a stranger may have made it.
            owner(&next, &found, self.uid)?;
            self.links += 1;
            if self.links > LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let to = fs::read_link(&next)?;
            if to.is_absolute() {
                self.at = PathBuf::from("/");
            }
            parts(&to).into_iter().rev().for_each(|part| self.todo.push_front(part));
            return Ok(());
        }
        // What is no directory can only be at the end, and is judged by whoever opens it.
        if found.is_dir() {
            directory(&next, &found, self.uid)?;
        }
        self.at = next;
        Ok(())
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// The failure of a setting: 78 for what is not believed, and for a system call what it says itself.
pub fn told(doing: String, cause: &io::Error) -> Error {
    match cause.get_ref().and_then(|inner| inner.downcast_ref::<Distrust>()) {
        Some(why) => Error::new(Status::BadConfig, format!("{doing}: {why}")),
        None => Error::io(doing, cause),
    }
}

/// Whether a failure is that something is not believed.
pub fn is_distrust(cause: &io::Error) -> bool {
    cause.get_ref().is_some_and(|inner| inner.is::<Distrust>())
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
    bounded(open(path, OpenOptions::new().read(true))?, limit)
}

/// The bytes of what somebody has written for us to read. Its owner may give it several names, and link to
/// it: what it says is as much his by each of them.
///
/// # Errors
/// As `read`.
pub fn read_setting(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let path = follow(path)?;
    let mut options = OpenOptions::new();
    let file =
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(&path)?;
    let found = file.metadata()?;
    regular(&found)?;
    contents(&path, &found)?;
    bounded(file, limit)
}

/// The bytes of a secret: as `read`, of a file that nobody but us and root may even read. A link of ours to
/// it is followed.
///
/// # Errors
/// As `read`.
pub fn read_secret(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let path = follow(path)?;
    let found = fs::symlink_metadata(&path)?;
    // Where it is kept nobody else can put another file in its place before it is read.
    judge(&path, &found)?;
    if found.mode() & 0o004 != 0 || (found.mode() & 0o040 != 0 && !is_own_group(&found, user::own_uid())) {
        return Err(Distrust::Readable { path }.into());
    }
    read(&path, limit)
}

/// Opens what is at `path` for reading, whoever has made it. Root follows no link that a stranger can have
/// made, and opens nothing of its own where one can have led it there.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of open(2).
pub fn open_any(path: &Path) -> io::Result<File> {
    if user::own_uid() != 0 {
        let mut options = OpenOptions::new();
        return options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    }
    let path = reach(path)?;
    let file = unlinked(&path)?;
    if file.metadata()?.uid() == 0 {
        way(&path)?;
    }
    Ok(file)
}

/// Whether it is a regular file.
///
/// # Errors
/// IsADirectory, InvalidInput.
pub fn regular(found: &Metadata) -> io::Result<()> {
    match () {
        () if found.is_file() => Ok(()),
        () if found.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        () => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

fn unlinked(path: &Path) -> io::Result<File> {
    directory::open_without_links(path).map_err(|cause| match cause.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => Distrust::Kind { path: path.to_owned() }.into(),
        _ => cause,
    })
}

/// Enters a directory to which another user may have led us: no link that a stranger can have made is
/// followed.
///
/// # Errors
/// Those of open(2), ELOOP or NotADirectory for a link.
pub fn enter(path: &Path) -> io::Result<Directory> {
    let path = reach(path)?;
    let top = Directory::open(Path::new("/"))?;
    match path.strip_prefix("/") {
        Ok(below) if below != Path::new("") => top.enter(below),
        _ => Ok(top),
    }
}

/// Opens a regular file to which another user may have led us, for reading: no link that a stranger can have
/// made is followed, and what is opened is a file of `uid`, or one of ours or root's; by root only where
/// nobody else can have led it there. So nobody gets to see through us what is not his.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of open(2), ELOOP for a link.
pub fn open_of(path: &Path, uid: u32) -> io::Result<File> {
    let path = reach(path)?;
    let file = unlinked(&path)?;
    let found = file.metadata()?;
    regular(&found)?;
    let own = user::own_uid();
    if found.uid() != uid || uid == own {
        owner(&path, &found, own)?;
        // Root may see everything, and is the one to be led astray.
        if own == 0 {
            way(&path)?;
        }
    }
    Ok(file)
}

/// Whether an open file is ours or root's alone: to be asked of what was opened, not of its name.
///
/// # Errors
/// Why it is not.
pub fn judge(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    if !found.is_file() {
        return Err(Distrust::Kind { path: path.to_owned() });
    }
    contents(path, found)?;
    if found.nlink() > 1 {
        return Err(Distrust::Links { path: path.to_owned() });
    }
    Ok(())
}

fn contents(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    let uid = user::own_uid();
    owner(path, found, uid)?;
    writers(path, found, uid)
}

/// The bytes of a file that launchd takes for a job of the user `uid`: his or root's, which its group may not
/// write to either, on a way that nobody else can change. launchd's own word for any other is 122, "Path had
/// bad ownership/permissions".
///
/// # Errors
/// PermissionDenied with a `Distrust`; `InvalidInput` for what is no regular file, `FileTooLarge`; those of
/// open(2).
pub fn read_job(path: &Path, limit: u64, uid: u32) -> io::Result<Vec<u8>> {
    let path = follow_of(path, uid)?;
    let file = directory::open_without_links(&path)?;
    let found = file.metadata()?;
    regular(&found)?;
    owner(&path, &found, uid)?;
    if found.mode() & 0o022 != 0 {
        return Err(Distrust::Writable { path }.into());
    }
    bounded(file, limit)
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
    Ok(directory(&path, &found, user::own_uid())?)
}

/// One directory on a way.
fn directory(path: &Path, found: &Metadata, uid: u32) -> Result<(), Distrust> {
    if !is_unmapped(found.uid()) {
        owner(path, found, uid)?;
    }
    // In a sticky one others make entries, but cannot touch those of somebody else.
    if found.mode() & STICKY == 0 { writers(path, found, uid) } else { Ok(()) }
}

fn owner(path: &Path, found: &Metadata, of: u32) -> Result<(), Distrust> {
    let uid = found.uid();
    if uid == 0 || uid == of { Ok(()) } else { Err(Distrust::Owner { path: path.into(), uid }) }
}

/// Whether a user is one that our user namespace has no number for, as the machine's root is to a sandbox:
/// whoever made the sandbox has put his directories on our way.
fn is_unmapped(uid: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        /// What the kernel shows instead (DEFAULT_OVERFLOWUID).
        const NOBODY: u32 = 65534;
        static MAPPED: OnceLock<bool> = OnceLock::new();
        let is_mapped = || {
            let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            let covers = |line: &str| {
                let words: Vec<u64> =
                    line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
                matches!(words[..], [from, _, count] if (from..from + count).contains(&u64::from(NOBODY)))
            };
            map.is_empty() || map.lines().any(covers)
        };
        uid == NOBODY && !MAPPED.get_or_init(is_mapped)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = uid;
        false
    }
}

/// Whether anybody but the owner may write.
fn writers(path: &Path, found: &Metadata, uid: u32) -> Result<(), Distrust> {
    let mode = found.mode();
    let only_ours = mode & 0o020 == 0 || is_own_group(found, uid);
    if mode & 0o002 == 0 && only_ours { Ok(()) } else { Err(Distrust::Writable { path: path.into() }) }
}

/// Whether nobody is in the group of what was found but its owner: root's own group for what is root's, on
/// macOS also those of its daemons and of the administrators, who may become root; or a user's group of his
/// own (Debian's and Fedora's user-private groups).
fn is_own_group(found: &Metadata, uid: u32) -> bool {
    let of_root: &[u32] = if cfg!(target_os = "macos") { &[0, 1, 80] } else { &[0] };
    (found.uid() == 0 && of_root.contains(&found.gid())) || (uid != 0 && is_private(found.gid(), uid))
}

/// Whether a group is the primary one of `uid`, has his name, and no other member that the files know of.
fn is_private(gid: u32, uid: u32) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of_group = |user: &Vec<String>| user.get(3).is_some_and(|field| field.parse() == Ok(gid));
    let users: Vec<Vec<String>> = users.lines().map(fields).filter(of_group).collect();
    let [user] = &users[..] else { return false };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let is_it = |group: &Vec<String>| group.get(2).is_some_and(|field| field.parse() == Ok(gid));
    let group = groups.lines().map(fields).find(is_it);
    user[2].parse() == Ok(uid)
        && group.is_some_and(|group| group[0] == user[0] && group.get(3).is_none_or(String::is_empty))
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
