//! The dangerous part of a reload: from the moment the job is told to go until it is registered again.

use super::{Halt, MARGIN, Reload, ReloadOutcome, refused, status_of};
use crate::service::{JobState, Kick, Phase, Trouble, TroubleClass, intent};
use crate::words::exit::Status;
use crate::words::span;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The pauses between two questions to the manager: at first short, since each one adds to the outage.
const SHORTEST: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_millis(500);
/// Even a job that drains at once gets this long to be registered again: settling takes launchd ~5 s
/// (headroom#1289), a login window 20-30 s.
const BRING_UP_LIMIT: Duration = Duration::from_secs(45);
/// How long a kick is tried for: one that blocks until its own limit is tried again.
const KICK_LIMIT: Duration = Duration::from_secs(15);
/// How long a job that should start by itself is given before it is kicked.
const SPAWN_LIMIT: Duration = Duration::from_millis(500);

/// Pauses that grow.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Backoff {
        Backoff(SHORTEST)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 3 / 2).min(LONGEST);
        pause
    }
}

impl Reload<'_> {
    /// Tells the job to go and waits until it is gone: the process dead and the label free.
    pub(super) fn take_down(&mut self, before: &JobState) -> Result<(), Halt> {
        let patience = self.patience(before);
        self.step(format!(
            "taking it down ({} may take up to {} to exit)",
            self.old.map_or("it".to_owned(), |old| format!("process {}", old.pid)),
            span::show(patience)
        ));
        // A keeper that the manager runs would take its TERM for a stop, and cut off the work in flight.
        let told = self
            .old
            .filter(|_| self.service.manager() != "baa")
            .and_then(|old| intent::announce(old.pid, "baa-reload"));
        let until = self.clock.now() + MARGIN;
        let mut backoff = Backoff::new();
        loop {
            match self.service.take_down() {
                Ok(()) => break,
                Err(trouble) => {
                    self.step(&trouble);
                    // Whatever it said, only what is seen counts: "in progress" may be heard and may be not.
                    if trouble.class == TroubleClass::Unregistered || self.gone_or_going() {
                        break;
                    }
                    if matches!(trouble.class, TroubleClass::Final(_)) || self.clock.now() >= until {
                        told.iter().for_each(intent::withdraw);
                        return Err(refused(&trouble));
                    }
                    self.pause(backoff.next());
                }
            }
        }
        self.await_gone(self.clock.now() + patience);
        self.report.gone_after = Some(self.clock.now() - self.began);
        Ok(())
    }

    fn gone_or_going(&self) -> bool {
        let state = self.service.inspect();
        let dead = self.old.is_some_and(|old| self.service.await_exit(old, self.clock.now()));
        dead || matches!(state, Ok(None))
            || state.is_ok_and(|state| state.is_some_and(|state| state.phase == Phase::Stopping))
    }

    fn await_gone(&mut self, until: Instant) {
        if let Some(old) = self.old
            && !self.service.await_exit(old, until)
        {
            self.voice.warn(format!("{}: process {} did not exit in time", self.request.name, old.pid));
        }
        // A manager that restarts in place keeps the label.
        if self.service.restarts_in_place() {
            return;
        }
        let mut backoff = Backoff::new();
        while self.clock.now() < until && !matches!(self.service.inspect(), Ok(None)) {
            self.pause(backoff.next());
        }
    }

    /// Registers the job, from the new file or else from the last one that worked, and sees to it that it is
    /// started.
    pub(super) fn bring_back(&mut self, patience: Duration) -> Result<(), Halt> {
        let limit = patience.max(BRING_UP_LIMIT);
        let source = self.request.source.clone();
        let Err(trouble) = self.register(&source, limit) else { return self.start() };
        let status = status_of(&trouble);
        match self.request.last_good.clone() {
            Some(last_good) => {
                self.voice
                    .warn(format!("{}: {trouble}; restoring the last file that worked", self.request.name));
                match self.register(&last_good, limit) {
                    Ok(()) => {
                        self.start()?;
                        let status = if status == Status::Unavailable { Status::BadConfig } else { status };
                        Err(Halt {
                            outcome: ReloadOutcome::Restored,
                            status,
                            reason: format!("{trouble}; restored from {}", last_good.display()),
                        })
                    }
                    Err(second) => Err(self
                        .lost(&trouble, &format!("; the last file that worked was refused too: {second}"))),
                }
            }
            None => Err(self.lost(&trouble, "")),
        }
    }

    fn lost(&self, trouble: &Trouble, more: &str) -> Halt {
        let reason = format!("{trouble}{more}");
        // Not lost at all: the old job never went.
        let still_there = matches!(self.service.inspect(), Ok(Some(_)));
        if self.was_registered && !still_there {
            Halt { outcome: ReloadOutcome::Lost, status: Status::Lost, reason }
        } else {
            Halt { outcome: ReloadOutcome::Unhealthy, status: status_of(trouble), reason }
        }
    }

    /// Tries to register the job until `limit` is over. Signals do not end this: the job would be left
    /// unregistered.
    fn register(&mut self, source: &Path, limit: Duration) -> Result<(), Trouble> {
        let until = self.clock.now() + limit;
        let mut backoff = Backoff::new();
        let mut told = String::new();
        loop {
            let trouble = match self.service.bring_up(source) {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            if trouble.text != told {
                self.step(&trouble);
                told.clone_from(&trouble.text);
            }
            // "Already loaded" may mean the old registration on its last legs; only a live new process proves
            // the new one.
            if trouble.class != TroubleClass::Unregistered && self.runs_anew() {
                return Ok(());
            }
            if matches!(trouble.class, TroubleClass::Final(_)) || self.clock.now() >= until {
                return Err(trouble);
            }
            self.pause(backoff.next());
        }
    }

    fn runs_anew(&self) -> bool {
        let Ok(Some(state)) = self.service.inspect() else { return false };
        state.phase == Phase::Running && state.pid.is_some_and(|pid| Some(pid) != self.old.map(|old| old.pid))
    }

    /// A registered job that does not start is kicked, softly: -k would kill one that is just starting
    /// (openclaw#41952).
    fn start(&mut self) -> Result<(), Halt> {
        if self.request.skip_kickstart {
            return Ok(());
        }
        let until = self.clock.now() + SPAWN_LIMIT;
        let mut backoff = Backoff::new();
        while self.request.starts_itself && self.clock.now() < until {
            match self.service.inspect() {
                Ok(Some(state)) if state.pid.is_some() || state.phase == Phase::Waiting => return Ok(()),
                _ => self.pause(backoff.next()),
            }
        }
        if self.request.starts_itself {
            self.step("accepted but not started; kicking it");
        }
        match self.kick(Kick::Start) {
            // It is registered, and a call that was not answered may have been heard: its health decides.
            Err(halt) if halt.outcome == ReloadOutcome::Unhealthy => {
                self.step(halt.reason);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Kicks the job; registers it first where the manager has forgotten it.
    pub(super) fn kick(&mut self, how: Kick) -> Result<(), Halt> {
        let until = self.clock.now() + KICK_LIMIT;
        let mut backoff = Backoff::new();
        loop {
            match self.service.kick(how) {
                Ok(()) => return Ok(()),
                Err(trouble) if trouble.class == TroubleClass::Benign => return Ok(()),
                Err(trouble) if trouble.class == TroubleClass::Unregistered => {
                    self.step(&trouble);
                    let source: PathBuf = self.request.source.clone();
                    self.register(&source, BRING_UP_LIMIT).map_err(|trouble| self.lost(&trouble, ""))?;
                    if self.request.starts_itself {
                        return Ok(());
                    }
                }
                Err(trouble) => {
                    self.step(&trouble);
                    if self.runs_anew() && how == Kick::Start {
                        return Ok(());
                    }
                    if trouble.class != TroubleClass::Retry || self.clock.now() >= until {
                        return Err(Halt {
                            outcome: ReloadOutcome::Unhealthy,
                            status: status_of(&trouble),
                            reason: format!("it is registered but was not started: {trouble}"),
                        });
                    }
                    self.pause(backoff.next());
                }
            }
        }
    }
}
