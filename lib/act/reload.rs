//! Reloading a service (baa-reload): taken down, brought back, and proven to answer from a new process; never
//! left unregistered.
//!
//! The order of things follows what launchd does in the field: bootout returns on acceptance, the label stays
//! until the process is gone, and a bootstrap before that fails with 5 and leaves the job unloaded
//! (openclaw#112731, headroom#1289, local-operator#1231).

mod bring;
pub mod carry_out;
pub mod check;
pub mod diagnosis;
pub mod files;
pub mod handover;
mod prove;
pub mod request;
mod services;

use crate::probe::Probe;
use crate::probe::demand::Demand;
use crate::service::{JobState, Service, Trouble, TroubleClass};
use crate::sys::clock::Clock;
use crate::sys::process::{Identity, Pid};
use crate::sys::say::Voice;
use crate::sys::signal::Signal;
use crate::words::exit::Status;
use crate::words::failure::Failure;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is added to the time that the manager lets a job take to exit.
const MARGIN: Duration = Duration::from_secs(5);
/// What a job gets whose manager does not say, or says "without end" (launchd's ExitTimeOut of 0).
const UNBOUNDED_EXIT: Duration = Duration::from_secs(300);
const UNKNOWN_EXIT: Duration = Duration::from_secs(20);

/// How to reload one service.
pub struct ServiceReload<'a> {
    /// How messages name it.
    pub name: String,
    /// The file to bring it up from.
    pub source: PathBuf,
    /// A copy of the last file that worked, if it differs from `source`.
    pub last_good: Option<PathBuf>,
    /// Whether the job starts by itself when it is brought up.
    pub starts_itself: bool,
    /// Makes the question whether it is healthy, given whose answer counts; none to be content with a new
    /// process.
    pub health: Option<&'a dyn Fn(Demand) -> Box<dyn Probe>>,
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
    /// It was registered, and could not be registered again.
    Lost,
    /// Nothing was touched.
    Refused,
    /// It is registered; a signal ended the wait for its health.
    Interrupted,
}

impl ReloadOutcome {
    /// The stable name, as JSON prints it.
    pub fn name(self) -> &'static str {
        match self {
            ReloadOutcome::Recovered => "recovered",
            ReloadOutcome::RecoveredByKick => "recovered-by-kick",
            ReloadOutcome::Unhealthy => "unhealthy",
            ReloadOutcome::Restored => "restored",
            ReloadOutcome::Lost => "lost",
            ReloadOutcome::Refused => "refused",
            ReloadOutcome::Interrupted => "interrupted",
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
    /// What the manager said last.
    pub state: Option<JobState>,
    /// When the old process was gone, counted from the start.
    pub gone_after: Option<Duration>,
    /// When the job was registered again.
    pub up_after: Option<Duration>,
    /// When it was proven healthy.
    pub healthy_after: Option<Duration>,
    /// How long all took.
    pub elapsed: Duration,
}

/// One reload under way.
struct Reload<'a> {
    request: &'a ServiceReload<'a>,
    service: &'a dyn Service,
    clock: &'a dyn Clock,
    voice: &'a Voice,
    interrupted: &'a dyn Fn() -> Option<Signal>,
    began: Instant,
    was_registered: bool,
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

/// Reloads the service. `interrupted` tells of a signal; it is obeyed as soon as the job is registered, and
/// not before.
pub fn reload(
    request: &ServiceReload<'_>,
    service: &dyn Service,
    clock: &dyn Clock,
    voice: &Voice,
    interrupted: &dyn Fn() -> Option<Signal>,
) -> ReloadReport {
    let report = ReloadReport {
        outcome: ReloadOutcome::Refused,
        status: Status::Internal,
        reason: None,
        old: None,
        new: None,
        proof: None,
        probes: 0,
        last_failure: None,
        state: None,
        gone_after: None,
        up_after: None,
        healthy_after: None,
        elapsed: Duration::ZERO,
    };
    let mut reload = Reload {
        request,
        service,
        clock,
        voice,
        interrupted,
        began: clock.now(),
        was_registered: false,
        old: None,
        old_life: None,
        report,
    };
    let end = reload.run();
    let mut report = reload.report;
    match end {
        Ok(outcome) => (report.outcome, report.status) = (outcome, Status::Done),
        Err(halt) => {
            (report.outcome, report.status, report.reason) = (halt.outcome, halt.status, Some(halt.reason))
        }
    }
    if report.outcome != ReloadOutcome::Refused {
        report.state = service.inspect().unwrap_or(report.state);
    }
    report.new = report
        .new
        .or(report.state.as_ref().and_then(|state| state.pid))
        .filter(|pid| Some(*pid) != report.old);
    report.elapsed = clock.now() - reload.began;
    report
}

impl Reload<'_> {
    fn run(&mut self) -> Result<ReloadOutcome, Halt> {
        let before = self.look().map_err(|trouble| refused(&trouble))?;
        self.was_registered = before.is_some();
        self.old = before.as_ref().and_then(|state| state.pid).and_then(|pid| self.service.identify(pid));
        self.report.old = self.old.map(|old| old.pid);
        self.old_life = before.as_ref().and_then(|state| state.life.clone());
        self.report.state.clone_from(&before);
        if let Some(signal) = (self.interrupted)() {
            return Err(Halt {
                outcome: ReloadOutcome::Refused,
                status: ended_by(signal),
                reason: format!("ended by {} before anything was touched", signal.as_str()),
            });
        }
        if let Some(before) = &before {
            self.take_down(before)?;
        }
        if !self.service.restarts_in_place() || before.is_none() {
            self.bring_back(before.as_ref().map_or(UNKNOWN_EXIT, |state| self.patience(state)))?;
        }
        self.report.up_after = Some(self.clock.now() - self.began);
        self.obey_signal()?;
        self.prove()
    }

    /// What the manager knows; a manager that is busy is asked again for a while.
    fn look(&self) -> Result<Option<JobState>, Trouble> {
        let until = self.clock.now() + MARGIN;
        loop {
            match self.service.inspect() {
                Err(trouble) if trouble.class == TroubleClass::Retry && self.clock.now() < until => {
                    self.pause(Duration::from_millis(100))
                }
                outcome => return outcome,
            }
        }
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

    fn obey_signal(&self) -> Result<(), Halt> {
        match (self.interrupted)() {
            Some(signal) => Err(Halt {
                outcome: ReloadOutcome::Interrupted,
                status: ended_by(signal),
                reason: format!("ended by {}; the job is registered", signal.as_str()),
            }),
            None => Ok(()),
        }
    }

    fn step(&self, text: impl std::fmt::Display) {
        self.voice.step(format!("{}: {text}", self.request.name));
    }
}

fn refused(trouble: &Trouble) -> Halt {
    Halt { outcome: ReloadOutcome::Refused, status: status_of(trouble), reason: trouble.text.clone() }
}

/// The status that a trouble ends a reload with.
fn status_of(trouble: &Trouble) -> Status {
    match trouble.class {
        TroubleClass::Final(status) => status,
        TroubleClass::Benign | TroubleClass::Retry | TroubleClass::Unregistered => Status::Unavailable,
    }
}

fn ended_by(signal: Signal) -> Status {
    Status::Signal(u8::try_from(signal as i32).unwrap_or(0))
}

#[cfg(test)]
mod tests;
