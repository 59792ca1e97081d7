//! The dangerous part of a reload: from the moment the job is told to go until it is registered again.

use super::polls::Backoff;
use super::wait::late;
use super::{Halt, MARGIN, Reload, ReloadOutcome, ReloadPhase, refused};
use crate::service::{JobState, Kick, Phase, Trouble, TroubleClass, intent};
use crate::words::exit::Status;
use crate::words::span;
use std::time::{Duration, Instant};

/// Even a job that drains at once gets this long to be registered again: settling takes launchd ~5 s
/// (headroom#1289), a login window 20-30 s.
const BRING_UP_LIMIT: Duration = Duration::from_secs(45);
/// How long a kick is tried for: one that blocks until its own limit is tried again.
const KICK_LIMIT: Duration = Duration::from_secs(15);
/// How long a job that should start by itself is given before it is kicked.
const SPAWN_LIMIT: Duration = Duration::from_millis(500);
/// How often the manager may say of a job that it is loaded, or drains, and that it does not know it, before
/// it is told once to let it go, whatever it knows.
const CONTRADICTIONS: u32 = 3;

/// What a manager that does not take a job says of it.
enum Standing {
    /// It is registered, by us.
    Ours,
    /// It was registered all along, as a look shows that came later.
    AllAlong(Box<JobState>),
    /// It is seen not to be registered.
    Absent,
    /// It is not seen to be registered.
    NotSeen,
}

/// Why a registration did not come about.
enum Refusal {
    /// It was there all along, and has to be taken down first.
    AllAlong(Box<JobState>),
    /// The manager did not take it.
    Refused(Trouble),
    /// Nobody waits any longer, and there was no job before.
    Late(Trouble),
}

impl<'a> Reload<'a> {
    /// Tells the job to go and waits until it is gone: the process dead and the label free. Says whether it
    /// is known to have been told.
    pub(super) fn take_down(&mut self, before: &JobState) -> Result<bool, Halt> {
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
        let for_copy = self.bringing() == ReloadPhase::BringingCopyBack;
        let phase = if for_copy { ReloadPhase::TakingDownForCopy } else { ReloadPhase::TakingDown };
        self.reaches(phase);
        let until = self.in_place_by_the_deadline(self.clock.now() + MARGIN);
        let mut backoff = Backoff::new();
        let mut doubt = None;
        loop {
            let Err(trouble) = self.service.take_down() else {
                doubt = None;
                break;
            };
            self.step(&trouble);
            // Whatever it said, only what is seen counts: "in progress" may be heard and may be not.
            if trouble.class == TroubleClass::Unregistered || self.gone_or_going() {
                doubt = None;
                break;
            }
            if matches!(trouble.class, TroubleClass::Final(_)) && doubt.is_none() {
                told.iter().for_each(intent::withdraw);
                return Err(refused(&trouble));
            }
            // It may have been heard all the same, or be heard later: then the job goes after all.
            doubt = Some(trouble);
            if self.clock.now() >= until {
                break;
            }
            self.pause(backoff.next());
        }
        let gone = self.await_gone(self.in_place_by_the_deadline(self.clock.now() + patience));
        let heard = gone || doubt.is_none();
        // Only what is seen to be as it was has not heard it.
        if let Some(trouble) = doubt.filter(|_| !gone)
            && let Ok(Some(state)) = self.look()
            && state.phase != Phase::Stopping
            && state.pid == self.old.map(|old| old.pid)
        {
            told.iter().for_each(intent::withdraw);
            return Err(refused(&trouble));
        }
        self.report.gone_after = Some(self.clock.now() - self.began);
        Ok(heard)
    }

    /// `until`, or the deadline where that is before and the manager brings the job back by itself.
    fn in_place_by_the_deadline(&self, until: Instant) -> Instant {
        if self.service.restarts_in_place() { self.by_the_deadline(until) } else { until }
    }

    fn gone_or_going(&self) -> bool {
        let state = self.poll();
        let dead = self.old.is_some_and(|old| self.service.await_exit(old, self.clock.now()));
        dead || matches!(state, Ok(None))
            || state.is_ok_and(|state| state.is_some_and(|state| state.phase == Phase::Stopping))
    }

    /// Waits until the old process is dead and the label free; says whether they are.
    pub(super) fn await_gone(&mut self, until: Instant) -> bool {
        let mut dead = true;
        if let Some(old) = self.old
            && !self.service.await_exit(old, until)
        {
            dead = false;
            self.voice.warn(format!("{}: process {} did not exit in time", self.request.name, old.pid));
        }
        // A manager that restarts in place keeps the label.
        if self.service.restarts_in_place() {
            return dead;
        }
        let mut backoff = Backoff::new();
        loop {
            if matches!(self.poll(), Ok(None)) {
                self.seen_free = true;
                return dead;
            }
            if self.clock.now() >= until {
                return false;
            }
            self.pause_of_polls(&mut backoff);
        }
    }

    /// Registers the job, from the new file or else from the last one that worked, and sees to it that it is
    /// started. Says how it ends where it was the last one that worked.
    pub(super) fn bring_back(&mut self, patience: Duration) -> Result<Option<Halt>, Halt> {
        self.reaches(self.bringing());
        let limit = patience.max(BRING_UP_LIMIT);
        let Err(trouble) = self.register(limit)? else { return self.start().map(|()| None) };
        // It may have been heard all the same, and not answered: then another file in its place would be
        // taken for what is loaded.
        if trouble.class == TroubleClass::Retry && matches!(self.standing(self.look()), Standing::Ours) {
            return self.start().map(|()| None);
        }
        let status = trouble.status();
        let Some(last_good) = self.request.last_good.as_ref().filter(|_| !self.went_back) else {
            return Err(self.lost(&trouble, ""));
        };
        self.voice.warn(format!("{}: {trouble}; restoring the last version that worked", self.request.name));
        if let Err(error) = self.go_back(last_good) {
            return Err(self.lost(&trouble, &format!("; not restored: {error}")));
        }
        let mut outcome = self.register(limit)?;
        // It may be the place that is refused, and not what is in it.
        let copy = &last_good.version.source;
        if outcome.is_err() && self.version.source != *copy {
            self.version.source.clone_from(copy);
            self.reaches(self.bringing());
            outcome = self.register(limit)?;
        }
        match outcome {
            Ok(()) => {
                self.start()?;
                let status = if status == Status::Unavailable { Status::BadConfig } else { status };
                let from = self.version.source.display();
                Ok(Some(Halt {
                    outcome: ReloadOutcome::Restored,
                    status,
                    reason: if self.report.rejected.is_empty() {
                        format!("{trouble}; restored from {from}")
                    } else {
                        format!("{trouble}; restored; {}", self.told_of_the_new())
                    },
                }))
            }
            Err(second) => {
                Err(self.lost(&trouble, &format!("; the last version that worked was refused too: {second}")))
            }
        }
    }

    /// What comes next, for whoever has to finish it.
    fn bringing(&self) -> ReloadPhase {
        if self.version.source == self.request.version.source {
            ReloadPhase::BringingBack
        } else {
            ReloadPhase::BringingCopyBack
        }
    }

    fn lost(&self, trouble: &Trouble, more: &str) -> Halt {
        // What refused to go is to blame, and not what was refused in its place.
        let old = self.old.filter(|old| !self.service.await_exit(*old, self.clock.now()));
        let still = old.map_or(String::new(), |old| format!("; the old process {} still runs", old.pid));
        let reason = format!("{trouble}{more}{still}");
        let (outcome, status) = match self.look() {
            // Not lost at all: the old job never went.
            Ok(Some(_)) => (ReloadOutcome::Unhealthy, trouble.status()),
            Ok(None) if !self.was_registered => (ReloadOutcome::Unhealthy, trouble.status()),
            // What cannot be told to be there is not told to be.
            Ok(None) | Err(_) => (ReloadOutcome::Lost, Status::Lost),
        };
        Halt { outcome, status, reason }
    }

    /// Registers the version; a job that turns out to have been there all along is taken down first. The
    /// inner result is what the manager says.
    fn register(&mut self, limit: Duration) -> Result<Result<(), Trouble>, Halt> {
        match self.try_to_register(limit) {
            Ok(()) => Ok(Ok(())),
            Err(Refusal::Refused(trouble)) => Ok(Err(trouble)),
            Err(Refusal::Late(trouble)) => Err(too_late(&trouble)),
            Err(Refusal::AllAlong(state)) => {
                self.step("it has been registered all along; taking it down first");
                self.was_registered = true;
                self.remember(Some(&state));
                self.report.old = self.report.old.or(self.old.map(|old| old.pid));
                // From here on what is registered is ours, where it was told to go.
                self.seen_free |= self.take_down(&state)?;
                self.reaches(self.bringing());
                Ok(match self.try_to_register(limit) {
                    Ok(()) => Ok(()),
                    Err(Refusal::Refused(trouble)) => Err(trouble),
                    Err(Refusal::Late(trouble)) => return Err(too_late(&trouble)),
                    Err(Refusal::AllAlong(_)) => Err(Trouble {
                        class: TroubleClass::Retry,
                        code: None,
                        text: "another one registers it at the same time".to_owned(),
                    }),
                })
            }
        }
    }

    /// Tries to register the job until `limit` is over. Signals do not end this: the job would be left
    /// unregistered.
    fn try_to_register(&mut self, limit: Duration) -> Result<(), Refusal> {
        let until = self.clock.now() + limit;
        let mut backoff = Backoff::new();
        let mut told = String::new();
        let mut contradictions = 0;
        loop {
            let trouble = match self.service.bring_up(&self.version.source) {
                // It is registered, by us or all along.
                Ok(()) => {
                    self.hurry(true);
                    return self.old_definition().map_or(Ok(()), |state| Err(Refusal::AllAlong(state)));
                }
                Err(trouble) => trouble,
            };
            if trouble.text != told {
                self.step(&trouble);
                told.clone_from(&trouble.text);
            }
            if trouble.class != TroubleClass::Unregistered {
                match self.standing(self.poll()) {
                    Standing::Ours => return Ok(()),
                    Standing::AllAlong(state) => return Err(Refusal::AllAlong(state)),
                    Standing::Absent if matches!(trouble.code, Some(5 | 37)) => contradictions += 1,
                    Standing::Absent | Standing::NotSeen => contradictions = 0,
                }
            }
            if contradictions == CONTRADICTIONS && !self.told_blindly {
                self.told_blindly = true;
                self.step("it is said to be unknown and to be loaded; telling it to go all the same");
                match self.service.take_down() {
                    // Then there was one.
                    Ok(()) => self.was_registered = true,
                    Err(trouble) => self.step(&trouble),
                }
            }
            if matches!(trouble.class, TroubleClass::Final(_)) || self.clock.now() >= until {
                return Err(Refusal::Refused(trouble));
            }
            // Without a job before, none is stranded by this.
            let strands_none = !self.was_registered && !self.accepted;
            if strands_none && self.deadline.is_some_and(|deadline| self.clock.now() >= deadline) {
                return Err(Refusal::Late(trouble));
            }
            self.pause_of_polls(&mut backoff);
        }
    }

    /// Whose registration the manager shows after it has not said that it took ours. "Already loaded" may
    /// mean the old one on its last legs, one that a look had not shown, or our own of which the client did
    /// not hear.
    fn standing(&self, seen: Result<Option<JobState>, Trouble>) -> Standing {
        let state = match seen {
            Ok(Some(state)) => state,
            Ok(None) => return Standing::Absent,
            Err(_) => return Standing::NotSeen,
        };
        let process = state.pid.and_then(|pid| self.service.identify(pid));
        if state.phase == Phase::Stopping || (process.is_some() && process == self.old) {
            return Standing::NotSeen;
        }
        let elsewhere = !state.is_from(&self.version.source);
        let young = process.is_some_and(|who| self.service.is_younger_than_us(who));
        match (self.seen_free, elsewhere) {
            (true, false) => Standing::Ours,
            // The old process never went, or went and left the label: what runs now is new.
            (false, _) if self.was_registered => {
                if process.is_some() && !elsewhere {
                    Standing::Ours
                } else {
                    Standing::NotSeen
                }
            }
            (false, false) if young => Standing::Ours,
            _ => Standing::AllAlong(Box::new(state)),
        }
    }

    /// The job as it is, where the manager has said that it took ours and has kept another that a look had
    /// not shown: one that is loaded from another file.
    fn old_definition(&self) -> Option<Box<JobState>> {
        if self.seen_free || self.service.restarts_in_place() {
            return None;
        }
        self.poll().ok().flatten().filter(|state| !state.is_from(&self.version.source)).map(Box::new)
    }

    /// Whether a process of the job runs that is not the old one.
    fn runs_anew(&self) -> bool {
        let Ok(Some(state)) = self.poll() else { return false };
        matches!(state.phase, Phase::Running | Phase::Starting)
            && state.pid.is_some_and(|pid| Some(pid) != self.old.map(|old| old.pid))
    }

    /// A registered job that does not start is kicked, softly: -k would kill one that is just starting
    /// (openclaw#41952).
    pub(super) fn start(&mut self) -> Result<(), Halt> {
        if self.request.skip_kickstart {
            return Ok(());
        }
        let until = self.clock.now() + SPAWN_LIMIT;
        let mut backoff = Backoff::new();
        while self.version.starts_itself && self.clock.now() < until {
            match self.poll() {
                Ok(Some(state))
                    if state.pid.is_some() || matches!(state.phase, Phase::Waiting | Phase::Starting) =>
                {
                    return Ok(());
                }
                _ => self.pause_of_polls(&mut backoff),
            }
        }
        if self.version.starts_itself {
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
                    self.reaches(self.bringing());
                    self.register(BRING_UP_LIMIT)?.map_err(|trouble| self.lost(&trouble, ""))?;
                    self.reaches(ReloadPhase::Proving);
                    if self.version.starts_itself {
                        return Ok(());
                    }
                }
                Err(trouble) => {
                    self.step(&trouble);
                    if self.runs_anew() && how == Kick::Start {
                        return Ok(());
                    }
                    let over = self.clock.now() >= until;
                    // launchd answers -k when the old process is gone, which takes as long as its exit
                    // timeout: what was not answered may well have been heard, and its health decides.
                    if over && trouble.class == TroubleClass::Retry && trouble.code.is_none() {
                        return Ok(());
                    }
                    if trouble.class != TroubleClass::Retry || over {
                        return Err(Halt {
                            outcome: ReloadOutcome::Unhealthy,
                            status: trouble.status(),
                            reason: format!("it is registered but was not started: {trouble}"),
                        });
                    }
                    self.pause(backoff.next());
                }
            }
        }
    }
}

fn too_late(trouble: &Trouble) -> Halt {
    late(format!("it could not be registered before the deadline: {trouble}"))
}
