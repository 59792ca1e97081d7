//! The guardian: the parent of the command, which ends it when the lease does, whatever has become of the
//! holder. It signals and awaits the command as a child of its own, without /proc, and never waits for the
//! holder to listen.

use crate::act::lease::holder::{GuardianState, Measure};
use crate::act::lease::line::{Line, Wire};
use crate::life::Wall;
use crate::sys::child::{self, Exit, Signal, Spec};
use crate::sys::poll::{self, For};
use crate::sys::process::{Identity, Watch};
use crate::sys::revival::Revival;
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
/// The same while leftovers of the command are waited for.
const SOON: Duration = Duration::from_millis(5);
/// How long the holder's first word may take, which is said before we are started.
const FIRST_WORD: Duration = Duration::from_secs(1);

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
    let adopts = child::adopt_orphans();
    let mut wall = Wall::shared(adopts).ok_or_else(|| Error::bug("a guardian without a wall"))?;
    // The holder's first word is there before we are; without it, or too late for it, nothing is begun.
    let _ = poll::wait(&[(wire.stream.as_fd(), For::Reading)], Some(Instant::now() + FIRST_WORD));
    let (lines, _) = wire.hear();
    let state = lines
        .into_iter()
        .find_map(|line| if let Line::Until(until) = line { Some(GuardianState::new(until)) } else { None });
    let Some(state) = state.filter(|state| state.may_begin(now())) else {
        wire.say(Line::Ended(Exit::Signal(Signal::SIGTERM as i32), true));
        return Ok(Status::Done);
    };
    let (program, arguments) =
        command.split_first().ok_or_else(|| Error::new(Status::Usage, "no command"))?;
    let mut spec = Spec::new(program, arguments);
    spec.unset.push(CONTROL.into());
    spec.ends_with_us = Some(Signal::SIGKILL);
    memory::shrink();
    match wall.start(spec) {
        Ok(started) => {
            wire.say(Line::Started);
            let guard = Guard { wire, wall, adopts, command: started.identity, state, exit: None };
            guard.keep();
        }
        Err(error) => wire.say(Line::Failed(error.status(), error.to_string())),
    }
    Ok(Status::Done)
}

/// Since the machine's boot; where the kernel does not tell, no lease lasts.
fn now() -> Duration {
    kernel::uptime().unwrap_or(Duration::MAX)
}

struct Guard {
    wire: Wire,
    wall: Wall,
    /// Whether all that comes of the command falls to us at last.
    adopts: bool,
    command: Identity,
    state: GuardianState,
    /// How the command has ended.
    exit: Option<Exit>,
}

impl Guard {
    /// Watches over the command and what comes of it until nothing lives.
    fn keep(mut self) {
        let watch = Watch::over(self.command).ok().flatten();
        // Whoever stops us does not keep us from the end of the lease.
        let revival = Revival::new();
        let mut held = true;
        loop {
            revival.set(self.state.revives());
            let mut fds = Vec::new();
            if self.exit.is_none() {
                fds.extend(watch.as_ref().and_then(Watch::fd).map(|fd| (fd, For::Reading)));
            }
            if held {
                fds.push((self.wire.stream.as_fd(), For::Reading));
            }
            let tick = if self.exit.is_some() { SOON } else { TICK };
            let pause = self.state.wakes().saturating_sub(now()).clamp(Duration::from_millis(1), tick);
            let _ = poll::wait(&fds, Some(Instant::now() + pause));
            let dead = child::reap().into_iter().find(|(pid, _)| *pid == self.command.pid);
            if let Some((_, exit)) = dead {
                self.exit = Some(exit);
                self.state.ended(now());
            }
            if let Some(exit) = self.exit
                && self.is_over()
            {
                self.wire.say(Line::Ended(exit, self.state.told()));
                return;
            }
            if held {
                held = self.hear();
            }
            match self.state.measure(now()) {
                Measure::Leave => {}
                Measure::Tell => Wall::tell(&self.wall.members(), Signal::SIGTERM),
                Measure::Kill => drop(self.wall.kill()),
            }
        }
    }

    /// Whether nothing of the command lives. One who adopts its orphans knows that by having no child.
    fn is_over(&self) -> bool {
        if cfg!(target_os = "linux") && self.adopts { child::childless() } else { self.wall.is_empty() }
    }

    /// What the holder says; whether it may say more.
    fn hear(&mut self) -> bool {
        let (lines, more) = self.wire.hear();
        for line in lines {
            match line {
                Line::Until(until) => self.state.extended(until),
                Line::Signal(number) if self.exit.is_none() => child::signal_number(self.command, number),
                _ => {}
            }
        }
        if !more {
            self.state.abandoned(now());
        }
        more
    }
}
