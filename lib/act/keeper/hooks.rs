//! Commands of the user that are run aside: each bounded, none waited for by the loop.

use crate::life;
use crate::sys::say::Voice;
use crate::sys::signal::Bell;
use crate::words::error::{Error, Result, reason};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A command of the user, and what it is told.
pub(super) struct Hook {
    /// The option that it is given by.
    pub(super) name: &'static str,
    /// What the shell runs.
    pub(super) command: String,
    /// Its variables.
    pub(super) env: Vec<(OsString, OsString)>,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// Those that run.
pub(super) struct RunningHooks {
    bell: Arc<Bell>,
    running: Arc<AtomicUsize>,
    cancelled: Arc<AtomicBool>,
}

/// Whether one of them is over.
pub(super) struct HookProgress(Arc<AtomicBool>);

impl HookProgress {
    pub(super) fn over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl RunningHooks {
    /// None.
    ///
    /// # Errors
    /// Those of pipe(2).
    pub(super) fn new() -> Result<RunningHooks> {
        let bell = Bell::new().map_err(|cause| Error::io("cannot keep a command", &cause))?;
        Ok(RunningHooks { bell: Arc::new(bell), running: Arc::default(), cancelled: Arc::default() })
    }

    /// Begins one; what goes wrong with it is told and changes nothing.
    pub(super) fn begin(&self, hook: Hook, voice: &Voice) -> HookProgress {
        let over = Arc::new(AtomicBool::new(false));
        let (done, bell, running) = (Arc::clone(&over), Arc::clone(&self.bell), Arc::clone(&self.running));
        let (said, cancelled, name) = (voice.clone(), Arc::clone(&self.cancelled), hook.name);
        running.fetch_add(1, Ordering::SeqCst);
        let work = move || {
            run(hook, &cancelled, &said);
            done.store(true, Ordering::SeqCst);
            running.fetch_sub(1, Ordering::SeqCst);
            bell.ring();
        };
        if let Err(cause) = std::thread::Builder::new().stack_size(512 * 1024).spawn(work) {
            voice.warn(format!("cannot run {name}: {}", reason(&cause)));
            over.store(true, Ordering::SeqCst);
            self.running.fetch_sub(1, Ordering::SeqCst);
        }
        HookProgress(over)
    }

    /// Readable when one may be over.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.fd()
    }

    /// Whether none runs.
    pub(super) fn are_over(&self) -> bool {
        self.bell.silence();
        self.running.load(Ordering::SeqCst) == 0
    }

    /// Ends them all, soon.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }
}

fn run(hook: Hook, cancelled: &AtomicBool, voice: &Voice) {
    if let Err(how) = life::run_hook(life::hook(&hook.command, hook.env), hook.limit, cancelled) {
        voice.warn(format!("{} {how}", hook.name));
    }
}
