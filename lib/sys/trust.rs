//! Whose word is believed: a file, a directory or a socket is ours only if we or root own it, nobody else may
//! change it or any directory on the way to it, and no link of a stranger led there. The one place that
//! decides.
//!
//! Checked is the way as the kernel walks it, component by component from the root, links resolved. Where
//! every step of it can be changed by root and by us alone, nobody can put another thing there between the
//! check and the use; where one cannot, the use is refused. So there is no race to win.

mod acl;
mod rights;

use crate::sys::directory::{self, Directory, Purpose};
use crate::sys::file::bounded;
use crate::sys::user;
use crate::words::error::Error;
use crate::words::exit::Status;
use rights::{READ, Thing, owner};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// More links on one way are a loop (ELOOP; MAXSYMLINKS of Linux).
const LINKS: u32 = 40;

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
    /// It is not for us alone.
    Open {
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
            Distrust::Open { path } => write!(out, "'{}' is not for its owner alone (0700)", path.display()),
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

/// The same where others share the directories: nobody else has made a link on the way. Whoever opens it must
/// follow no link any more (`directory::open_without_links`).
///
/// # Errors
/// As `way`.
pub fn led(path: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let mut walk = Walk::new(user::own_uid(), parts(whole.parent().unwrap_or(Path::new("/"))));
    walk.links_only = true;
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
    /// Whether the directories themselves may be anybody's.
    links_only: bool,
}

impl Walk {
    fn new(uid: u32, todo: VecDeque<OsString>) -> Walk {
        Walk { uid, at: PathBuf::from("/"), todo, links: 0, links_only: false }
    }

    fn all(&mut self) -> io::Result<()> {
        self.directory(&self.at, &fs::symlink_metadata(&self.at)?)?;
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
        if found.is_symlink() && !is_descriptor(&next) {
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
            self.directory(&next, &found)?;
        }
        self.at = next;
        Ok(())
    }

    fn directory(&self, path: &Path, found: &Metadata) -> io::Result<()> {
        if !self.links_only {
            Thing { path, found, file: None }.directory(self.uid)?;
        }
        Ok(())
    }
}

/// Whether this is what a descriptor of ours is shown as, which whoever has started us has opened: the target
/// of /dev/stdin and /dev/fd/N. It is no link that could be read: the kernel alone knows what it leads to.
fn is_descriptor(path: &Path) -> bool {
    let Some(directory) = path.parent() else { return false };
    match directory.strip_prefix("/proc") {
        Ok(below) => fs::read_link("/proc/self").is_ok_and(|own| below == own.join("fd")),
        // Where they are no links, they are devices.
        Err(_) => directory == Path::new("/dev/fd"),
    }
}

/// What is to be read of a descriptor that whoever has started us has opened: his word is ours. It is read
/// itself, for we may have been made another user since, who cannot open it.
fn given(path: &Path, limit: u64) -> Option<io::Result<Vec<u8>>> {
    let number: i32 = path.file_name().filter(|_| is_descriptor(path))?.to_str()?.parse().ok()?;
    // SAFETY: fcntl(2) with integers; it fails where there is no such descriptor.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Some(Err(io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Some(bounded(unsafe { File::from_raw_fd(copy) }, limit))
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
    judge_open(&path, &file)?;
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
    if let Some(said) = given(&path, limit) {
        return said;
    }
    let mut options = OpenOptions::new();
    let file =
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(&path)?;
    let found = file.metadata()?;
    regular(&found)?;
    Thing { path: &path, found: &found, file: Some(&file) }.contents()?;
    bounded(file, limit)
}

/// The bytes of a secret: as `read`, of a file that nobody but us and root may even read, or that root lets a
/// group read that we are in. A link of ours to it is followed.
///
/// # Errors
/// As `read`.
pub(super) fn read_secret(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let path = follow(path)?;
    if let Some(said) = given(&path, limit) {
        return said;
    }
    let found = fs::symlink_metadata(&path)?;
    // Where it is kept nobody else can put another file in its place before it is read.
    judge(&path, &found)?;
    if (Thing { path: &path, found: &found, file: None }).others_have(READ, user::own_uid()) {
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
    let file = unlinked(&path, Purpose::Read)?;
    if file.metadata()?.uid() == 0 {
        way(&path)?;
    }
    Ok(file)
}

/// Opens what a job of our own names, for reading or to be appended to: whoever owns the directory, but root
/// follows no link that a stranger has made, and opens nothing of its own that a stranger may have linked.
/// What is missing is made, 0600, where it is to be written to.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of open(2).
pub fn open_led(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(!append).append(append).create(append).mode(0o600);
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    if user::own_uid() != 0 {
        return options.open(path);
    }
    let mut walk = Walk::new(0, parts(&std::path::absolute(path)?));
    walk.links_only = true;
    match walk.all() {
        // What is missing at the end is made.
        Err(cause) if append && cause.kind() == io::ErrorKind::NotFound && walk.todo.len() == 1 => {}
        outcome => outcome?,
    }
    let path: PathBuf = walk.at.iter().map(OsStr::to_owned).chain(walk.todo).collect();
    if is_descriptor(&path) {
        return options.open(path);
    }
    let file = unlinked(&path, if append { Purpose::Append } else { Purpose::Read })?;
    let found = file.metadata()?;
    // One of several names may have been given to it by whoever owns the directory.
    if found.uid() == 0 && found.is_file() && found.nlink() > 1 && way(&path).is_err() {
        return Err(Distrust::Links { path }.into());
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

fn unlinked(path: &Path, purpose: Purpose) -> io::Result<File> {
    directory::open_without_links(path, purpose).map_err(|cause| match cause.raw_os_error() {
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
    let file = unlinked(&path, Purpose::Read)?;
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

/// Whether a file is ours or root's alone, where nobody else can put another in its place.
///
/// # Errors
/// Why it is not.
pub fn judge(path: &Path, found: &Metadata) -> Result<(), Distrust> {
    Thing { path, found, file: None }.alone()
}

/// The same of what was opened, whatever its name leads to by now.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of fstat(2).
pub fn judge_open(path: &Path, file: &File) -> io::Result<()> {
    Ok(Thing { path, found: &file.metadata()?, file: Some(file) }.alone()?)
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
    let file = directory::open_without_links(&path, Purpose::Read)?;
    let found = file.metadata()?;
    regular(&found)?;
    owner(&path, &found, uid)?;
    // Without a right of the group no list gives one to anybody.
    if found.mode() & 0o022 != 0 {
        return Err(Distrust::Writable { path }.into());
    }
    bounded(file, limit)
}

/// The same, and it may have several names where nobody else can have given it this one.
///
/// # Errors
/// As `judge_open`.
pub fn judge_named(path: &Path, file: &File) -> io::Result<()> {
    match (Thing { path, found: &file.metadata()?, file: Some(file) }).alone() {
        Err(Distrust::Links { .. }) if path.parent().is_some_and(|at| check_own_directory(at).is_ok()) => {
            Ok(())
        }
        judged => Ok(judged?),
    }
}

/// Whether a directory, with the way to it, is ours or root's alone, or sticky: where it is without links.
///
/// # Errors
/// PermissionDenied with a `Distrust`; those of lstat(2).
pub fn check_directory(path: &Path) -> io::Result<PathBuf> {
    let path = follow(path)?;
    if fs::symlink_metadata(&path)?.is_dir() { Ok(path) } else { Err(Distrust::Kind { path }.into()) }
}

/// The same of one in which nobody else may make anything.
///
/// # Errors
/// As `check_directory`.
pub fn check_own_directory(path: &Path) -> io::Result<PathBuf> {
    let path = check_directory(path)?;
    let found = fs::symlink_metadata(&path)?;
    Thing { path: &path, found: &found, file: None }.writers(user::own_uid())?;
    Ok(path)
}

/// The same of one that is ours and that nobody else may even enter.
///
/// # Errors
/// As `check_directory`.
pub fn check_private_directory(path: &Path) -> io::Result<PathBuf> {
    let path = check_directory(path)?;
    let found = fs::symlink_metadata(&path)?;
    match found.uid() {
        uid if uid != user::own_uid() => Err(Distrust::Owner { path, uid }.into()),
        _ if found.mode() & 0o077 != 0 => Err(Distrust::Open { path }.into()),
        _ => Ok(path),
    }
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
