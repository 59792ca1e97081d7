//! How lives, changes and the keeper itself end: drains, bad ends, the watchdog, and what is left for others
//! to know.

use super::KeeperLoop;
use crate::act::keeper::change::{ChangeKind, ChangeOutcome, KeeperChange, OVERTAKEN, STOPPED};
use crate::act::keeper::drain::{DrainMethod, Draining};
use crate::act::keeper::stability;
use crate::act::keeper::watchdog::Watchdog;
use crate::act::keeper::{KeeperEvent, KeeperState, Next, supervisor};
use crate::life;
use crate::sys::child::{self, Exit, Spec};
use crate::sys::clock;
use crate::sys::file;
use crate::sys::process::Identity;
use crate::words::span::{self, millis};
use crate::words::stamp;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long clients are told that a restart takes (the seed's close notice, facts 1.1).
const EXPECTED: Duration = Duration::from_millis(1500);
/// How long a hook may take.
const HOOK_LIMIT: Duration = Duration::from_secs(10);
/// The same of one that a stop waits for.
const ABORT_LIMIT: Duration = Duration::from_secs(2);
/// How long a bundle may take.
const BUNDLE_LIMIT: Duration = Duration::from_secs(5);
/// What the watchdog grants beyond the time after which everything is killed.
const MERCY: Duration = Duration::from_secs(5);

impl KeeperLoop<'_> {
    /// Has the command finish what it has begun.
    pub(super) fn drain(&mut self, who: Identity, limit: Option<Duration>) -> Option<KeeperEvent> {
        let drain = self.request.drain.as_ref()?;
        let words = limit
            .map_or_else(|| "without end".to_owned(), |limit| format!("for {} at most", span::show(limit)));
        self.voice.note(format!("{}: draining {words}", self.name()));
        self.story.note("drain");
        let env = self.drain_variables(who, limit);
        (self.drain_begun, self.drain_told) = (Some((Instant::now(), who)), 0);
        if let DrainMethod::Signal(signal) = drain.how {
            child::signal(who, signal);
        }
        match Draining::begin(drain, limit, env) {
            Ok(draining) => {
                self.draining = draining;
                None
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", self.name()));
                self.drain_begun = None;
                Some(KeeperEvent::Drained)
            }
        }
    }

    /// What a command that drains is told: how long it has, and what clients may be told.
    fn drain_variables(&self, who: Identity, limit: Option<Duration>) -> Vec<(OsString, OsString)> {
        let leaving = matches!(self.keeper.state(), KeeperState::Draining { next: Next::Finish, .. })
            && !self.left_for_restart;
        let expected = if leaving { String::new() } else { EXPECTED.as_millis().to_string() };
        vec![
            ("BAA_PID".into(), who.pid.to_string().into()),
            ("BAA_RESTART_REASON".into(), self.reason.clone().unwrap_or_default().into()),
            ("BAA_RESTART_EXPECTED_MS".into(), expected.into()),
            ("BAA_DRAIN_MS".into(), limit.map_or(0, millis).to_string().into()),
        ]
    }

    /// A drain that fails is no reason not to restart.
    pub(super) fn drained(&mut self, outcome: std::result::Result<(), String>) {
        self.draining = None;
        match outcome {
            Ok(()) => {
                self.drain_begun = None;
                self.voice.step(format!("{}: drained", self.name()));
            }
            Err(why) => self.voice.warn(format!("{}: not drained: {why}", self.name())),
        }
        self.happen(KeeperEvent::Drained);
    }

    /// There is nothing to drain any more: whoever drained, if somebody did.
    pub(super) fn forget_drain(&mut self) -> Option<Identity> {
        self.draining = None;
        self.drain_begun.take().map(|(_, who)| who)
    }

    /// Ends the drain of one that is told to stop now: what it has not finished is aborted, where there is a
    /// way.
    pub(super) fn cut_drain(&mut self) {
        let Some(who) = self.forget_drain() else { return };
        let Some(command) = self.request.drain.as_ref().and_then(|drain| drain.abort.clone()) else { return };
        self.voice.note(format!("{}: aborting what is left", self.name()));
        let env = self.drain_variables(who, Some(Duration::ZERO));
        self.hook("--drain-abort", command, env, true);
    }

    /// Tells now and then that it still drains, and how much is left, as far as is known.
    pub(super) fn drain_notice(&mut self) {
        let Some((since, notice)) = self.noticed() else { return };
        let told = u32::try_from(since.elapsed().as_millis() / notice.as_millis().max(1)).unwrap_or(u32::MAX);
        if told > self.drain_told {
            let left = self
                .draining
                .as_ref()
                .and_then(Draining::left)
                .map_or_else(String::new, |left| format!(", {left} left"));
            self.voice.warn(format!(
                "{}: still draining after {}{left}",
                self.name(),
                span::show(notice * told)
            ));
        }
        self.drain_told = told;
    }

    /// When the next notice is due.
    pub(super) fn notice_due(&self) -> Option<Instant> {
        let (since, notice) = self.noticed()?;
        Some(clock::after(since, notice.saturating_mul(self.drain_told.saturating_add(1))))
    }

    /// Since when it drains, and how often that is told, if it is.
    fn noticed(&self) -> Option<(Instant, Duration)> {
        let drains =
            matches!(self.keeper.state(), KeeperState::Draining { .. } | KeeperState::Replacing { .. });
        let ((since, _), notice) =
            (self.drain_begun.filter(|_| drains)?, self.request.drain.as_ref()?.notice);
        (!notice.is_zero()).then_some((since, notice))
    }

    pub(super) fn ended(&mut self, exit: Exit) {
        self.forget_drain();
        self.story.note(if exit.success() { "exited" } else { "failed" });
        // What was asked for does not count.
        let bad = matches!(self.keeper.state(), KeeperState::Running(_) | KeeperState::Readying(..))
            && !exit.success();
        match self.keeper.state() {
            KeeperState::Running(_) if exit.success() => self.voice.step(format!("{}: {exit}", self.name())),
            KeeperState::Running(_) | KeeperState::Readying(..) => {
                self.voice.note(format!("{}: {exit}", self.name()))
            }
            _ => {}
        }
        if matches!(self.keeper.state(), KeeperState::Readying(..)) {
            self.not_serving = format!("it {exit} before it served");
        }
        self.happen(KeeperEvent::Exited(exit));
        if bad && self.failed() {
            self.happen(KeeperEvent::GiveUp);
        }
        if let KeeperState::Waiting(until) = self.keeper.state() {
            self.voice.step(format!(
                "{}: next start in {}",
                self.name(),
                span::show(until.saturating_duration_since(Instant::now()))
            ));
        }
    }

    /// Writes a bad end down; whether there were too many of them for a next start.
    pub(super) fn failed(&mut self) -> bool {
        let Some(failure_log) = self.failure_log.as_mut() else { return false };
        if failure_log.note() {
            self.voice.warn(format!(
                "{}: giving up: {}",
                self.request.label.as_deref().unwrap_or("command"),
                failure_log.words()
            ));
            self.gave_up = true;
        }
        self.gave_up
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
        if phase == self.guarded {
            return;
        }
        self.guarded = phase;
        // What has no end of its own has none here.
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()) + self.close_limit());
        let finishing = matches!(
            self.keeper.state(),
            KeeperState::Stopping { next: Next::Finish, .. } | KeeperState::Sweeping(_, Next::Finish)
        ) && !self.left_for_restart;
        let reason = if finishing { "run.stop_shutdown_timeout" } else { "run.restart_shutdown_timeout" };
        self.watchdog = limit.and_then(|limit| {
            Watchdog::arm(limit, reason, &self.story, &self.fired, self.roots(), self.spared.clone())
        });
    }

    /// How long a stop may take in all: what was configured, but more than the limit after which it is
    /// killed, and less than what a supervisor allows.
    fn close_limit(&self) -> Duration {
        let own = self.request.shutdown.max(self.request.policy.exit_timeout + MERCY);
        let supervised = self.allowance.limit().map(supervisor::whole);
        supervised.map_or(own, |supervised| own.min(supervised))
    }

    /// What follows from a change that was decided: it is written down for the next life, and told to whoever
    /// wants to know.
    pub(super) fn settled(&mut self) {
        let Some(change) = self.keeper.change() else { return };
        if change.number != self.changing.0 {
            self.changing = (change.number, Instant::now());
        }
        if !change.over() || change.number <= self.told {
            return;
        }
        self.told = change.number;
        self.story.note(if change.outcome == ChangeOutcome::Done { "changed" } else { "not-changed" });
        let why = self.why(change);
        if let Some(office) = &self.runtime {
            let text = format!("{}\n", sentinel(change, &why, self.changing.1.elapsed()));
            let written = file::own_dir(&file::state_dir().join("run"))
                .and_then(|()| file::replace(&office.sentinel, text.as_bytes(), 0o600));
            if let Err(cause) = written {
                self.voice.warn(format!(
                    "cannot write '{}': {}",
                    office.sentinel.display(),
                    crate::words::error::reason(&cause)
                ));
            }
        }
        let Some(command) = self.request.on_restart.clone() else { return };
        let text = |text: &str| OsString::from(text);
        let env = vec![
            ("BAA_LABEL".into(), text(self.name())),
            ("BAA_CHANGE".into(), text(change.kind.word())),
            ("BAA_OUTCOME".into(), text(change.outcome.word())),
            ("BAA_WHY".into(), text(&why)),
            ("BAA_PID".into(), self.main.map(|main| main.pid.to_string()).unwrap_or_default().into()),
        ];
        self.hook("--on-restart", command, env, false);
    }

    /// Why a change failed, as far as is known.
    pub(super) fn why(&self, change: KeeperChange) -> String {
        match change.outcome {
            ChangeOutcome::Failed(why)
                if self.not_serving.is_empty() || [STOPPED, OVERTAKEN].contains(&why) =>
            {
                why.to_owned()
            }
            ChangeOutcome::Failed(_) => self.not_serving.clone(),
            ChangeOutcome::Done | ChangeOutcome::Open => String::new(),
        }
    }

    /// A start that did not come to serve: what went before is written down; the lock is given back, so that
    /// somebody else may serve.
    pub(super) fn parked(&mut self) {
        if !self.keeper.parked() || self.was_parked {
            self.was_parked = self.keeper.parked();
            return;
        }
        self.was_parked = true;
        self.held = None;
        self.voice.warn(format!(
            "{}: startup failed: {}; the keeper stays; mend it and restart",
            self.name(),
            self.not_serving
        ));
        self.bundle("run.restart_startup_failed");
    }

    /// Writes a bundle of what went before, and says where.
    pub(super) fn bundle(&self, reason: &'static str) {
        match stability::bundle_within(&self.story, reason, self.not_serving.clone(), BUNDLE_LIMIT) {
            Some(Ok(path)) => self.voice.note(format!("wrote stability bundle '{}'", path.display())),
            Some(Err(cause)) => self
                .voice
                .warn(format!("cannot write a stability bundle: {}", crate::words::error::reason(&cause))),
            None => self.voice.warn("cannot write a stability bundle in time"),
        }
    }

    /// Runs a command of the user aside. One that must be done before something else is waited for.
    fn hook(&mut self, name: &'static str, command: String, env: Vec<(OsString, OsString)>, wait: bool) {
        let mut spec = Spec::new("/bin/sh", ["-c", &command]);
        spec.env = env;
        let voice = self.voice.clone();
        let limit = if wait { ABORT_LIMIT } else { HOOK_LIMIT };
        let work = move || match life::run(spec, Instant::now() + limit, 4096, &AtomicBool::new(false)) {
            Ok(done) if done.exit.is_some_and(Exit::success) => {}
            Ok(done) => voice.warn(format!(
                "{name} {}: {}",
                done.exit.map_or_else(
                    || format!("was not done within {}", span::show(limit)),
                    |exit| exit.to_string()
                ),
                crate::words::error::brief(done.stderr.lines().last().unwrap_or_default())
            )),
            Err(error) => voice.warn(format!("{name}: {error}")),
        };
        match std::thread::Builder::new().stack_size(512 * 1024).spawn(work) {
            Ok(thread) if wait => drop(thread.join()),
            Ok(thread) => {
                self.hooks.retain(|hook| !hook.is_finished());
                self.hooks.push(thread);
            }
            Err(cause) => {
                self.voice.warn(format!("cannot run {name}: {}", crate::words::error::reason(&cause)))
            }
        }
    }

    /// The keeper ends: hooks that run are waited for, and launchd is given time to see that it was meant.
    pub(super) fn leave(&mut self) {
        while self.fired.load(Ordering::SeqCst) {
            // The watchdog ends us.
            std::thread::sleep(MERCY);
        }
        if self.keeper.never_came_up() {
            self.bundle("run.startup_failed");
        }
        self.hooks.drain(..).for_each(|hook| drop(hook.join()));
        if self.left_for_restart {
            std::thread::sleep(self.request.supervisor.delay());
        }
    }
}

/// What the next life finds of the last change (facts 2.7).
fn sentinel(change: KeeperChange, why: &str, took: Duration) -> Value {
    let reason = match (change.kind, change.outcome) {
        (ChangeKind::Update, ChangeOutcome::Failed(_)) => json!("restart-unhealthy"),
        (_, ChangeOutcome::Failed(why)) => json!(why),
        _ => Value::Null,
    };
    let message = if why.is_empty() { Value::Null } else { json!(why) };
    json!({
        "version": 1,
        "payload": {
            "kind": change.kind.word(),
            "status": if change.outcome == ChangeOutcome::Done { "ok" } else { "error" },
            "ts": stamp::millis(SystemTime::now()),
            "message": message,
            "stats": { "reason": reason, "durationMs": millis(took) },
        },
    })
}
