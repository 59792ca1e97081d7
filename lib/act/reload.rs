//! Reloading a service (baa-reload): taken down, brought back, and proven to answer from a new process; never
//! left unregistered.
//!
//! The order of things follows what launchd does in the field: bootout returns on acceptance, the label stays
//! until the process is gone, and a bootstrap before that fails with 5 and leaves the job unloaded
//! (openclaw#112731, headroom#1289, local-operator#1231).

mod bring;
pub mod carry_out;
pub mod check;
pub mod definition;
pub mod diagnose;
pub mod diagnosis;
pub mod files;
pub mod guardian;
pub mod handover;
pub mod health;
pub mod history;
mod hooks;
pub mod journal;
pub mod log_tail;
mod one;
mod polls;
mod prove;
pub mod request;
mod roll_back;
mod secrets;
mod services;
mod stranger;
pub mod unfinished;
mod wait;

use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::service::{JobState, Registration, Service, Trouble};
use crate::sys::clock::Clock;
use crate::sys::process::{Identity, Pid};
use crate::sys::say::Voice;
use crate::sys::signal::Signal;
use crate::words::error::Error;
use crate::words::exit::Status;
use crate::words::failure::Failure;
use polls::{Backoff, Polls};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
pub use wait::look;

/// What is added to the time that the manager lets a job take to exit.
const MARGIN: Duration = Duration::from_secs(5);
/// What a job gets whose manager does not say, or says "without end" (launchd's ExitTimeOut of 0).
const UNBOUNDED_EXIT: Duration = Duration::from_secs(300);
const UNKNOWN_EXIT: Duration = Duration::from_secs(20);

/// Makes the question whether a job is healthy, given whose answer counts.
pub type HealthQuestion<'a> = &'a dyn Fn(Demand) -> Arc<dyn Probe>;

/// One definition of a job, and what is to be expected of it.
#[derive(Clone)]
pub struct JobVersion<'a> {
    /// The file to bring it up from.
    pub source: PathBuf,
    /// Whether the job starts by itself when it is brought up.
    pub starts_itself: bool,
    /// How its health is asked for; none to be content with a new process.
    pub health: Option<HealthQuestion<'a>>,
}

/// The last version that worked, where it is kept and differs from the new one.
pub struct LastGood<'a> {
    /// The version; its source is the kept copy.
    pub version: JobVersion<'a>,
    /// When it was kept.
    pub since: Option<SystemTime>,
    /// Puts the copy in the place of the new file, which is kept beside it: then it is what the manager finds
    /// at the next login too. Returns where the new files are kept.
    pub put_back: &'a dyn Fn() -> Result<Vec<PathBuf>, Error>,
}

/// When a version that was accepted and does not come to serve gives way to the last one that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackRule {
    /// Never.
    Never,
    /// Where it has never given a good answer, and its rounds are over.
    IfNeverServed,
    /// Whenever it is not proven.
    Always,
}

/// How to reload one service.
pub struct ServiceReload<'a> {
    /// How messages name it.
    pub name: String,
    /// The version to come.
    pub version: JobVersion<'a>,
    /// The one to go back to.
    pub last_good: Option<LastGood<'a>>,
    /// When.
    pub rollback: RollbackRule,
    /// How many attempts each round of health checks has, and the pause after each.
    pub attempts: u32,
    /// The pause.
    pub delay: Duration,
    /// The end of one health check.
    pub probe_timeout: Duration,
    /// Whether it must never be kicked.
    pub skip_kickstart: bool,
    /// How long it must stay up, in the same process.
    pub settle: Duration,
    /// How long the old process may take to exit, where that is longer than the manager says.
    pub drain: Duration,
    /// When to stop waiting for health. Nothing cuts short the time in which the job is not registered.
    pub deadline: Option<Instant>,
}

/// What a reload works with.
#[derive(Clone, Copy)]
pub struct ReloadContext<'a> {
    /// The service.
    pub service: &'a dyn Service,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Where steps are told.
    pub voice: &'a Voice,
    /// Tells of a signal; it is obeyed as soon as the job is registered, and not before.
    pub interrupted: &'a dyn Fn() -> Option<Signal>,
    /// Is told what comes next, before it begins.
    pub progress: &'a dyn Fn(ReloadPhase),
}

/// How far a reload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadPhase {
    /// The job is about to be taken down.
    TakingDown,
    /// The same, and the copy of the last version that worked is to be brought up in its place.
    TakingDownForCopy,
    /// It is about to be registered.
    BringingBack,
    /// It is about to be registered from the copy of the last version that worked, which could not be put in
    /// its place.
    BringingCopyBack,
    /// It is registered, and has to prove itself.
    Proving,
}

impl ReloadPhase {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            ReloadPhase::TakingDown => "taking-down",
            ReloadPhase::TakingDownForCopy => "taking-down-for-copy",
            ReloadPhase::BringingBack => "bringing-back",
            ReloadPhase::BringingCopyBack => "bringing-copy-back",
            ReloadPhase::Proving => "proving",
        }
    }

    /// Whether the job is about to be taken down.
    pub fn takes_down(self) -> bool {
        matches!(self, ReloadPhase::TakingDown | ReloadPhase::TakingDownForCopy)
    }

    /// The phase of that name.
    pub fn named(name: &str) -> Option<ReloadPhase> {
        let all = [
            ReloadPhase::TakingDown,
            ReloadPhase::TakingDownForCopy,
            ReloadPhase::BringingBack,
            ReloadPhase::BringingCopyBack,
            ReloadPhase::Proving,
        ];
        all.into_iter().find(|phase| phase.name() == name)
    }
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// It answers, from a new process.
    Recovered,
    /// It did so only after a kick.
    RecoveredByKick,
    /// It is registered and does not answer as it should.
    Unhealthy,
    /// The new file was refused; it runs from the last one that worked.
    Restored,
    /// The new file was accepted and did not come to serve; it runs from the last one that worked.
    RolledBack,
    /// It was registered, and could not be registered again.
    Lost,
    /// Nothing was touched.
    Refused,
    /// It is registered; a signal ended the wait for its health.
    Interrupted,
    /// It was cut off, and somebody else saw to it that the job is registered.
    Finished,
}

impl ReloadOutcome {
    /// The stable name, as JSON prints it.
    pub fn name(self) -> &'static str {
        match self {
            ReloadOutcome::Recovered => "recovered",
            ReloadOutcome::RecoveredByKick => "recovered-by-kick",
            ReloadOutcome::Unhealthy => "unhealthy",
            ReloadOutcome::Restored => "restored",
            ReloadOutcome::RolledBack => "rolled-back",
            ReloadOutcome::Lost => "lost",
            ReloadOutcome::Refused => "refused",
            ReloadOutcome::Interrupted => "interrupted",
            ReloadOutcome::Finished => "finished",
        }
    }
}

/// How the newness of the process was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The answer came over a socket of the new process.
    Listener,
    /// The socket cannot be seen from here; but the old process is dead and the new one lives.
    Process,
}

/// A process that has no part in the job and answers, or listens, where the job should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// The process.
    pub pid: Pid,
    /// Its program.
    pub program: Option<String>,
}

impl PortHolder {
    fn of(pid: Pid) -> PortHolder {
        PortHolder { pid, program: crate::sys::process::name(pid) }
    }
}

impl std::fmt::Display for PortHolder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} (pid {})", self.program.as_deref().unwrap_or("another process"), self.pid)
    }
}

/// What happened, for the report.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// How it ended.
    pub outcome: ReloadOutcome,
    /// The status to end with.
    pub status: Status,
    /// Why, where it did not end well.
    pub reason: Option<String>,
    /// The process before.
    pub old: Option<Pid>,
    /// The process now.
    pub new: Option<Pid>,
    /// How that is known.
    pub proof: Option<Proof>,
    /// How many health checks were made.
    pub probes: u32,
    /// The last of them that failed.
    pub last_failure: Option<Failure>,
    /// What is known of the job now.
    pub known: Registration,
    /// The life of the new version, where the manager tells lives apart.
    pub life: Option<String>,
    /// Who is in its place where its health is asked for, if it did not recover.
    pub holder: Option<PortHolder>,
    /// Where the files that were refused or rolled back are kept.
    pub rejected: Vec<PathBuf>,
    /// When the old process was gone, counted from the start.
    pub gone_after: Option<Duration>,
    /// When the job was registered again.
    pub up_after: Option<Duration>,
    /// When it was proven healthy.
    pub healthy_after: Option<Duration>,
    /// How long all took.
    pub elapsed: Duration,
}

impl ReloadReport {
    /// Of a reload that has not begun, when this was known of the job.
    fn begun(known: Registration) -> ReloadReport {
        ReloadReport {
            outcome: ReloadOutcome::Refused,
            status: Status::Internal,
            reason: None,
            old: None,
            new: None,
            proof: None,
            probes: 0,
            last_failure: None,
            known,
            life: None,
            holder: None,
            rejected: Vec::new(),
            gone_after: None,
            up_after: None,
            healthy_after: None,
            elapsed: Duration::ZERO,
        }
    }

    /// Of one that could not begin, since it cannot be told what runs.
    pub fn cannot_tell(trouble: &Trouble) -> ReloadReport {
        let mut report = ReloadReport::begun(Registration::Unknown(trouble.text.clone()));
        (report.status, report.reason) = (trouble.status(), Some(trouble.text.clone()));
        report
    }

    /// Whether it is healthy, and the new version.
    pub fn recovered(&self) -> bool {
        matches!(self.outcome, ReloadOutcome::Recovered | ReloadOutcome::RecoveredByKick)
    }
}

/// One reload under way.
struct Reload<'a> {
    request: &'a ServiceReload<'a>,
    context: ReloadContext<'a>,
    service: &'a dyn Service,
    clock: &'a dyn Clock,
    voice: &'a Voice,
    /// What is brought up and proven now.
    version: JobVersion<'a>,
    /// When the proof must be there.
    deadline: Option<Instant>,
    began: Instant,
    polls: Polls,
    was_registered: bool,
    /// Whether the label was seen to be free, so that what is registered since is ours.
    seen_free: bool,
    /// Whether the manager was told to let go of a job that it said not to know.
    told_blindly: bool,
    /// Whether the manager has accepted the version.
    accepted: bool,
    /// Whether the version has given a good answer.
    served: bool,
    /// Whether another process has given the good answers in its place.
    outdone: bool,
    /// Whether a run of the version is under way that must not be cut off.
    runs_on: bool,
    /// Whether the version is the last one that worked.
    went_back: bool,
    /// Whether the manager is waited for no longer than the deadline lets.
    hurried: Cell<bool>,
    old: Option<Identity>,
    /// What told the life before from others, where the manager has such a thing.
    old_life: Option<String>,
    report: ReloadReport,
}

/// Why a reload cannot go on.
struct Halt {
    outcome: ReloadOutcome,
    status: Status,
    reason: String,
}

/// Reloads the service, of which `before` is known.
pub fn reload(
    request: &ServiceReload<'_>,
    before: Option<JobState>,
    context: ReloadContext<'_>,
) -> ReloadReport {
    let mut reload = Reload::new(request, before.as_ref(), context);
    let end = reload.run(before.as_ref());
    reload.conclude(end)
}

impl<'a> Reload<'a> {
    fn new(
        request: &'a ServiceReload<'a>,
        before: Option<&JobState>,
        context: ReloadContext<'a>,
    ) -> Reload<'a> {
        let ReloadContext { service, clock, voice, .. } = context;
        let mut reload = Reload {
            request,
            context,
            service,
            clock,
            voice,
            version: request.version.clone(),
            deadline: request.deadline,
            began: clock.now(),
            polls: Polls::new(),
            was_registered: before.is_some(),
            seen_free: false,
            told_blindly: false,
            accepted: false,
            served: false,
            outdone: false,
            runs_on: false,
            went_back: false,
            hurried: Cell::new(false),
            old: None,
            old_life: None,
            report: ReloadReport::begun(Registration::of(Ok(before.cloned()))),
        };
        reload.remember(before);
        reload.report.old = reload.old.map(|old| old.pid);
        reload
    }

    /// What runs before the job is taken down is the old process from now on.
    fn remember(&mut self, before: Option<&JobState>) {
        self.old = before.and_then(|state| state.pid).and_then(|pid| self.service.identify(pid));
        self.old_life = before.and_then(|state| state.life.clone());
    }

    /// The life that `state` tells of, if it is not the one before.
    fn new_life(&self, state: Option<&JobState>) -> Option<String> {
        state.and_then(|state| state.life.clone()).filter(|life| Some(life) != self.old_life.as_ref())
    }

    fn conclude(mut self, end: Result<ReloadOutcome, Halt>) -> ReloadReport {
        let report = &mut self.report;
        match end {
            Ok(outcome) => (report.outcome, report.status) = (outcome, Status::Done),
            Err(halt) => {
                (report.outcome, report.status, report.reason) =
                    (halt.outcome, halt.status, Some(halt.reason))
            }
        }
        if matches!(self.report.outcome, ReloadOutcome::Unhealthy | ReloadOutcome::Interrupted) {
            self.report.holder = self.stranger();
        }
        // What is told last is what was seen last.
        self.report.known = Registration::of(self.look());
        // A run that was waited for no longer may have come to its good end meanwhile.
        if self.runs_on && self.report.known.state().is_some_and(|state| self.completed(state)) {
            (self.report.outcome, self.report.status) = (ReloadOutcome::Recovered, Status::Done);
            (self.report.reason, self.report.healthy_after) = (None, Some(self.clock.now() - self.began));
        }
        let state = self.report.known.state();
        self.report.life = self.report.life.take().or_else(|| self.new_life(state));
        let now = self.report.new.or(state.and_then(|state| state.pid));
        self.report.new = now.filter(|pid| Some(*pid) != self.report.old);
        self.report.elapsed = self.clock.now() - self.began;
        self.report
    }

    fn run(&mut self, before: Option<&JobState>) -> Result<ReloadOutcome, Halt> {
        if let Some(signal) = (self.context.interrupted)() {
            return Err(Halt {
                outcome: ReloadOutcome::Refused,
                status: ended_by(signal),
                reason: format!("ended by {} before anything was touched", signal.as_str()),
            });
        }
        let end = self.renew(before);
        match end {
            Err(halt) if self.rolls_back(&halt) => Err(self.roll_back(halt)),
            outcome => outcome,
        }
    }

    /// Takes down what runs, brings the version up in its place, and has it prove itself.
    fn renew(&mut self, before: Option<&JobState>) -> Result<ReloadOutcome, Halt> {
        let patience = before.map_or(UNKNOWN_EXIT, |state| self.patience(state));
        if let Some(before) = before {
            self.take_down(before)?;
        }
        let restored = if !self.service.restarts_in_place() || before.is_none() {
            self.bring_back(patience)?
        } else {
            None
        };
        self.accepted = true;
        self.report.up_after = Some(self.clock.now() - self.began);
        self.reaches(ReloadPhase::Proving);
        self.obey_signal()?;
        let proven = self.prove()?;
        // It runs, but not as it was asked for.
        restored.map_or(Ok(proven), Err)
    }

    /// How long the job may take to exit, with a margin.
    fn patience(&self, state: &JobState) -> Duration {
        let own = match state.exit_timeout {
            None => UNKNOWN_EXIT,
            Some(Duration::ZERO) => UNBOUNDED_EXIT,
            Some(timeout) => timeout,
        };
        own.max(self.request.drain) + MARGIN
    }

    fn pause(&self, span: Duration) {
        self.clock.sleep_until(self.clock.now() + span);
    }

    /// Asks the manager as one of many questions while something is waited for.
    fn poll(&self) -> Result<Option<JobState>, Trouble> {
        self.polls.count(self.clock.now());
        self.service.inspect()
    }

    /// The pause before the next such question.
    fn pause_of_polls(&self, backoff: &mut Backoff) {
        let now = self.clock.now();
        self.clock.sleep_until((now + backoff.next()).max(self.polls.next(now)));
    }

    /// A signal ends the wait for health, once it is seen that the job is registered.
    fn obey_signal(&mut self) -> Result<(), Halt> {
        let Some(signal) = (self.context.interrupted)() else { return Ok(()) };
        let mut seen = self.look();
        if matches!(seen, Ok(None)) && !self.service.restarts_in_place() {
            self.voice
                .warn(format!("{}: it is no longer registered; registering it again", self.request.name));
            self.bring_back(Duration::ZERO)?;
            seen = self.look();
        }
        let seen = match seen {
            Ok(Some(_)) => "the job is registered".to_owned(),
            Ok(None) => "the job is not registered".to_owned(),
            Err(trouble) => format!("it cannot be told whether the job is registered: {trouble}"),
        };
        Err(Halt {
            outcome: ReloadOutcome::Interrupted,
            status: ended_by(signal),
            reason: format!("ended by {}; {seen}", signal.as_str()),
        })
    }

    fn step(&self, text: impl std::fmt::Display) {
        self.voice.step(format!("{}: {text}", self.request.name));
    }
}

fn refused(trouble: &Trouble) -> Halt {
    Halt { outcome: ReloadOutcome::Refused, status: trouble.status(), reason: trouble.text.clone() }
}

fn ended_by(signal: Signal) -> Status {
    Status::Signal(u8::try_from(signal as i32).unwrap_or(0))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
