//! Locks that the kernel holds (flock(2)).

use super::{FileId, open_regular};
use crate::sys::directory::{self, Purpose};
use crate::sys::{trust, user};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How long those may take that hold a lock only for a moment.
const SOON: std::time::Duration = std::time::Duration::from_millis(500);

/// A lock that the kernel holds for this process and frees at its death (flock(2)).
#[derive(Debug)]
pub struct Lock(nix::fcntl::Flock<File>);

impl Lock {
    /// Takes the lock on `path`, made 0600 where it is missing; `None` when another process has it.
    ///
    /// # Errors
    /// Those of open(2) and flock(2).
    pub fn take(path: &Path) -> io::Result<Option<Lock>> {
        Lock::open(path, true, nix::fcntl::FlockArg::LockExclusiveNonblock)
    }

    /// Takes a share of the lock on `path`, made 0600 where it is missing: others may have shares too, but
    /// nobody has it alone. A moment's patience, for whoever asks takes it alone for an instant; `None` when
    /// another has it for longer.
    ///
    /// # Errors
    /// As `take`.
    pub fn take_share(path: &Path) -> io::Result<Option<Lock>> {
        Lock::soon(|| Lock::open(path, true, nix::fcntl::FlockArg::LockSharedNonblock))
    }

    /// The same, and a moment's patience: whoever asks whether a lock is held takes it for an instant, and a
    /// child that a killed holder had just forked has it until it becomes another program, or dies.
    ///
    /// # Errors
    /// As `take`.
    pub fn take_soon(path: &Path) -> io::Result<Option<Lock>> {
        Lock::soon(|| Lock::take(path))
    }

    fn soon(take: impl Fn() -> io::Result<Option<Lock>>) -> io::Result<Option<Lock>> {
        let until = std::time::Instant::now() + SOON;
        loop {
            match take()? {
                None if std::time::Instant::now() < until => {
                    std::thread::sleep(std::time::Duration::from_millis(10))
                }
                outcome => return Ok(outcome),
            }
        }
    }

    /// The same for a file that must be there.
    ///
    /// # Errors
    /// Those of open(2), NotFound among them, and of flock(2).
    pub fn take_existing(path: &Path) -> io::Result<Option<Lock>> {
        Lock::open(path, false, nix::fcntl::FlockArg::LockExclusiveNonblock)
    }

    /// As `take_soon`, of a file that must be ours or root's alone: where others can put one in its place, or
    /// hold it, it keeps nobody out.
    ///
    /// # Errors
    /// As `take`; PermissionDenied with a `trust::Distrust`.
    pub fn take_own(path: &Path) -> io::Result<Option<Lock>> {
        // A link, or in a directory like /tmp a file of a stranger's, is not even opened.
        let cannot =
            |cause: io::Error| match fs::symlink_metadata(path).map(|found| trust::judge(path, &found)) {
                Ok(Err(why)) => why.into(),
                _ => cause,
            };
        let how = nix::fcntl::FlockArg::LockExclusiveNonblock;
        Lock::soon(|| {
            Lock::hold(path, how, || {
                let file = Lock::file(path, true).map_err(cannot)?;
                trust::judge_open(path, &file)?;
                Ok(file)
            })
        })
    }

    /// As `take`, or with a moment's patience, of a file that people share with whom they like: no link of a
    /// stranger on the way to it is followed. Root shares with nobody: to it the file, and the way, must be
    /// its own.
    ///
    /// # Errors
    /// As `take`; PermissionDenied with a `trust::Distrust`.
    pub fn take_shared(path: &Path, soon: bool) -> io::Result<Option<Lock>> {
        let how = nix::fcntl::FlockArg::LockExclusiveNonblock;
        let is_root = user::own_uid() == 0;
        let take = || {
            let real = if is_root { trust::way(path)? } else { trust::led(path)? };
            Lock::hold(&real, how, || {
                let file = directory::open_without_links(&real, Purpose::Lock)?;
                if is_root {
                    trust::judge_named(&real, &file)?;
                }
                Ok(file)
            })
        };
        if soon { Lock::soon(take) } else { take() }
    }

    fn file(path: &Path, create: bool) -> io::Result<File> {
        OpenOptions::new()
            .create(create)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    }

    fn open(path: &Path, create: bool, how: nix::fcntl::FlockArg) -> io::Result<Option<Lock>> {
        Lock::hold(path, how, || Lock::file(path, create))
    }

    fn hold(
        path: &Path,
        how: nix::fcntl::FlockArg,
        open: impl Fn() -> io::Result<File>,
    ) -> io::Result<Option<Lock>> {
        loop {
            let file = open()?;
            match nix::fcntl::Flock::lock(file, how) {
                // Whoever had it may have removed the file between our open and our lock; then nobody else
                // would see ours.
                Ok(lock) if !same_file(&lock.metadata()?, path) => {}
                Ok(lock) => return Ok(Some(Lock(lock))),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno.into()),
            }
        }
    }

    /// The lock on a file that was not made to be locked, and that may be nobody's to write: its own,
    /// whatever it is called and wherever it is linked. `None` when another process has it.
    ///
    /// # Errors
    /// Those of open(2) and flock(2): of a file system that has no such locks too.
    pub fn on_file(path: &Path) -> io::Result<Option<Lock>> {
        loop {
            let file = open_regular(path)?;
            match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
                Ok(lock) if FileId::of(path) != Some(FileId::from(&lock.metadata()?)) => {}
                Ok(lock) => return Ok(Some(Lock(lock))),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno.into()),
            }
        }
    }

    /// Which file is locked.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn id(&self) -> io::Result<FileId> {
        Ok(FileId::from(&self.0.metadata()?))
    }

    /// Whether the locked file is still the one that `path` leads to: nobody has removed or replaced it.
    pub fn is_at(&self, path: &Path) -> bool {
        self.id().is_ok_and(|id| FileId::of(path) == Some(id))
    }

    /// Writes `text` into the locked file, to inform whoever is refused.
    ///
    /// # Errors
    /// Those of ftruncate(2) and write(2).
    pub fn inform(&self, text: &str) -> io::Result<()> {
        // First the words, then the length: whoever is killed in between leaves a first line that is whole.
        self.0.write_all_at(text.as_bytes(), 0)?;
        self.0.set_len(text.len() as u64)
    }

    /// What was written into it, at most `limit` bytes.
    ///
    /// # Errors
    /// Those of pread(2).
    pub fn words(&self, limit: usize) -> io::Result<String> {
        let mut bytes = vec![0u8; limit];
        let count = self.0.read_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    /// A descriptor to be inherited: the lock is held until all of them are closed, whoever has them.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn share(&self) -> io::Result<std::os::fd::OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// The same, and the lock is ours no more: dropping a `Lock` frees it whoever has inherited it, dropping
    /// this closes one descriptor of it.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn into_shared(self) -> io::Result<std::os::fd::OwnedFd> {
        let fd = self.share()?;
        let own = std::os::fd::AsRawFd::as_raw_fd(&*self.0);
        std::mem::forget(self.0);
        nix::unistd::close(own)?;
        Ok(fd)
    }
}

fn same_file(open: &fs::Metadata, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (open.dev(), open.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever removes the file that he has locked leaves nobody with a lock that nobody else would see.
    #[test]
    fn a_lock_is_on_the_file_that_has_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3000 {
                    if let Some(lock) = Lock::take(&path).unwrap() {
                        let _ = fs::remove_file(&path);
                        drop(lock);
                    }
                }
                over.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                if let Some(lock) = Lock::take(&path).unwrap() {
                    assert!(same_file(&lock.0.metadata().unwrap(), &path));
                }
            }
        });
    }

    #[test]
    fn one_of_two_gets_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_lasts_as_long_as_anybody_who_has_inherited_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let fd = Lock::take(&path).unwrap().unwrap().into_shared().unwrap();
        let other = fd.try_clone().unwrap();
        drop(fd);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(other);
        let (one, two) =
            (Lock::take_share(&path).unwrap().unwrap(), Lock::take_share(&path).unwrap().unwrap());
        drop(one);
        assert!(Lock::take(&path).unwrap().is_none());
        drop(two);
        // A file that is gone is no lock that anybody could see: it is made again.
        let held = Lock::take(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(Lock::take(&path).unwrap().is_some());
        drop(held);
    }
}
