//! The proof of recovery: a good answer, from a process that is not the old one and belongs to the job, which
//! then stays.

use super::polls::Backoff;
use super::stranger::{PROXY_HINT, Strangers};
use super::wait::late;
use super::{Halt, Proof, Reload, ReloadOutcome, ReloadPhase};
use crate::probe::Cost;
use crate::probe::demand::Demand;
use crate::probe::lineage::Lineage;
use crate::probe::pace::{self, PollProgress};
use crate::service::{JobState, Kick, Phase};
use crate::sys::process::{Identity, Pid};
use crate::words::exit::Status;
use crate::words::failure::{Class, Failure};
use std::time::{Duration, Instant};

/// How old the manager's word may be while the health check still fails; it may be a tenth of the round old
/// where that is longer, up to `STALE`.
const FRESH: Duration = Duration::from_millis(200);
const STALE: Duration = Duration::from_secs(2);

/// One round of health checks.
struct Round {
    began: Instant,
    attempts: u32,
    slot_ends: Option<Instant>,
    tries: u32,
    state: Option<JobState>,
    /// When the manager is asked next.
    look: Instant,
    /// The pauses while there is no new process.
    backoff: Backoff,
    /// A process whose answer does not count.
    stale: Option<Pid>,
    /// Who else answers.
    strangers: Strangers,
}

impl Round {
    /// One that begins at `now`.
    fn new(now: Instant, stale: Option<Pid>) -> Round {
        Round {
            began: now,
            attempts: 0,
            slot_ends: None,
            tries: 0,
            state: None,
            look: now,
            backoff: Backoff::new(),
            stale,
            strangers: Strangers::default(),
        }
    }
}

/// What one look found.
enum Look {
    Proven(Pid, Proof),
    /// It has done its work and exited with 0, and nobody asks for more.
    Completed,
    NotYet(Failure),
}

impl Reload<'_> {
    /// Two rounds, with a kick between them, as the script had it.
    pub(super) fn prove(&mut self) -> Result<ReloadOutcome, Halt> {
        let old = self.old.map(|old| old.pid);
        if self.round(old)? {
            return Ok(ReloadOutcome::Recovered);
        }
        let Some(state) = self.look_again(old)? else { return Ok(ReloadOutcome::Recovered) };
        if self.request.skip_kickstart {
            return Err(self.unhealthy(" and must not be kicked"));
        }
        let starting = state.as_ref().is_some_and(|state| state.phase == Phase::Starting);
        let living = state.filter(|_| !starting).and_then(|state| state.pid);
        // -k is for a process that lives and does not serve; without one it would block or kill a start.
        let how = if living.is_some() { Kick::Replace } else { Kick::Start };
        self.voice.note(format!(
            "{}: registered but not healthy ({}); kicking it",
            self.request.name,
            self.last()
        ));
        self.kick(how)?;
        let stale = living.or(old);
        if self.round(stale)? || self.look_again(stale)?.is_none() {
            return Ok(ReloadOutcome::RecoveredByKick);
        }
        Err(self.unhealthy(", even after a kick"))
    }

    /// The state at the end of a round, before anything is done about it; it is judged as any look of the
    /// round was, and `None` where it has recovered: what has come to a good end meanwhile must not be begun
    /// again.
    fn look_again(&mut self, stale: Option<Pid>) -> Result<Option<Option<JobState>>, Halt> {
        let state = self.poll().ok().flatten();
        if state.as_ref().is_some_and(|state| self.must_run_on(state)) {
            self.runs_on = true;
            return Err(self.unhealthy(" yet, and its run must not be cut off"));
        }
        // Where its health is asked for, the answers of the round have decided.
        if self.version.health.is_none() {
            let mut round = Round::new(self.clock.now(), stale);
            round.look = self.clock.now() + Duration::from_secs(1);
            round.state.clone_from(&state);
            let look = self.look_once(&mut round)?;
            if self.weigh(look)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    /// Whether it is a run that ends by itself, and is under way.
    pub(super) fn must_run_on(&self, state: &JobState) -> bool {
        state.phase == Phase::Starting && self.service.runs_to_its_end()
    }

    /// What a look has found, once that has settled: why it is not enough, or that it has recovered.
    fn weigh(&mut self, look: Look) -> Result<Option<Failure>, Halt> {
        match look {
            Look::Proven(pid, proof) => {
                if let Some(failure) = self.settle(pid)? {
                    return Ok(Some(failure));
                }
                self.report.new = Some(pid);
                self.report.proof = Some(proof);
            }
            Look::Completed => {}
            Look::NotYet(failure) => return Ok(Some(failure)),
        }
        self.report.healthy_after = Some(self.clock.now() - self.began);
        Ok(None)
    }

    fn unhealthy(&self, more: &str) -> Halt {
        Halt {
            outcome: ReloadOutcome::Unhealthy,
            status: Status::Unavailable,
            reason: format!("it did not recover{more}: {}", self.last()),
        }
    }

    fn last(&self) -> String {
        let Some(failure) = &self.report.last_failure else { return "no answer".to_owned() };
        let other = failure.class == Class::WrongProcess && self.old.as_ref().is_none_or(|old| !old.alive());
        format!("{}{}", failure.text, if other { PROXY_HINT } else { "" })
    }

    /// An attempt is a probe and the pause after it; within the pause it is asked again as often as is free.
    fn round(&mut self, stale: Option<Pid>) -> Result<bool, Halt> {
        let mut round = Round::new(self.clock.now(), stale);
        loop {
            self.obey_signal()?;
            let look = self.look_once(&mut round)?;
            let Some(failure) = self.weigh(look)? else { return Ok(true) };
            if failure.class != Class::WrongProcess {
                round.strangers = Strangers::default();
            }
            let now = self.clock.now();
            // A check that takes longer than its slot, or a process that never settles, uses its attempt up:
            // it must not win another one, or a service that accepts and says nothing is waited for without
            // end.
            let slot_over = round.slot_ends.is_none_or(|end| now >= end);
            let used_up = slot_over && round.attempts >= self.request.attempts;
            if slot_over && !used_up {
                round.attempts += 1;
                round.slot_ends = Some(now + self.request.delay);
                self.step(format!("attempt {} of {}: {failure}", round.attempts, self.request.attempts));
            }
            round.tries += 1;
            let process = self.process(&round);
            let moment = PollProgress {
                cost: self
                    .version
                    .health
                    .filter(|_| process.is_some())
                    .map_or(Cost::Local, |health| health(Demand::default()).cost()),
                age: now - round.began,
                spent: Duration::from_micros(50),
                tries: round.tries,
                polled: 1,
                watched: false,
            };
            let pause = pace::pause(moment, Some(&failure));
            // A check that the deadline cut short tells less than the one before it.
            let cut = failure.class == Class::Timeout && self.is_late();
            if !cut || self.report.last_failure.is_none() {
                self.report.last_failure = Some(failure);
            }
            // Nothing comes of a unit that systemd has given up until it is started again.
            let given_up = (round.state.as_ref())
                .is_some_and(|state| state.phase == Phase::Failed && state.life.is_some());
            let last_slot = round.attempts >= self.request.attempts;
            if used_up
                || (given_up && slot_over && round.attempts > 1)
                || (last_slot && round.slot_ends.is_some_and(|end| now + pause >= end))
            {
                return match round.strangers.last {
                    Some((pid, _)) => Err(self.answered_elsewhere(pid, process.map(|process| process.pid))),
                    None => Ok(false),
                };
            }
            if self.is_late() {
                return Err(late(format!("it did not recover before the deadline: {}", self.last())));
            }
            // Nothing is worth asking before the manager has told of a process.
            let idle = if process.is_none() { round.look - now } else { Duration::ZERO };
            let left = round.slot_ends.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
            let until = self.clock.now() + pause.max(idle.min(left));
            if self.service.await_news(until) {
                round.look = self.clock.now();
            } else {
                self.clock.sleep_until(until);
            }
        }
    }

    fn look_once(&mut self, round: &mut Round) -> Result<Look, Halt> {
        let now = self.clock.now();
        if now >= round.look {
            self.refresh(round)?;
        }
        let Some(process) = self.process(round) else {
            if self.version.health.is_none()
                && round.state.as_ref().is_some_and(|state| self.completed(state))
            {
                return Ok(Look::Completed);
            }
            let word = round.state.as_ref().map_or("unknown".to_owned(), |state| state.word.clone());
            return Ok(Look::NotYet(Failure::new(
                Class::Down,
                format!("no new process yet (the job is {word})"),
            )));
        };
        let Some(health) = self.version.health else {
            return Ok(Look::Proven(process.pid, Proof::Process));
        };
        let old = self.old.map(|old| old.pid);
        let mut roots = round.state.as_ref().map_or_else(Vec::new, JobState::processes);
        roots.retain(|pid| *pid == process.pid || Some(*pid) != old);
        let demand = Demand { among: Some(Lineage::of(roots)), ..Demand::default() };
        let deadline = self.by_the_deadline(self.clock.now() + self.request.probe_timeout);
        self.report.probes += 1;
        let failure = match self.ask(&health(demand), deadline)? {
            Ok(answer) if answer.pid.is_some() => {
                self.served = true;
                return Ok(Look::Proven(process.pid, Proof::Listener));
            }
            // It was not asked who answers, or cannot be: then the death of the old process must do.
            Ok(_) => match self.old.filter(Identity::alive) {
                None => {
                    self.served = true;
                    return Ok(Look::Proven(process.pid, Proof::Process));
                }
                Some(old) => {
                    let text = format!("answered, and process {} of before still lives", old.pid);
                    Failure::new(Class::UnknownProcess, text)
                }
            },
            Err(failure) => failure,
        };
        match failure.class {
            // Another machine's address, or sockets that we may not see: then the death of the old process
            // must do.
            Class::UnknownProcess if self.old.is_none_or(|old| !old.alive()) => {
                match self.ask(&health(Demand::default()), deadline)? {
                    Ok(_) => {
                        self.served = true;
                        Ok(Look::Proven(process.pid, Proof::Process))
                    }
                    Err(failure) => Ok(Look::NotYet(failure)),
                }
            }
            Class::WrongProcess => {
                round.strangers = self.regard(round.strangers, round.attempts, health, deadline)?;
                // The job may just have been started anew.
                round.look = round.look.min(self.polls.next(now + round.backoff.next()));
                Ok(Look::NotYet(failure))
            }
            _ => Ok(Look::NotYet(failure)),
        }
    }

    /// Asks the manager; a job that it has lost meanwhile is brought back.
    fn refresh(&mut self, round: &mut Round) -> Result<(), Halt> {
        match self.poll() {
            Ok(Some(state)) => round.state = Some(state),
            Ok(None) if !self.service.restarts_in_place() => {
                self.voice
                    .warn(format!("{}: it is no longer registered; registering it again", self.request.name));
                if let Some(halt) = self.bring_back(Duration::ZERO)? {
                    return Err(halt);
                }
                self.reaches(ReloadPhase::Proving);
            }
            Ok(None) => round.state = None,
            Err(trouble) => self.step(&trouble),
        }
        let now = self.clock.now();
        let pause = if self.process(round).is_none() {
            round.backoff.next()
        } else {
            ((now - round.began) / 10).clamp(FRESH, STALE)
        };
        round.look = self.polls.next(now + pause);
        Ok(())
    }

    /// Whether a run of this life has come to a good end, or none was to be expected: the job waits for its
    /// time, and must not be kicked.
    pub(super) fn completed(&self, state: &JobState) -> bool {
        let new_life = state.life.is_none() || state.life != self.old_life;
        (state.completed && new_life)
            || (self.request.skip_kickstart && !self.version.starts_itself && state.pid.is_none())
    }

    /// The job's new main process, if there is one and it lives.
    fn process(&self, round: &Round) -> Option<Identity> {
        let pid = round.state.as_ref()?.pid?;
        let who = self.service.identify(pid)?;
        if !matches!(round.state.as_ref()?.phase, Phase::Running) {
            return None;
        }
        let stale =
            Some(who) == self.old || (round.stale == Some(pid) && self.old.is_none_or(|old| old.pid != pid));
        (!stale).then_some(who)
    }

    /// Watches whether the process stays; says why not.
    fn settle(&mut self, pid: Pid) -> Result<Option<Failure>, Halt> {
        if self.request.settle.is_zero() {
            return Ok(None);
        }
        self.step(format!(
            "process {pid} answers; watching it for {}",
            crate::words::span::show(self.request.settle)
        ));
        let runs = self.poll().ok().flatten().and_then(|state| state.runs);
        let until = self.clock.now() + self.request.settle;
        let Some(who) = self.service.identify(pid) else {
            return Ok(Some(Failure::new(Class::Down, format!("process {pid} answered and died"))));
        };
        while self.clock.now() < until {
            self.obey_signal()?;
            if self.is_late() {
                let span = crate::words::span::show(self.request.settle);
                return Err(late(format!(
                    "process {pid} answers, and the deadline came before {span} of it"
                )));
            }
            let slice = self.by_the_deadline(until.min(self.clock.now() + Duration::from_millis(100)));
            if self.service.await_exit(who, slice) {
                return Ok(Some(Failure::new(Class::Down, format!("process {pid} answered and died"))));
            }
        }
        let state = self.poll().ok().flatten();
        if state.as_ref().and_then(|state| state.pid) != Some(pid)
            || state.and_then(|state| state.runs) != runs
        {
            return Ok(Some(Failure::new(Class::Down, "it was started again while it settled")));
        }
        let Some(health) = self.version.health else { return Ok(None) };
        self.report.probes += 1;
        let until = self.by_the_deadline(self.clock.now() + self.request.probe_timeout);
        Ok(self.ask(&health(Demand::default()), until)?.err())
    }
}
