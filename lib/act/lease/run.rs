//! A command under a lease: started by a guardian, told how long the lease lasts, and heard of when nothing
//! of it lives.

use crate::act::lease::deadline::Deadline;
use crate::act::lease::guard;
use crate::act::lease::holder::Holder;
use crate::act::lease::line::{Line, Wire};
use crate::life;
use crate::store::Claim;
use crate::sys::child::{self, Exit, Spec};
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::signal::Signal;
use crate::words::error::{Error, Result, reason};
use crate::words::exit::Status;
use crate::words::stamp;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::SystemTime;

/// What has become of the command. Nothing of it lives then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnding {
    /// It ended so; whether it was ended because the lease was.
    Command(Exit, bool),
    /// It could not be started: the number of the error.
    NotStarted(i32),
    /// Its guardian was killed, and it with it.
    Unguarded,
}

/// A command that runs under a lease.
pub struct LeasedRun {
    wire: Wire,
    guardian: Pid,
    command: Option<Identity>,
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
        keep: Option<OwnedFd>,
    ) -> Result<LeasedRun> {
        let cannot = |cause: std::io::Error| Error::io("cannot start a guardian", &cause);
        // What a guardian leaves that is killed is ours then.
        child::adopt_orphans();
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let theirs = OwnedFd::from(theirs);
        let mut spec = Spec::new(std::env::current_exe().map_err(cannot)?, ["guard", "--"]);
        spec.args.extend(command.iter().cloned());
        spec.arg0 = Some("baa-lease".into());
        spec.env = variables(claim, holder.term());
        spec.env.push((guard::CONTROL.into(), theirs.as_raw_fd().to_string().into()));
        spec.env.extend(env);
        spec.pass.push((theirs.as_raw_fd(), Arc::new(theirs)));
        spec.pass.extend(keep.map(|fd| (fd.as_raw_fd(), Arc::new(fd))));
        let mut wire = Wire::new(ours).map_err(cannot)?;
        wire.say(Line::Until(holder.until())).map_err(cannot)?;
        let guardian = spec.start()?.identity.pid;
        Ok(LeasedRun { wire, guardian, command: None })
    }

    /// Readable when there is something to hear.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wire.stream.as_fd()
    }

    /// The lease lasts until then; `Deadline::NOW` ends the command at once.
    pub fn extend(&mut self, until: Deadline) {
        let _ = self.wire.say(Line::Until(until));
    }

    /// Passes a signal on to the command.
    pub fn signal(&mut self, signal: Signal) {
        let _ = self.wire.say(Line::Signal(signal as i32));
    }

    /// Whether it has ended, and how. Not to be asked again after that.
    pub fn ended(&mut self) -> Option<RunEnding> {
        let (lines, more) = self.wire.hear();
        for line in lines {
            match line {
                Line::Started(pid, start) => {
                    self.command = Pid::new(pid).map(|pid| Identity { pid, start: Start(start) })
                }
                Line::Failed(number) => return Some(self.reaped(RunEnding::NotStarted(number))),
                Line::Ended(exit, late) => return Some(self.reaped(RunEnding::Command(exit, late))),
                _ => {}
            }
        }
        if more {
            return None;
        }
        // The guardian was killed, and its command with it, or it is killed now.
        let roots: Vec<Identity> = self.command.into_iter().chain(Identity::of(Pid::own())).collect();
        life::kill_tree(&roots, &[]);
        Some(self.reaped(RunEnding::Unguarded))
    }

    fn reaped(&self, ending: RunEnding) -> RunEnding {
        let _ = child::wait(self.guardian);
        ending
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

/// Why a command could not be started.
pub fn not_started(number: i32, command: &[OsString]) -> Error {
    let cause = std::io::Error::from_raw_os_error(number);
    let name = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Error::new(Status::of_failed_start(&cause), format!("cannot run {name}: {}", reason(&cause)))
}
