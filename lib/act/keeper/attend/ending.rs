//! How lives and the keeper itself end: bad ends, stops, and the watchdog over them.

use super::{KeeperEnd, KeeperLoop, name};
use crate::act::keeper::failure_log::{FailureLimit, FailureLog};
use crate::act::keeper::supervisor::{Allowance, Supervisor};
use crate::act::keeper::watchdog::Watchdog;
use crate::act::keeper::{KeeperEvent, KeeperState, Next, supervisor};
use crate::sys::child::Exit;
use crate::sys::poll::{self, For};
use crate::sys::process::Identity;
use crate::sys::signal::{Signal, SignalNumber, Signals};
use crate::words::error::{Error, Result};
use crate::words::exit::Status;
use crate::words::span;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the watchdog grants beyond the time after which everything is killed.
const MERCY: Duration = Duration::from_secs(5);

/// How a stop goes.
pub(super) struct StopGuard {
    /// What a supervisor allows it.
    pub(super) allowance: Allowance,
    /// What a life is told to stop with.
    pub(super) signal: SignalNumber,
    /// The same as it was configured, if it was.
    configured: Option<SignalNumber>,
    /// Whether we end because a supervisor restarts us.
    pub(super) left_for_restart: bool,
    /// Why we end, where another keeper has taken our place.
    pub(super) lost: Option<Error>,
    /// Whether it was told that what stops now is killed.
    killing: bool,
    watchdog: Option<Watchdog>,
    /// Whether it has begun to end us.
    fired: Arc<AtomicBool>,
    /// For which part of an end the watchdog is armed.
    guarded: u8,
}

impl StopGuard {
    /// No stop is under way.
    pub(super) fn new(supervisor: &Supervisor, configured: Option<SignalNumber>) -> StopGuard {
        StopGuard {
            allowance: Allowance::ask(supervisor),
            signal: configured.unwrap_or(Signal::SIGTERM.into()),
            configured,
            left_for_restart: false,
            lost: None,
            killing: false,
            watchdog: None,
            fired: Arc::default(),
            guarded: 0,
        }
    }

    /// A life begins: the next stop is a new one.
    pub(super) fn renew(&mut self) {
        self.killing = false;
        self.told_by(Signal::SIGTERM);
    }

    /// Whoever stops us has sent this signal: so does the command, unless another one was configured.
    pub(super) fn told_by(&mut self, signal: Signal) {
        self.signal = self.configured.unwrap_or(signal.into());
    }
}

/// How often it ended as it should not.
pub(super) struct FailureWatch {
    log: Option<FailureLog>,
    /// Whether that was too often.
    pub(super) gave_up: bool,
    /// Why the last start could not be made, if it could not.
    pub(super) not_started: Option<Error>,
    /// Whether that may be better at the next try.
    pub(super) may_pass: bool,
    /// Whether it is given up because the first start could not be made, and never can.
    pub(super) never_started: bool,
}

impl FailureWatch {
    /// What is known of it.
    ///
    /// # Errors
    /// 78 where it was given up before.
    pub(super) fn open(limit: Option<FailureLimit>) -> Result<FailureWatch> {
        let log = limit.map(FailureLog::open);
        if let Some(log) = log.as_ref().filter(|log| log.tripped()) {
            return Err(Error::new(Status::BadConfig, format!("cannot keep it: {}", log.words())));
        }
        Ok(FailureWatch { log, gave_up: false, not_started: None, may_pass: false, never_started: false })
    }

    /// Somebody has asked for a start: what went before does not count.
    pub(super) fn forgive(&mut self) {
        self.log.iter_mut().for_each(FailureLog::clear);
    }
}

impl KeeperLoop<'_> {
    pub(super) fn ended(&mut self, exit: Exit) {
        self.forget_drain();
        self.story.note(if exit.success() { "exited" } else { "failed" });
        // What was asked for does not count.
        let bad = matches!(self.keeper.state(), KeeperState::Running(_) | KeeperState::Readying(..))
            && !exit.success();
        match self.keeper.state() {
            KeeperState::Running(_) if exit.success() => {
                self.voice.step(format!("{}: {exit}", name(self.request)))
            }
            KeeperState::Running(_) | KeeperState::Readying(..) => {
                self.voice.note(format!("{}: {exit}", name(self.request)))
            }
            _ => {}
        }
        if matches!(self.keeper.state(), KeeperState::Readying(..)) {
            self.health.not_serving = format!("it {exit} before it served");
        }
        self.happen(KeeperEvent::Exited(exit));
        if bad && self.failed() {
            self.happen(KeeperEvent::GiveUp);
        }
        if let KeeperState::Waiting(until) = self.keeper.state() {
            self.voice.step(format!(
                "{}: next start in {}",
                name(self.request),
                span::show(until.saturating_duration_since(Instant::now()))
            ));
        }
    }

    /// Writes a bad end down; whether there were too many of them for a next start.
    pub(super) fn failed(&mut self) -> bool {
        let Some(log) = self.failures.log.as_mut() else { return false };
        if log.note() {
            self.voice.warn(format!("{}: giving up: {}", name(self.request), log.words()));
            self.failures.gave_up = true;
        }
        self.failures.gave_up
    }

    /// While it is told to stop, or is drained, the watchdog is armed: for the time that this may take, and
    /// what a stop takes after it.
    pub(super) fn guard(&mut self) {
        let asked = |next: Next| matches!(next, Next::Finish | Next::Start);
        let (phase, until) = match self.keeper.state() {
            KeeperState::Draining { until, .. } => (1, until),
            KeeperState::Stopping { until, next, .. } | KeeperState::Sweeping(until, next) if asked(next) => {
                (2, until.map(|_| Instant::now()))
            }
            _ => (0, None),
        };
        if phase == self.stop.guarded {
            return;
        }
        self.stop.guarded = phase;
        // What has no end of its own has none here.
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()) + self.close_limit());
        let finishing = matches!(
            self.keeper.state(),
            KeeperState::Stopping { next: Next::Finish, .. } | KeeperState::Sweeping(_, Next::Finish)
        ) && !self.stop.left_for_restart;
        let reason = if finishing { "run.stop_shutdown_timeout" } else { "run.restart_shutdown_timeout" };
        self.stop.watchdog = limit.and_then(|limit| {
            Watchdog::arm(limit, reason, &self.story, &self.stop.fired, self.lives.outlines())
        });
    }

    /// How long a stop may take in all: what was configured, but more than the limit after which it is
    /// killed, and less than what a supervisor allows.
    fn close_limit(&self) -> Duration {
        let policy = &self.request.policy;
        let own =
            self.request.shutdown.max(policy.exit_timeout + policy.kill_grace.unwrap_or_default() + MERCY);
        let supervised = self.stop.allowance.limit().map(supervisor::whole);
        supervised.map_or(own, |supervised| own.min(supervised))
    }

    /// Sends the kill signal to everything of what it keeps, or of one life of it.
    pub(super) fn abort(&mut self, who: Option<Identity>) {
        let Some(signal) = self.request.kill_signal else { return };
        let limit = span::show(self.request.policy.exit_timeout);
        self.voice.warn(format!("{}: has not stopped within {limit}; sending {signal}", name(self.request)));
        self.lives.tell_all(who, signal);
    }

    /// Kills everything of what it keeps.
    pub(super) fn kill(&mut self) {
        if !std::mem::replace(&mut self.stop.killing, true) {
            self.voice.warn(format!("{}: killing it", name(self.request)));
        }
        self.lives.kill();
    }

    /// The keeper ends: hooks that run are given their time, unless somebody is impatient, and launchd is
    /// given time to see that it was meant.
    pub(super) fn leave(&mut self, signals: &Signals) {
        while self.stop.fired.load(Ordering::SeqCst) {
            // The watchdog ends us.
            std::thread::sleep(MERCY);
        }
        if self.keeper.never_came_up() {
            self.bundle("run.startup_failed");
        }
        while !self.hooks.are_over() {
            let fds = [(signals.fd(), For::Reading), (self.hooks.fd(), For::Reading)];
            // Each of them has its limit.
            if poll::wait(&fds, None).is_err() {
                break;
            }
            if signals.take().iter().any(|signal| matches!(signal, Signal::SIGTERM | Signal::SIGINT)) {
                self.hooks.cancel();
            }
        }
        if self.stop.left_for_restart {
            std::thread::sleep(self.request.supervisor.delay());
        }
    }

    /// What the keeper ends with.
    pub(super) fn end(&mut self) -> Result<KeeperEnd> {
        match self.stop.lost.take() {
            Some(error) => Err(error),
            None => Ok(KeeperEnd { status: self.status(), json: self.status_json(self.keeper.state()) }),
        }
    }
}
