//! `--lock`: the kernel's lock on a file is the truth, and what is written into it informs: who holds it, and
//! which process runs under it.

use crate::sys::file::Lock;
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid};
use crate::sys::signal::{Signal, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a lock that another has is looked at (the seed's poll).
const LOOK: Duration = Duration::from_millis(100);
const WORDS: usize = 4096;

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
    /// The process that the one before us has left, if it was killed.
    pub(super) left: Option<Value>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Taken {
    Held(Held),
    Signal(Signal),
}

impl LockRequest {
    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// 74, 77 when the file cannot be made.
    pub(super) fn take_now(&self) -> Result<Option<Held>> {
        let taken = Lock::take(&self.path)
            .map_err(|cause| Error::io(format!("cannot lock '{}'", self.path.display()), &cause))?;
        Ok(taken.map(|lock| {
            let left =
                lock.words(WORDS).ok().and_then(|words| serde_json::from_str(words.lines().next()?).ok());
            let held = Held { lock, left };
            held.inform(&json!({}));
            held
        }))
    }

    /// Takes the lock before anything else is done, or waits for it; a signal ends the wait.
    ///
    /// # Errors
    /// 75 when another process has it all the time; 74, 77 when the file cannot be made.
    pub(super) fn take(&self, signals: &Signals) -> Result<Taken> {
        let until = Instant::now() + self.wait;
        loop {
            if let Some(held) = self.take_now()? {
                return Ok(Taken::Held(held));
            }
            let now = Instant::now();
            if now >= until {
                return Err(Error::new(Status::Busy, refusal(&self.path)));
            }
            let ready = poll::wait(&[(signals.fd(), For::Reading)], Some(until.min(now + LOOK)))
                .map_err(|cause| Error::io("cannot wait", &cause))?;
            if ready[0]
                && let Some(signal) = signals
                    .take()
                    .into_iter()
                    .find(|signal| matches!(signal, Signal::SIGTERM | Signal::SIGINT))
            {
                return Ok(Taken::Signal(signal));
            }
        }
    }
}

/// Why nothing is started: who has the lock.
pub(super) fn refusal(path: &Path) -> String {
    let words = crate::sys::file::read(path, WORDS as u64).unwrap_or_default();
    let pid = serde_json::from_slice::<Value>(words.split(|byte| *byte == b'\n').next().unwrap_or_default())
        .ok()
        .and_then(|words| words["keeper"].as_i64());
    let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    format!("cannot start: {holder} holds '{}'", path.display())
}

impl Held {
    /// Writes down who we are, with `command` that runs under us: its pid, its start, this boot.
    pub(super) fn inform(&self, command: &Value) {
        let own = Identity::of(Pid::own()).map(|own| own.start.0);
        let mut words = json!({ "keeper": std::process::id(), "keeper_start": own });
        for key in ["pid", "start", "boot", "beside"] {
            words[key] = command[key].clone();
        }
        let _ = self.lock.inform(&format!("{words}\n"));
    }
}
