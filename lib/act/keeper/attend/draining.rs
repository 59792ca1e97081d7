//! Letting a life finish what it has begun, and cutting that short.

use super::{KeeperLoop, name};
use crate::act::keeper::drain::{DrainMethod, Draining};
use crate::act::keeper::hooks::{Hook, HookProgress};
use crate::act::keeper::{KeeperEvent, KeeperState, Next};
use crate::life::Wall;
use crate::sys::child;
use crate::sys::clock;
use crate::sys::process::Identity;
use crate::words::span::{self, millis};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long clients are told that a restart takes (the seed's close notice, facts 1.1).
const EXPECTED: Duration = Duration::from_millis(1500);
/// How long the command may take that aborts what is left; a stop waits for it.
const ABORT_LIMIT: Duration = Duration::from_secs(2);

/// A drain that is under way.
#[derive(Default)]
pub(super) struct DrainProgress {
    /// What runs aside for it, if more than a signal is needed.
    work: Option<Draining>,
    /// Since when the process drains that does.
    begun: Option<(Instant, Identity)>,
    /// How often that was told.
    told: u32,
    /// Who is told to stop when what is left is aborted.
    abort: Option<(Identity, HookProgress)>,
}

impl DrainProgress {
    /// Readable when it may be over.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.work.as_ref().map(|work| work.bell.fd())
    }
}

impl KeeperLoop<'_> {
    /// Has the command finish what it has begun.
    pub(super) fn begin_drain(&mut self, who: Identity, limit: Option<Duration>) -> Option<KeeperEvent> {
        let drain = self.request.drain.as_ref()?;
        let words = limit
            .map_or_else(|| "without end".to_owned(), |limit| format!("for {} at most", span::show(limit)));
        self.voice.note(format!("{}: draining {words}", name(self.request)));
        self.story.note("drain");
        let env = self.drain_variables(who, limit);
        (self.drain.begun, self.drain.told) = (Some((Instant::now(), who)), 0);
        if let DrainMethod::Signal(signal) = drain.how {
            child::signal(who, signal);
        }
        match Draining::begin(drain, limit, env) {
            Ok(draining) => {
                self.drain.work = draining;
                None
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", name(self.request)));
                self.drain.begun = None;
                Some(KeeperEvent::Drained)
            }
        }
    }

    /// What a command that drains is told: how long it has, and what clients may be told.
    fn drain_variables(&self, who: Identity, limit: Option<Duration>) -> Vec<(OsString, OsString)> {
        let leaving = matches!(self.keeper.state(), KeeperState::Draining { next: Next::Finish, .. })
            && !self.stop.left_for_restart;
        let expected = if leaving { String::new() } else { EXPECTED.as_millis().to_string() };
        let mut all = vec![
            ("BAA_PID".into(), who.pid.to_string().into()),
            ("BAA_RESTART_REASON".into(), self.changes.reason.clone().unwrap_or_default().into()),
            ("BAA_RESTART_EXPECTED_MS".into(), expected.into()),
            ("BAA_DRAIN_MS".into(), limit.map_or(0, millis).to_string().into()),
        ];
        all.extend(self.health.variable());
        all
    }

    /// A drain that fails is no reason not to restart.
    fn drained(&mut self, outcome: std::result::Result<(), String>) {
        self.drain.work = None;
        match outcome {
            Ok(()) => {
                self.drain.begun = None;
                self.voice.step(format!("{}: drained", name(self.request)));
            }
            Err(why) => self.voice.warn(format!("{}: not drained: {why}", name(self.request))),
        }
        self.happen(KeeperEvent::Drained);
    }

    /// There is nothing to drain any more: whoever drained, if somebody did.
    pub(super) fn forget_drain(&mut self) -> Option<Identity> {
        self.drain.work = None;
        self.drain.begun.take().map(|(_, who)| who)
    }

    /// Ends the drain of one that is told to stop now: what it has not finished is aborted, where there is a
    /// way. Whether it is told to stop only when that is done.
    pub(super) fn cut_drain(&mut self, stopping: Identity) -> bool {
        let Some(who) = self.forget_drain() else { return false };
        let Some(command) = self.request.drain.as_ref().and_then(|drain| drain.abort.clone()) else {
            return false;
        };
        self.voice.note(format!("{}: aborting what is left", name(self.request)));
        let env = self.drain_variables(who, Some(Duration::ZERO));
        let hook = Hook { name: "--drain-abort", command, env, limit: ABORT_LIMIT };
        self.drain.abort = Some((stopping, self.hooks.begin(hook, self.voice)));
        true
    }

    /// Tells a process to stop whose work in flight was aborted first.
    pub(super) fn tell_after_abort(&mut self) {
        if let Some((who, _)) = self.drain.abort.take_if(|(_, progress)| progress.over()) {
            Wall::tell(&[who], self.stop.signal);
        }
    }

    /// Hears whether the drain is over, and tells now and then that it is not.
    pub(super) fn drain_progress(&mut self) {
        self.drain_notice();
        if let Some(outcome) = self.drain.work.as_ref().and_then(Draining::over) {
            self.drained(outcome);
        }
    }

    /// Tells now and then that it still drains, and how much is left, as far as is known.
    fn drain_notice(&mut self) {
        let Some((since, notice)) = self.noticed() else { return };
        let told = u32::try_from(since.elapsed().as_millis() / notice.as_millis().max(1)).unwrap_or(u32::MAX);
        if told > self.drain.told {
            let left = self
                .drain
                .work
                .as_ref()
                .and_then(Draining::left)
                .map_or_else(String::new, |left| format!(", {left} left"));
            self.voice.warn(format!(
                "{}: still draining after {}{left}",
                name(self.request),
                span::show(notice * told)
            ));
        }
        self.drain.told = told;
    }

    /// When the next notice is due.
    pub(super) fn notice_due(&self) -> Option<Instant> {
        let (since, notice) = self.noticed()?;
        Some(clock::after(since, notice.saturating_mul(self.drain.told.saturating_add(1))))
    }

    /// Since when it drains, and how often that is told, if it is.
    fn noticed(&self) -> Option<(Instant, Duration)> {
        let drains =
            matches!(self.keeper.state(), KeeperState::Draining { .. } | KeeperState::Replacing { .. });
        let ((since, _), notice) =
            (self.drain.begun.filter(|_| drains)?, self.request.drain.as_ref()?.notice);
        (!notice.is_zero()).then_some((since, notice))
    }
}
