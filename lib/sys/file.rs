//! Files: replaced whole or not at all, locked by the kernel, read within bounds.

mod id;
mod lock;
mod log;
mod own;

pub use id::{FileId, lock_holders};
pub use lock::Lock;
pub use log::{LOG_WINDOW, LogMark, last_lines};
pub use own::{own_dir, private_dir, shared_dir};

use crate::sys::directory::Directory;
use crate::sys::trust;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that is written and on the disk beside the one that it is to replace. Dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    beside: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Staged {
    /// Writes `bytes` beside `path` and syncs. Root leaves the file to the owner of the one that is to be
    /// replaced.
    ///
    /// # Errors
    /// Those of the calls; nothing is left behind then.
    pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Staged> {
        let (staged, file) = Staged::unsynced(path, bytes, mode)?;
        file.sync_all()?;
        Ok(staged)
    }

    fn unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<(Staged, File)> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let staged = Staged { beside: parent(path).join(name), path: path.to_owned(), done: false };
        let _ = fs::remove_file(&staged.beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged.beside)?;
        // The umask must not take from the mode that was asked for.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        if let Ok(old) = fs::symlink_metadata(path)
            && crate::sys::user::own_uid() == 0
            && old.uid() != 0
        {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.write_all(bytes)?;
        Ok((staged, file))
    }

    /// Puts it in its place, durably: a reader sees the old file or this one.
    ///
    /// # Errors
    /// Those of rename(2) and fsync(2).
    pub fn commit(self) -> io::Result<()> {
        let directory = parent(&self.path).to_owned();
        self.rename()?;
        sync(&directory)
    }

    fn rename(mut self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// Removes what writers of `path` have left beside it that were killed.
pub fn sweep_staged(path: &Path) {
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let names = parent(path).canonicalize().and_then(|real| Directory::open(&real)?.names());
    for name in names.unwrap_or_default() {
        let writer = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.parse::<crate::sys::process::Pid>().ok());
        if writer.is_some_and(|pid| crate::sys::process::Identity::of(pid).is_none()) {
            let _ = fs::remove_file(parent(path).join(name));
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Puts what was done in a directory on the disk.
fn sync(directory: &Path) -> io::Result<()> {
    Directory::open(&directory.canonicalize()?)?.sync()
}

/// Who may do what with the file at `path` (the lower twelve bits of its mode); `otherwise` where it cannot
/// be told. A link is not followed.
pub fn mode(path: &Path, otherwise: u32) -> u32 {
    std::fs::symlink_metadata(path).map_or(otherwise, |found| found.permissions().mode() & 0o7777)
}

/// When the file at `path` was last written to, put there, or changed in any way, whatever time it says of
/// itself (the later of mtime and ctime of stat(2)).
pub fn changed_at(path: &Path) -> Option<SystemTime> {
    let found = std::fs::metadata(path).ok()?;
    let since = Duration::new(u64::try_from(found.ctime()).ok()?, u32::try_from(found.ctime_nsec()).ok()?);
    Some(found.modified().ok()?.max(SystemTime::UNIX_EPOCH + since))
}

/// Sets the time of the file at `path` to now.
///
/// # Errors
/// Those of open(2) and futimens(2).
pub fn touch(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.set_modified(SystemTime::now())
}

/// Replaces `path` by a file of `mode` that holds `bytes`: written beside it, synced, renamed, the directory
/// synced. A reader sees the old file or the new one.
///
/// # Errors
/// Those of the calls; the old file is untouched then and nothing is left behind.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Staged::write(path, bytes, mode)?.commit()
}

/// The same without waiting for the disk, for what means nothing after the next boot.
///
/// # Errors
/// As `replace`.
pub fn replace_soon(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    Staged::unsynced(path, bytes, mode)?.0.rename()
}

/// Reads all of `path`, a regular file of at most `limit` bytes. Never blocks on a FIFO.
///
/// # Errors
/// Those of open(2) and read(2); `InvalidInput` for what is no regular file, `FileTooLarge` for one over the
/// limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    bounded(open_regular(path)?, limit)
}

/// What is left to be read of an open file.
///
/// # Errors
/// `FileTooLarge` over `limit` bytes; those of read(2).
pub(super) fn bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The last `count` lines of a log of the user `uid`, whole and as they are, out of its last 32 MiB: a huge
/// log, a FIFO or a device costs nothing more, and nobody is shown through us what is not his.
///
/// # Errors
/// As `trust::open_of`; those of read(2).
pub fn tail(path: &Path, count: usize, uid: u32) -> io::Result<Vec<String>> {
    const MOST: u64 = 32 << 20;
    const STEP: u64 = 64 << 10;
    let mut file = trust::open_of(path, uid)?;
    let length = file.metadata()?.len();
    let (mut from, mut bytes) = (length, Vec::new());
    let ends = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    // The line that the first block begins within may be a part of one.
    while from > 0 && length - from < MOST && ends(&bytes) <= count {
        let begin = from.saturating_sub(STEP.max(length - from));
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        (&mut file).take(from - begin).read_to_end(&mut block)?;
        block.append(&mut bytes);
        (from, bytes) = (begin, block);
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().skip(usize::from(from > 0 && ends(&bytes) > 1)).collect();
    let keep = lines.len().saturating_sub(count);
    Ok(lines[keep..].iter().map(|line| (*line).to_owned()).collect())
}

/// O_NONBLOCK keeps a FIFO without a writer from blocking the open itself (fifo(7)).
fn open_regular(path: &Path) -> io::Result<File> {
    let file = trust::open_any(path)?;
    trust::regular(&file.metadata()?)?;
    Ok(file)
}

/// Makes an empty file, 0600, where there is none. One that is there is not opened.
///
/// # Errors
/// Those of open(2).
pub fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Writes a small file anew, 0600, under no other name first: for what is lost without harm when we are
/// killed. A link that is there is removed, and what it leads to stays.
///
/// # Errors
/// Those of open(2) and write(2).
pub fn write_anew(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Opens a file of our own for reading and writing, made 0600 where it is missing. One that is not ours or
/// root's alone is not believed, and not opened.
///
/// # Errors
/// Those of open(2) and `trust::open`.
pub fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    trust::open(path, &mut options)
}

/// When the file at `path` was made, in nanoseconds since 1970; a link is not followed. `None` where the file
/// system does not tell. Asked of the kernel itself: not every libc that we are built for passes it on.
pub fn born(path: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        /// STATX_BTIME of <linux/stat.h>, and where `stx_btime` is in `struct statx`.
        const BTIME: u32 = 0x800;
        const SECONDS: usize = 80;
        const NANOSECONDS: usize = 88;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
        let mut found = [0u8; 256];
        let (directory, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_NOFOLLOW);
        // SAFETY: the path ends with NUL, and the buffer has the size of a struct statx.
        let outcome = unsafe {
            libc::syscall(libc::SYS_statx, directory, path.as_ptr(), flags, BTIME, found.as_mut_ptr())
        };
        let word = |at: usize| Some(u32::from_ne_bytes(found.get(at..at + 4)?.try_into().ok()?));
        let seconds = i64::from_ne_bytes(found.get(SECONDS..SECONDS + 8)?.try_into().ok()?);
        if outcome != 0 || word(0)? & BTIME == 0 {
            return None;
        }
        u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(u64::from(word(NANOSECONDS)?))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let since = fs::symlink_metadata(path).ok()?.created().ok()?.duration_since(std::time::UNIX_EPOCH);
        u64::try_from(since.ok()?.as_nanos()).ok()
    }
}

/// Makes sure that a file has room for `length` bytes on its disk, so that writing there fails for no want of
/// space (posix_fallocate(3), F_PREALLOCATE).
///
/// # Errors
/// StorageFull, and those of the calls.
pub fn allocate(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() >= length {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let length = libc::off_t::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        // SAFETY: integers only; it returns its error, and does not set errno.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::os::unix::fs::FileExt;
        // HFS+ and APFS write zeros where a file is extended by writing them.
        let from = file.metadata()?.len();
        file.write_all_at(&vec![0; usize::try_from(length - from).unwrap_or(0)], from)?;
        file.sync_all()
    }
}

/// Opens a log to append to, made 0600 where it is missing; `None` for a FIFO that nobody reads, which would
/// block.
///
/// # Errors
/// Those of open(2).
pub fn open_log(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    to_append(options.open(path))
}

/// The same of a log that a job of ours names, wherever that is (`trust::open_led`).
///
/// # Errors
/// Those of open(2); PermissionDenied with a `trust::Distrust`.
pub fn open_led_log(path: &Path) -> io::Result<Option<File>> {
    to_append(trust::open_led(path, true))
}

/// What a job of ours reads from.
///
/// # Errors
/// As `open_led_log`.
pub fn open_led_input(path: &Path) -> io::Result<File> {
    let file = trust::open_led(path, false)?;
    // Whoever reads from it shall wait, as every program expects.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()))?;
    Ok(file)
}

fn to_append(opened: io::Result<File>) -> io::Result<Option<File>> {
    let file = match opened {
        Err(cause) if cause.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        open => open?,
    };
    // Whoever writes to it shall block on a full pipe, as every program expects.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_APPEND))?;
    Ok(Some(file))
}

/// Appends `line` and a newline to the log at `path`, made 0600 where it is missing, in one write, and
/// returns when it is on the disk. A line that another writer left unfinished is ended first.
///
/// # Errors
/// Those of open(2), write(2) and fsync(2); `StorageFull` also when only a part could be written.
pub fn append_durably(path: &Path, line: &str) -> io::Result<()> {
    let missing = !path.exists();
    append_to(path, line)?.sync_data()?;
    if missing && let Some(directory) = path.parent() {
        sync(directory)?;
    }
    Ok(())
}

/// The same without waiting for the disk, for what outlives us and need not outlive the machine.
///
/// # Errors
/// As `append_durably`.
pub fn append(path: &Path, line: &str) -> io::Result<()> {
    append_to(path, line).map(drop)
}

fn append_to(path: &Path, line: &str) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let mut last = [b'\n'];
    let length = file.metadata()?.len();
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    let text = format!("{}{line}\n", if last == [b'\n'] { "" } else { "\n" });
    if file.write(text.as_bytes())? < text.len() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(file)
}

/// A file without a name that holds `bytes`, to be read from its start: made in `directory` for us alone.
///
/// # Errors
/// Those of open(2), write(2) and unlink(2).
pub fn nameless(directory: &Path, bytes: &[u8]) -> io::Result<File> {
    let path = directory.join(format!(".nameless.{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(bytes)?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Whether we may execute `path` (access(2)).
pub fn executable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Whether we may write into the directory `path` (access(2)).
pub fn writable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Where state that outlives a boot is kept: `$XDG_STATE_HOME/baa`, or `~/.local/state/baa`, or for root
/// `/var/lib/baa`.
pub fn state_dir() -> PathBuf {
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    match std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => path.join("baa"),
        None if crate::sys::user::own_uid() == 0 => PathBuf::from("/var/lib/baa"),
        None => home().map_or_else(|| runtime_dir().join("state"), |home| home.join(".local/state/baa")),
    }
}

pub use super::runtime::{check_runtime_dir, runtime_dir};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_and_bounded() {
        let uid = crate::sys::user::own_uid();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, (1..=50).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        assert_eq!(tail(&path, 2, uid).unwrap(), ["line 49", "line 50"]);
        // A sparse file of 10 GB is read from its end only.
        let huge = File::create(dir.path().join("huge")).unwrap();
        huge.set_len(10_000_000_000).unwrap();
        huge.write_all_at(b"\nlast\n", 9_999_999_994).unwrap();
        assert_eq!(tail(&dir.path().join("huge"), 1, uid).unwrap(), ["last"]);
        let long = format!("  {}", "x".repeat(200_000));
        fs::write(&path, format!("first\n{long}\nlast\n")).unwrap();
        assert_eq!(tail(&path, 3, uid).unwrap(), ["first", &long, "last"]);
        assert_eq!(tail(&path, 2, uid).unwrap(), [&long, "last"]);
        fs::write(&path, "").unwrap();
        assert!(tail(&path, 20, uid).unwrap().is_empty());
        fs::write(&path, "no newline").unwrap();
        assert_eq!(tail(&path, 20, uid).unwrap(), ["no newline"]);
    }

    #[test]
    fn a_fifo_is_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(tail(&path, 20, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read(Path::new("/dev/zero"), 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("none/status"), b"x", 0o600).is_err());
    }
}
