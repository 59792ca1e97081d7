//! The guardian: the parent of the command, which ends it when the lease does, whatever has become of the holder.

use crate::act::lease::deadline::Deadline;
use crate::act::lease::line::{Line, Wire};
use crate::sys::child::{self, Signal, Spec};
use crate::sys::kernel;
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid, Watch};
use crate::sys::signal::Signals;
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The variable that tells the number of our end of the socket.
pub const CONTROL: &str = "BAA_LEASE_CONTROL_FD";
/// poll(2) does not count the time of a suspend, so it is never trusted for longer.
const TICK: Duration = Duration::from_millis(100);
/// How long what a command leaves behind may take to end by itself.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Runs `command` under the lease of whoever has started us; returns when nothing of it lives.
///
/// # Errors
/// When nobody has started us so.
pub fn guard(command: &[OsString]) -> Result<Status> {
    let number = std::env::var(CONTROL).ok().and_then(|number| number.parse().ok());
    let stream = number.and_then(|number| child::inherited(number).ok()).map(UnixStream::from);
    let mut wire = stream.and_then(|stream| Wire::new(stream).ok()).ok_or_else(|| Error::new(Status::Usage, "only baa-lease hold starts a guardian"))?;
    // No signal to the holder's terminal or group may end the one who is to end the command.
    // Caught and not heard; ignored they would be ignored by the command too (execve(2)).
    let unheard = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];
    let _signals = Signals::catch(&unheard).map_err(|cause| Error::io("cannot catch signals", &cause))?;
    child::adopt_orphans();
    let own = Identity::of(Pid::own()).ok_or_else(|| Error::bug("we are not alive"))?;
    let (program, arguments) = command.split_first().ok_or_else(|| Error::new(Status::Usage, "no command"))?;
    let mut spec = Spec::new(program, arguments);
    spec.unset.push(CONTROL.into());
    spec.ends_with_us = Some(Signal::SIGKILL);
    match spec.start() {
        Ok(started) => {
            let _ = wire.say(Line::Started(started.identity.pid.number(), started.identity.start.0));
            keep(&mut wire, started.identity, own);
        }
        Err(cause) => drop(wire.say(Line::Failed(cause.raw_os_error().unwrap_or(0)))),
    }
    Ok(Status::Done)
}

/// Watches over the command, a child of us, `own`, until it has ended, or is ended.
fn keep(wire: &mut Wire, command: Identity, own: Identity) {
    let watch = Watch::over(command).ok().flatten();
    // Until the first word nothing is known of the lease; the holder gives it before anything else.
    let mut deadline = Deadline { soft: Duration::MAX, hard: Duration::MAX };
    let (mut late, mut held) = (false, true);
    loop {
        let mut fds = Vec::new();
        fds.extend(watch.as_ref().and_then(Watch::fd).map(|fd| (fd, For::Reading)));
        if held {
            fds.push((wire.stream.as_fd(), For::Reading));
        }
        let _ = poll::wait(&fds, Some(Instant::now() + TICK));
        if let Some((_, exit)) = child::reap().into_iter().find(|(pid, _)| *pid == command.pid) {
            clear(own, Instant::now() + LEFTOVERS);
            let _ = wire.say(Line::Ended(exit, late));
            return;
        }
        if held {
            let (lines, more) = wire.hear();
            held = more;
            for line in lines {
                match line {
                    Line::Until(until) => deadline = until,
                    Line::Signal(number) => Signal::try_from(number).into_iter().for_each(|signal| child::signal(command, signal)),
                    _ => {}
                }
            }
        }
        let now = kernel::uptime().unwrap_or(Duration::MAX);
        // A holder that is gone renews no more: the command is told at once, and killed when the lease would have it.
        if (!held || now >= deadline.soft) && !late {
            late = true;
            child::members(&[own], &[]).into_iter().for_each(|one| child::signal(one, Signal::SIGTERM));
        }
        if now >= deadline.hard {
            child::kill_trees(&[own], &[]);
        }
    }
}

/// Ends what the command has left behind: a lease must not be given up while something of it runs.
fn clear(own: Identity, until: Instant) {
    let left = child::members(&[own], &[]);
    left.iter().for_each(|one| child::signal(*one, Signal::SIGTERM));
    while !child::members(&[own], &[]).is_empty() {
        if Instant::now() >= until {
            child::kill_trees(&[own], &[]);
        }
        std::thread::sleep(Duration::from_millis(5));
        child::reap();
    }
}
