//! The holder: takes the lease, has a guardian run the command, renews while it runs, and gives the lease up when nothing of it lives.

use crate::act::lease::guard;
use crate::act::lease::holder::{Holder, Renewal};
use crate::act::lease::line::{Line, Wire};
use crate::act::lease::name;
use crate::store::{Answer, Claim, Store};
use crate::sys::child::{self, Exit, Spec};
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid, Start};
use crate::sys::say::Voice;
use crate::sys::signal::{Signal, Signals};
use crate::sys::{clock, kernel, memory};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

/// poll(2) does not count the time of a suspend, so it is never trusted for longer.
const TICK: Duration = Duration::from_secs(1);
/// Signals that the command gets.
const PASSED_ON: [Signal; 6] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// What to hold, and how.
pub struct Order<'a> {
    /// The claim.
    pub claim: Claim,
    /// How often to renew, at most.
    pub interval: Duration,
    /// How long to wait for a lease that another has; `None` is without end.
    pub wait: Option<Duration>,
    /// What to run.
    pub command: &'a [OsString],
}

/// Runs the command under the lease; the status is the command's own, or says why it did not run to its end.
///
/// # Errors
/// 75 not acquired, 124 not in time, 69 the store cannot be asked, 76 lost while running, 126 and 127 the command cannot be run.
pub fn hold(store: &dyn Store, order: &Order<'_>, voice: &Voice) -> Result<Status> {
    let signals = Signals::catch(&PASSED_ON).map_err(|cause| Error::io("cannot catch signals", &cause))?;
    let holder = match acquire(store, order, &signals, voice)? {
        Taken::Lease(holder) => holder,
        Taken::Signal(signal) => return Ok(Status::Signal(signal as u8)),
    };
    let term = holder.term();
    voice.step(format!("leader of {} under term {term}", order.claim.lease));
    let mut run = Run::start(store, order, holder)?;
    memory::shrink();
    let ended = run.until_it_ends(&signals, voice);
    let release = |voice: &Voice| match store.release(&order.claim, term) {
        Ok(_) => voice.step(format!("released {}", order.claim.lease)),
        Err(error) => voice.warn(format!("the lease is not given up, and runs out by itself: {error}")),
    };
    let lost = |why: String| Err(Error::new(Status::Lost, format!("lost {} under term {term}: {why}", order.claim.lease)));
    match ended {
        Ended::Command(exit) => {
            release(voice);
            Ok(match exit {
                Exit::Code(code) => Status::Command(u8::try_from(code).unwrap_or(u8::MAX)),
                Exit::Signal(number) => Status::Signal(u8::try_from(number).unwrap_or(0)),
            })
        }
        Ended::NotStarted(number) => {
            release(voice);
            let cause = std::io::Error::from_raw_os_error(number);
            let name = order.command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Err(Error::new(Status::of_failed_start(&cause), format!("cannot run {name}: {}", crate::words::error::reason(&cause))))
        }
        Ended::Lost(why) => lost(why),
    }
}

enum Taken {
    Lease(Holder),
    Signal(Signal),
}

fn now() -> Result<Duration> {
    kernel::uptime().ok_or_else(|| Error::new(Status::Io, "cannot read the clock since boot"))
}

fn acquire(store: &dyn Store, order: &Order<'_>, signals: &Signals, voice: &Voice) -> Result<Taken> {
    let end = order.wait.map(|wait| clock::after(Instant::now(), wait));
    let mut said = false;
    loop {
        let sent = now()?;
        let answer = store.acquire(&order.claim);
        // A store that cannot be reached may be in a moment; what else it says is final.
        let (unknown, answer) = match answer {
            Err(error) if error.status == Status::Unavailable && !order.wait.is_some_and(|wait| wait.is_zero()) => (Some(error), None),
            answer => (None, Some(answer?)),
        };
        let held = match answer {
            None => unknown.as_ref().map(ToString::to_string).unwrap_or_default(),
            Some(Answer::Ours { term, .. }) => {
                let holder = Holder::granted(sent, term, order.claim.ttl, order.interval);
                // An answer that took too long grants nothing any more.
                if holder.may_begin(now()?) {
                    return Ok(Taken::Lease(holder));
                }
                format!("the store took too long to grant {}", order.claim.lease)
            }
            Some(Answer::Held(record)) => name::held(&order.claim.lease, &record),
        };
        if order.wait.is_some_and(|wait| wait.is_zero()) {
            return Err(Error::new(Status::Busy, format!("cannot acquire: {held}")));
        }
        if !std::mem::replace(&mut said, true) {
            voice.step(format!("waiting: {held}"));
        }
        let at = Instant::now();
        if end.is_some_and(|end| at >= end) {
            return Err(unknown.unwrap_or_else(|| Error::new(Status::TooLate, format!("cannot acquire in time: {held}"))));
        }
        let until = end.map_or(at + store.pace(), |end| end.min(at + store.pace()));
        let ready = poll::wait(&[(signals.fd(), For::Reading)], Some(until)).map_err(|cause| Error::io("cannot wait", &cause))?;
        if ready[0]
            && let Some(signal) = signals.take().into_iter().find(|signal| !matches!(signal, Signal::SIGUSR1 | Signal::SIGUSR2))
        {
            return Ok(Taken::Signal(signal));
        }
    }
}

enum Ended {
    Command(Exit),
    NotStarted(i32),
    Lost(String),
}

/// A command that runs under a lease.
struct Run<'a> {
    store: &'a dyn Store,
    claim: &'a Claim,
    holder: Holder,
    wire: Wire,
    guardian: Pid,
    command: Option<Identity>,
}

impl<'a> Run<'a> {
    fn start(store: &'a dyn Store, order: &'a Order<'a>, holder: Holder) -> Result<Run<'a>> {
        let cannot = |cause: std::io::Error| Error::io("cannot start a guardian", &cause);
        // What a guardian leaves that is killed is ours then.
        child::adopt_orphans();
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let theirs = OwnedFd::from(theirs);
        let mut spec = Spec::new(std::env::current_exe().map_err(cannot)?, ["guard", "--"]);
        spec.args.extend(order.command.iter().cloned());
        spec.arg0 = Some("baa-lease".into());
        let expires = SystemTime::now() + order.claim.ttl;
        spec.env = vec![
            (guard::CONTROL.into(), theirs.as_raw_fd().to_string().into()),
            ("BAA_LEASE_NAME".into(), order.claim.lease.clone().into()),
            ("BAA_LEASE_TERM".into(), holder.term().to_string().into()),
            ("BAA_LEASE_HOLDER".into(), order.claim.holder.clone().into()),
            ("BAA_LEASE_EXPIRES_AT".into(), humantime::format_rfc3339_millis(expires).to_string().into()),
        ];
        spec.keep = Some(theirs);
        let mut wire = Wire::new(ours).map_err(cannot)?;
        wire.say(Line::Until(holder.until())).map_err(cannot)?;
        let guardian = spec.start().map_err(cannot)?.identity.pid;
        Ok(Run { store, claim: &order.claim, holder, wire, guardian, command: None })
    }

    fn until_it_ends(&mut self, signals: &Signals, voice: &Voice) -> Ended {
        let mut lost: Option<String> = None;
        loop {
            let at = now().unwrap_or(Duration::MAX);
            let pause = self.holder.due().map_or(TICK, |due| due.saturating_sub(at)).min(TICK);
            let fds = [(self.wire.stream.as_fd(), For::Reading), (signals.fd(), For::Reading)];
            let _ = poll::wait(&fds, Some(Instant::now() + pause));
            for signal in signals.take() {
                let _ = self.wire.say(Line::Signal(signal as i32));
            }
            let (lines, more) = self.wire.hear();
            for line in lines {
                match line {
                    Line::Started(pid, start) => self.command = Pid::new(pid).map(|pid| Identity { pid, start: Start(start) }),
                    Line::Failed(number) => return self.reaped(Ended::NotStarted(number)),
                    Line::Ended(exit, late) => {
                        let why = lost.or_else(|| late.then(|| "it could not be renewed in time".to_owned()));
                        return self.reaped(why.map_or(Ended::Command(exit), Ended::Lost));
                    }
                    _ => {}
                }
            }
            if !more {
                // The guardian was killed, and its command with it, or it is killed now.
                let roots: Vec<Identity> = self.command.into_iter().chain(Identity::of(Pid::own())).collect();
                child::kill_trees(&roots, &[]);
                return self.reaped(Ended::Lost("its guardian was killed".to_owned()));
            }
            if self.holder.due().is_some_and(|due| now().is_ok_and(|now| now >= due)) {
                match self.renew() {
                    Ok(Renewal::Extended(until)) => drop(self.wire.say(Line::Until(until))),
                    Ok(Renewal::Lost) => {
                        lost = Some("another has it".to_owned());
                        drop(self.wire.say(Line::Until(self.holder.until())));
                    }
                    Ok(Renewal::Unknown) => {}
                    Err(error) => voice.warn(format!("cannot renew, {} left: {error}", self.left())),
                }
            }
        }
    }

    /// Renews; the time is taken before the store is asked.
    fn renew(&mut self) -> Result<Renewal> {
        let sent = now()?;
        self.holder.sent(sent);
        let answer = self.store.renew(self.claim, self.holder.term());
        let renewal = self.holder.answered(sent, &answer, now()?);
        answer.map(|_| renewal)
    }

    fn left(&self) -> String {
        crate::words::span::show(self.holder.until().soft.saturating_sub(now().unwrap_or(Duration::MAX)))
    }

    fn reaped(&self, ended: Ended) -> Ended {
        let _ = child::wait(self.guardian);
        ended
    }
}
