//! What makes a group the only one of its file: locks on the file itself, in the runtime directory and where
//! its logs are. Whoever cleans /run or /tmp takes none of it away for long.

use crate::service::group::GroupPaths;
use crate::sys::file::{FileId, Lock};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// As `Lock::take_soon`: whoever asks whether a lock is held has it for an instant.
const SOON: Duration = Duration::from_millis(500);

/// What a look at the locks has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldState {
    /// All is as it was.
    Kept,
    /// The runtime directory was gone, or a part of it: the locks are held again, the rest is to be made.
    Again,
    /// Another group has taken our place.
    Lost,
}

/// The locks.
pub(super) struct GroupHold {
    pub(super) paths: GroupPaths,
    /// The file by the name that it was started with, or has got since.
    pub(super) file: PathBuf,
    of_place: Lock,
    /// On the file itself; `None` where its file system knows no locks, or a stranger has it.
    of_file: Option<Lock>,
    /// Where logs are. Beside the others it tells of those who have neither file nor runtime directory in
    /// common with us.
    _of_logs: Option<Lock>,
}

impl GroupHold {
    /// Takes all of them.
    ///
    /// # Errors
    /// 75 when another one has them; 66, 74, 77.
    pub(super) fn take(path: &Path) -> Result<GroupHold> {
        let paths = GroupPaths::of(path)?;
        paths.make()?;
        let cannot = |cause: io::Error| Error::io("cannot run a group", &cause);
        let busy = || Error::new(Status::Busy, format!("cannot run {}: it runs already", path.display()));
        let of_place = Lock::take_soon(&paths.lock()).map_err(cannot)?.ok_or_else(busy)?;
        let of_file = lock_of(paths.file()).map_err(|()| busy())?;
        // A disk that is full must not keep a group from its start.
        let of_logs = match Lock::take_soon(&paths.logs_lock()) {
            Ok(None) => return Err(busy()),
            outcome => outcome.ok().flatten(),
        };
        let hold = GroupHold { paths, file: path.to_owned(), of_place, of_file, _of_logs: of_logs };
        hold.describe();
        Ok(hold)
    }

    /// Whether the runtime directory is as we have made it.
    pub(super) fn is_whole(&self) -> bool {
        self.of_place.is_at(&self.paths.lock())
    }

    /// Looks whether the locks are where others would look for them, and puts them there.
    pub(super) fn look(&mut self) -> HoldState {
        self.follow();
        if self.is_whole() {
            return if self.paths.control().exists() { HoldState::Kept } else { HoldState::Again };
        }
        let _ = self.paths.make();
        match Lock::take_soon(&self.paths.lock()) {
            Ok(Some(lock)) => {
                self.of_place = lock;
                self.describe();
                HoldState::Again
            }
            Ok(None) => HoldState::Lost,
            // A disk that is full, or a directory that is another's: tried again the next time.
            Err(_) => HoldState::Kept,
        }
    }

    /// An editor puts a new file in the place of the old one: that is locked from now on.
    fn follow(&mut self) {
        let Some(id) = FileId::of(&self.file) else { return };
        if self.of_file.as_ref().is_some_and(|lock| lock.id().ok() != Some(id))
            && let Ok(Some(lock)) = Lock::on_file(&self.file)
        {
            self.of_file = Some(lock);
            self.describe();
        }
    }

    /// Takes `path` for the name of the file, where that has no other any more and the file is the same.
    pub(super) fn rename(&mut self, path: &Path) {
        let same = self.of_file.as_ref().is_some_and(|lock| lock.is_at(path));
        if same && !self.file.exists() {
            self.file = path.to_owned();
        }
    }

    fn describe(&self) {
        let id = self.of_file.as_ref().and_then(|lock| lock.id().ok()).or_else(|| FileId::of(&self.file));
        // Without it the group is found by its first name only.
        let _ = self.paths.describe(id);
    }
}

/// The lock on the file; `Err` when another group has it.
fn lock_of(path: &Path) -> std::result::Result<Option<Lock>, ()> {
    let until = Instant::now() + SOON;
    loop {
        match Lock::on_file(path) {
            Ok(None) if !GroupPaths::rival(path) => return Ok(None),
            Ok(None) if Instant::now() >= until => return Err(()),
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            // A file system without such locks.
            outcome => return Ok(outcome.ok().flatten()),
        }
    }
}
