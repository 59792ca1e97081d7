//! A command under a lease: started by a guardian, told how long the lease lasts, and heard of when nothing
//! of it lives. What the guardian does not do in time, because it is stopped, killed or hangs, is done from
//! here.

use crate::act::lease::deadline::Deadline;
use crate::act::lease::guard;
use crate::act::lease::hold::now;
use crate::act::lease::holder::{Holder, Measure, Warden};
use crate::act::lease::line::{Line, Wire};
use crate::life::{self, Leftover, Wall};
use crate::store::Claim;
use crate::sys::cgroup::CgroupParent;
use crate::sys::child::{self, Exit, Spec};
use crate::sys::process::Identity;
use crate::sys::signal::Signal;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::stamp;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// A condition does not count the time of a suspend, so it is never trusted for longer.
const TICK: Duration = Duration::from_millis(100);

/// What has become of the command. Nothing of it lives then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnding {
    /// It ended so; whether it was ended because the lease was.
    Command(Exit, bool),
    /// It could not be started: 126 or 127, and why.
    NotStarted(Status, String),
    /// Its guardian was killed, and it with it.
    Unguarded,
}

/// A command that runs under a lease.
pub struct LeasedRun {
    wire: Wire,
    watch: Arc<WardenWatch>,
    thread: Option<JoinHandle<()>>,
}

impl LeasedRun {
    /// Starts `command` under `claim`, as long as `holder` may act on it, with `env` besides the lease's own
    /// variables. It and all that it starts inherit `keep`.
    ///
    /// # Errors
    /// When no guardian can be started; what becomes of the command is heard.
    pub fn start(
        claim: &Claim,
        holder: &Holder,
        command: &[OsString],
        env: Vec<(OsString, OsString)>,
        keep: Vec<OwnedFd>,
    ) -> Result<LeasedRun> {
        let cannot = |cause: std::io::Error| Error::io("cannot start a guardian", &cause);
        // What a guardian leaves that is killed is ours then; all of it, if there is nothing else that could
        // be.
        let adopts = child::adopt_orphans();
        let parent = CgroupParent::ours(|| false);
        let key = life::key(claim.lease.as_bytes());
        // Holder and guardian killed at once leave one behind that is empty, and nobody who removes it.
        parent.iter().for_each(|parent| Leftover::remove_empty(parent, &key));
        let mut wall = Wall::new(&key, parent.as_ref(), child::childless(), adopts);
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let theirs = OwnedFd::from(theirs);
        let mut spec = Spec::new(child::own_program().map_err(cannot)?, ["guard", "--"]);
        spec.args.extend(command.iter().cloned());
        spec.arg0 = Some("baa-lease".into());
        spec.env = variables(claim, holder.term());
        spec.env.push((guard::CONTROL.into(), theirs.as_raw_fd().to_string().into()));
        spec.env.extend(env);
        wall.share(&mut spec);
        // A guardian that is stopped while we are killed goes on, and finds that we are gone.
        spec.ends_with_us = Some(Signal::SIGCONT);
        spec.pass.push((theirs.as_raw_fd(), Arc::new(theirs)));
        spec.pass.extend(keep.into_iter().map(|fd| (fd.as_raw_fd(), Arc::new(fd))));
        let mut wire = Wire::new(ours).map_err(cannot)?;
        let warden = Warden::new(holder.until(), now()?);
        wire.say(Line::Until(holder.until()));
        let guardian = spec.start()?.identity;
        wall.entrust(guardian);
        let state = Mutex::new(WardenState { warden, over: false, acted: false });
        let watch = Arc::new(WardenWatch { guardian, wall, state, changed: Condvar::new() });
        let work = Arc::clone(&watch);
        let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || work.keep());
        match thread {
            Ok(thread) => Ok(LeasedRun { wire, watch, thread: Some(thread) }),
            Err(cause) => {
                watch.end();
                let _ = child::wait(guardian.pid);
                Err(cannot(cause))
            }
        }
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wire.stream.as_fd()
    }

    /// The lease lasts until then; `Deadline::NOW` ends the command at once.
    pub fn extend(&mut self, until: Deadline) {
        self.wire.say(Line::Until(until));
        // Without a clock it is over: then the guardian ends it too.
        self.watch.state().warden.extended(until, now().unwrap_or(Duration::MAX));
        self.watch.changed.notify_all();
        if until == Deadline::NOW {
            // It is to obey, even if somebody has stopped it.
            child::signal(self.watch.guardian, Signal::SIGCONT);
        }
    }

    /// Passes a signal on to the command, by its number.
    pub fn signal(&mut self, number: i32) {
        self.wire.say(Line::Signal(number));
    }

    /// Whether it has ended, and how. Not to be asked again after that.
    pub fn ended(&mut self) -> Option<RunEnding> {
        let (lines, more) = self.wire.hear();
        for line in lines {
            match line {
                Line::Failed(status, why) => return Some(self.over(RunEnding::NotStarted(status, why))),
                Line::Ended(exit, late) => return Some(self.over(RunEnding::Command(exit, late))),
                _ => {}
            }
        }
        if more {
            return None;
        }
        // The guardian was killed, and its command with it; what that has started is killed now.
        self.watch.end();
        let late = self.watch.state().acted;
        let killed = RunEnding::Command(Exit::Signal(Signal::SIGKILL as i32), true);
        Some(self.over(if late { killed } else { RunEnding::Unguarded }))
    }

    fn over(&mut self, ending: RunEnding) -> RunEnding {
        self.watch.state().over = true;
        self.watch.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = child::wait(self.watch.guardian.pid);
        ending
    }
}

/// The holder's own watch over the end of its lease, in a thread of its own: it acts though the holder waits
/// for a store.
struct WardenWatch {
    guardian: Identity,
    wall: Wall,
    state: Mutex<WardenState>,
    changed: Condvar,
}

struct WardenState {
    warden: Warden,
    /// Whether nothing is left to watch over.
    over: bool,
    /// Whether all was ended from here.
    acted: bool,
}

impl WardenWatch {
    fn state(&self) -> MutexGuard<'_, WardenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self) {
        let mut state = self.state();
        while !state.over {
            let at = now().unwrap_or(Duration::MAX);
            match state.warden.measure(at) {
                Measure::Leave => {}
                Measure::Tell => child::signal(self.guardian, Signal::SIGCONT),
                Measure::Kill => {
                    state.acted = true;
                    drop(state);
                    self.end();
                    return;
                }
            }
            let pause = state.warden.wakes().saturating_sub(at).clamp(Duration::from_millis(1), TICK);
            state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Kills the guardian, the command, and all that came of it.
    fn end(&self) {
        child::signal(self.guardian, Signal::SIGKILL);
        self.wall.kill();
    }
}

/// What a command is told of the lease that it runs under.
pub fn variables(claim: &Claim, term: u64) -> Vec<(OsString, OsString)> {
    let expires = SystemTime::now() + claim.ttl;
    vec![
        ("BAA_LEASE_NAME".into(), claim.lease.clone().into()),
        ("BAA_LEASE_TERM".into(), term.to_string().into()),
        ("BAA_LEASE_HOLDER".into(), claim.holder.clone().into()),
        ("BAA_LEASE_EXPIRES_AT".into(), stamp::millis(expires).into()),
    ]
}
