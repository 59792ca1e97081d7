//! The guardian: the parent of the command, which ends it when the lease does, whatever has become of the
//! holder.

use crate::act::lease::holder::{GuardianState, Measure};
use crate::act::lease::line::{Line, Wire};
use crate::life;
use crate::sys::child::{self, Exit, Signal, Spec};
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Pid, Watch};
use crate::sys::signal::Signals;
use crate::sys::{kernel, memory};
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
/// How long the holder's first word may take, which is said before we are started.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// How long what a command leaves behind may take to end by itself.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Runs `command` under the lease of whoever has started us; returns when nothing of it lives.
///
/// # Errors
/// When nobody has started us so.
pub fn guard(command: &[OsString]) -> Result<Status> {
    let number = std::env::var(CONTROL).ok().and_then(|number| number.parse().ok());
    let stream = number.and_then(|number| child::inherited(number).ok()).map(UnixStream::from);
    let mut wire = stream
        .and_then(|stream| Wire::new(stream).ok())
        .ok_or_else(|| Error::new(Status::Usage, "only baa-lease hold starts a guardian"))?;
    // No signal to the holder's terminal or group may end the one who is to end the command.
    // Caught and not heard; ignored they would be ignored by the command too (execve(2)).
    let unheard = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];
    let _signals = Signals::catch(&unheard).map_err(|cause| Error::io("cannot catch signals", &cause))?;
    child::adopt_orphans();
    let own = Identity::of(Pid::own()).ok_or_else(|| Error::bug("we are not alive"))?;
    // The holder's first word is there before we are; without it, or too late for it, nothing is begun.
    let _ = poll::wait(&[(wire.stream.as_fd(), For::Reading)], Some(Instant::now() + FIRST_WORD));
    let (lines, _) = wire.hear();
    let until =
        lines.into_iter().find_map(|line| if let Line::Until(until) = line { Some(until) } else { None });
    let Some(until) = until.filter(|until| kernel::uptime().is_some_and(|now| now < until.soft)) else {
        let _ = wire.say(Line::Ended(Exit::Signal(Signal::SIGTERM as i32), true));
        return Ok(Status::Done);
    };
    memory::shrink();
    let (program, arguments) =
        command.split_first().ok_or_else(|| Error::new(Status::Usage, "no command"))?;
    let mut spec = Spec::new(program, arguments);
    spec.unset.push(CONTROL.into());
    spec.ends_with_us = Some(Signal::SIGKILL);
    match spec.start() {
        Ok(started) => {
            let _ = wire.say(Line::Started(started.identity.pid.number(), started.identity.start.0));
            keep(&mut wire, started.identity, own, GuardianState::new(until));
        }
        Err(error) => drop(wire.say(Line::Failed(error.cause.raw_os_error().unwrap_or(0)))),
    }
    Ok(Status::Done)
}

/// Watches over the command, a child of us, `own`, until it has ended, or is ended.
fn keep(wire: &mut Wire, command: Identity, own: Identity, mut guard: GuardianState) {
    let watch = Watch::over(command).ok().flatten();
    let mut held = true;
    loop {
        let mut fds = Vec::new();
        fds.extend(watch.as_ref().and_then(Watch::fd).map(|fd| (fd, For::Reading)));
        if held {
            fds.push((wire.stream.as_fd(), For::Reading));
        }
        let _ = poll::wait(&fds, Some(Instant::now() + TICK));
        if let Some((_, exit)) = child::reap().into_iter().find(|(pid, _)| *pid == command.pid) {
            clear(own, Instant::now() + LEFTOVERS);
            let _ = wire.say(Line::Ended(exit, guard.told()));
            return;
        }
        if held {
            let (lines, more) = wire.hear();
            held = more;
            if !held {
                guard.abandoned(kernel::uptime().unwrap_or(Duration::MAX));
            }
            for line in lines {
                match line {
                    Line::Until(until) => guard.extended(until),
                    Line::Signal(number) => {
                        Signal::try_from(number).into_iter().for_each(|signal| child::signal(command, signal))
                    }
                    _ => {}
                }
            }
        }
        match guard.measure(kernel::uptime().unwrap_or(Duration::MAX)) {
            Measure::Leave => {}
            Measure::Tell => {
                life::tree(&[own], &[]).into_iter().for_each(|one| child::signal(one, Signal::SIGTERM))
            }
            Measure::Kill => drop(life::kill_tree(&[own], &[])),
        }
    }
}

/// Ends what the command has left behind: a lease must not be given up while something of it runs.
fn clear(own: Identity, until: Instant) {
    let left = life::tree(&[own], &[]);
    left.iter().for_each(|one| child::signal(*one, Signal::SIGTERM));
    while !life::tree(&[own], &[]).is_empty() {
        if Instant::now() >= until {
            life::kill_tree(&[own], &[]);
        }
        std::thread::sleep(Duration::from_millis(5));
        child::reap();
    }
}
