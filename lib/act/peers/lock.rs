//! The registry's lock, as the npm package proper-lockfile holds it: a directory beside the file, whose time
//! of change is a heartbeat.
//!
//! Made with mkdir(2), refreshed every second, stale after ten, removed with rmdir(2); nothing is ever put
//! into it, for a stale directory that is not empty cannot be taken over (facts B2.8). Among ourselves a
//! kernel lock on the file comes first.

use crate::sys::directory::Directory;
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::signal::Signals;
use crate::sys::{file, kernel, poll, trust};
use crate::words::error::{Error, Result, reason};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Between two heartbeats.
const UPDATE: Duration = Duration::from_secs(1);
/// After which a heartbeat is nobody's any more.
const STALE: Duration = Duration::from_secs(10);
/// Pauses between attempts, as iapeer makes them.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why the lock is not ours.
#[derive(Debug)]
pub enum Refused {
    /// Somebody else holds it.
    Held,
    /// A signal came while we waited.
    Interrupted(crate::sys::signal::Signal),
    /// It cannot be made.
    Failed(Error),
}

/// The lock, held. Dropped, it is released.
pub struct RegistryLock {
    path: PathBuf,
    note: PathBuf,
    beat: Arc<Mutex<Beat>>,
    stop: Option<Sender<()>>,
    heart: Option<JoinHandle<()>>,
    _kernel: file::Lock,
}

/// The directory that we made, and the time that we gave it last.
struct Beat {
    directory: File,
    modified: SystemTime,
    lost: bool,
}

impl RegistryLock {
    /// Takes the lock on `target`, waiting until `until` at most. `note` is a file that remembers whose the
    /// lock is, so that one of ours that was killed is not waited for.
    ///
    /// # Errors
    /// See `Refused`.
    pub fn take(
        target: &Path,
        note: &Path,
        until: Instant,
        signals: &Signals,
    ) -> std::result::Result<RegistryLock, Refused> {
        let failed = |what: &Path, cause: &io::Error| {
            Refused::Failed(Error::io(format!("cannot lock {}", what.display()), cause))
        };
        let path = target.with_extension("lock.lock");
        let mut pause = FIRST_PAUSE;
        loop {
            // The target is an empty file that proper-lockfile wants to be there.
            if let Some(kernel) = file::Lock::take(target).map_err(|cause| failed(target, &cause))?
                && make(&path, note).map_err(|cause| failed(&path, &cause))?
            {
                return RegistryLock::hold(path.clone(), note, kernel).map_err(|cause| failed(&path, &cause));
            }
            let now = Instant::now();
            if now >= until {
                return Err(Refused::Held);
            }
            let ready = poll::wait(&[(signals.fd(), poll::For::Reading)], Some((now + pause).min(until)));
            if ready.is_ok_and(|ready| ready[0])
                && let Some(signal) = signals.take().first()
            {
                return Err(Refused::Interrupted(*signal));
            }
            pause = pause.mul_f64(1.4).min(LONGEST_PAUSE);
        }
    }

    fn hold(path: PathBuf, note: &Path, kernel: file::Lock) -> io::Result<RegistryLock> {
        let directory = Directory::open(&path)?.into_file();
        let made = directory.metadata()?;
        // At once, and not synced: it is only for whoever comes after a kill. Without it one of ours is
        // waited for like any other.
        let _ = file::write_anew(note, own_note(&path, &made).to_string().as_bytes());
        let beat = Arc::new(Mutex::new(Beat { directory, modified: made.modified()?, lost: false }));
        let (stop, stopped) = mpsc::channel();
        let heart = std::thread::spawn({
            let (beat, path) = (Arc::clone(&beat), path.clone());
            move || {
                while stopped.recv_timeout(UPDATE) == Err(RecvTimeoutError::Timeout) {
                    beat.lock().unwrap_or_else(PoisonError::into_inner).again(&path);
                }
            }
        });
        Ok(RegistryLock {
            path,
            note: note.to_owned(),
            beat,
            stop: Some(stop),
            heart: Some(heart),
            _kernel: kernel,
        })
    }

    /// Whether it is still ours. To be asked just before anything is changed.
    ///
    /// # Errors
    /// When somebody has taken it over, as one may after a suspend.
    pub fn check(&self) -> Result<()> {
        let mut beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.again(&self.path);
        if beat.lost {
            return Err(Error::new(
                Status::Lost,
                "cannot change the registry: its lock was taken over by another",
            ));
        }
        Ok(())
    }
}

impl Drop for RegistryLock {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
        let beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        if !beat.lost && beat.is_ours(&self.path) {
            let _ = std::fs::remove_dir(&self.path);
            let _ = std::fs::remove_file(&self.note);
        }
    }
}

impl Beat {
    fn is_ours(&self, path: &Path) -> bool {
        let same = |found: &Metadata, own: &Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
        let found = std::fs::symlink_metadata(path);
        let ours = found.ok().zip(self.directory.metadata().ok()).filter(|(found, own)| same(found, own));
        ours.is_some_and(|(found, _)| found.modified().is_ok_and(|modified| modified == self.modified))
    }

    /// One heartbeat, unless the lock is somebody else's by now. The time is set through the descriptor, so
    /// it can be set on no other directory than ours.
    fn again(&mut self, path: &Path) {
        if self.lost || !self.is_ours(path) {
            self.lost = true;
            return;
        }
        // A full or failing disk costs a heartbeat, not the lock; ten of them are missed before anybody takes
        // it over.
        if self.directory.set_modified(SystemTime::now()).is_ok()
            && let Ok(modified) = self.directory.metadata().and_then(|own| own.modified())
        {
            self.modified = modified;
        }
    }
}

/// Makes the directory; takes over one that is stale, or that one of ours has left that was killed. Says
/// whether it is made.
fn make(path: &Path, note: &Path) -> io::Result<bool> {
    let mkdir = || match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(cause) => Err(cause),
    };
    if mkdir()? {
        return Ok(true);
    }
    let Ok(found) = std::fs::symlink_metadata(path) else { return mkdir() };
    // A time ahead of now is a fresh one: proper-lockfile may set up to a second ahead (facts B2.8).
    let age = SystemTime::now().duration_since(found.modified()?).unwrap_or(Duration::ZERO);
    if age <= STALE && !left_by_the_dead(path, &found, note) {
        return Ok(false);
    }
    match std::fs::remove_dir(path) {
        Ok(()) => mkdir(),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => mkdir(),
        Err(cause) => Err(io::Error::new(
            cause.kind(),
            format!("it is stale and cannot be removed: {}", reason(&cause)),
        )),
    }
}

/// Inode and time of birth tell one directory from every other that has been at its path.
fn own_note(path: &Path, made: &Metadata) -> Value {
    let own = Identity::of(Pid::own());
    json!({
        "inode": made.ino(), "born": file::born(path), "boot": kernel::boot(),
        "pid": own.map(|own| own.pid.number()), "start": own.map(|own| own.start.0)
    })
}

fn left_by_the_dead(path: &Path, found: &Metadata, note: &Path) -> bool {
    let Some(noted) =
        trust::read(note, 4096).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
    else {
        return false;
    };
    let number = |key: &str| noted.get(key).and_then(Value::as_u64);
    let born = file::born(path);
    let the_same = number("inode") == Some(found.ino()) && born.is_some() && number("born") == born;
    let holder = number("pid").and_then(|pid| Pid::new(i32::try_from(pid).ok()?)).zip(number("start"));
    let lives = noted.get("boot").and_then(Value::as_str) == kernel::boot().as_deref()
        && holder.is_some_and(|(pid, start)| Identity { pid, start: Start(start) }.alive());
    the_same && !lives
}
