//! `--lock`: the kernel's lock on a file is the truth. Nothing is ever written into it, for it may be
//! anybody's file, and nothing in it is believed; who holds it stands in a file of our own, named after what
//! the locked file is.

use crate::life;
use crate::sys::file::{self, FileId, Lock};
use crate::sys::kernel;
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::signal::{Signal, Signals};
use crate::sys::trust;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a lock that another has is looked at (the seed's poll).
const LOOK: Duration = Duration::from_millis(100);
const WORDS: u64 = 4096;

/// A file to lock.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// The file, made where it is missing.
    pub path: PathBuf,
    /// How long to wait for it.
    pub wait: Duration,
}

/// A file that is locked.
#[derive(Debug)]
pub(super) struct Held {
    lock: Lock,
    /// The name of the locked file among ours.
    key: String,
}

/// What came of a wait for a lock.
#[derive(Debug)]
pub(super) enum Taken<T> {
    Held(T),
    Signal(Signal),
}

impl LockRequest {
    /// Takes the lock if it is free now, or, with a moment's patience, in a moment.
    ///
    /// # Errors
    /// 74, 77 when the file cannot be made, and where another user can say which one it is.
    pub(super) fn take_now(&self, soon: bool) -> Result<Option<Held>> {
        let cannot = |cause: std::io::Error| {
            let link = std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_symlink());
            let what = if link { "the symbolic link " } else { "" };
            Error::io(format!("cannot lock {what}'{}'", self.path.display()), &cause)
        };
        let taken = Lock::take_shared(&self.path, soon);
        let Some(lock) = taken.map_err(cannot)? else { return Ok(None) };
        let key = key(lock.id().map_err(cannot)?);
        let held = Held { lock, key };
        held.tell();
        Ok(Some(held))
    }

    /// Takes the lock before anything else is done, or waits for it; a signal ends the wait.
    ///
    /// # Errors
    /// 75 when another process has it all the time; 74, 77 when the file cannot be made.
    pub(super) fn take(&self, signals: &Signals) -> Result<Taken<Held>> {
        let until = Instant::now() + self.wait;
        loop {
            if let Some(held) = self.take_now(false)? {
                return Ok(Taken::Held(held));
            }
            let now = Instant::now();
            if now >= until {
                return Err(self.refusal());
            }
            let ready = poll::wait(&[(signals.fd(), For::Reading)], Some(until.min(now + LOOK)))
                .map_err(|cause| Error::io("cannot wait", &cause))?;
            let ends = |signal: &Signal| matches!(signal, Signal::SIGTERM | Signal::SIGINT);
            if ready[0]
                && let Some(signal) = signals.take().into_iter().find(ends)
            {
                return Ok(Taken::Signal(signal));
            }
        }
    }

    /// Why nothing is started: who has the lock.
    pub(super) fn refusal(&self) -> Error {
        let holder = holder(&self.path)
            .map_or_else(|| "another process".to_owned(), |holder| format!("process {}", holder.pid));
        Error::new(Status::Busy, format!("cannot start: {holder} holds '{}'", self.path.display()))
    }
}

/// The name of a file that tells it from every other, however it is reached: its device and number.
fn key(id: FileId) -> String {
    life::key(format!("lock {} {}", id.device, id.inode).as_bytes())
}

/// Where we write of locks.
fn directory() -> PathBuf {
    file::runtime_dir().join("locks")
}

/// The keeper that holds the lock of a file, as far as we have written it down.
fn holder(path: &Path) -> Option<Identity> {
    let path = directory().join(format!("{}.json", key(FileId::of(path)?)));
    let words: Value = serde_json::from_slice(&trust::read(&path, WORDS).ok()?).ok()?;
    let pid = Pid::new(i32::try_from(words["keeper"].as_i64()?).ok()?)?;
    let holder = Identity { pid, start: Start(words["start"].as_u64()?) };
    (words["boot"] == json!(kernel::boot()) && holder.alive()).then_some(holder)
}

impl Held {
    /// The name of the lock.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where the lives under it are written down.
    pub(super) fn record(&self) -> PathBuf {
        directory().join(format!("{}.lives", self.key))
    }

    /// Whether the path still leads to it.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.lock.is_at(path)
    }

    /// Writes down who we are. It only informs: without it whoever is refused is told less.
    pub(super) fn tell(&self) {
        let own = Identity::own();
        let words =
            json!({ "keeper": own.pid.number(), "start": own.start.0, "boot": kernel::boot() }).to_string();
        let path = directory().join(format!("{}.json", self.key));
        let _ = file::own_dir(&file::runtime_dir())
            .and_then(|_| file::private_dir(&directory()))
            .and_then(|_| file::replace_soon(&path, format!("{words}\n").as_bytes(), 0o600));
    }
}
