//! Whether a life serves, and goes on to: what is asked of it, and what it tells.

use super::{KeeperLoop, name};
use crate::act::keeper::notify::{Notification, Notify};
use crate::act::keeper::readiness::{Asking, By, LiveWatch};
use crate::act::keeper::{KeeperEvent, KeeperState};
use crate::sys::clock;
use crate::sys::process::Pid;
use crate::sys::say::Voice;
use crate::words::span;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What is known of the life that is the main one.
#[derive(Default)]
pub(super) struct LifeHealth {
    /// Whether the life that was started last serves yet.
    asking: Option<Asking>,
    /// Whether the main one still does, and which process that is.
    living: Option<(Pid, LiveWatch)>,
    /// What the main one tells of itself: its process, where, and when it last said that it lives.
    heard: Option<(Pid, Notify, Instant)>,
    /// What it says that it does.
    pub(super) status: Option<String>,
    /// Where the life that is being started tells of itself, and its process.
    pub(super) notify: Option<(Pid, Notify)>,
    /// Why the last life that did not come to serve did not, as far as is known.
    pub(super) not_serving: String,
}

impl LifeHealth {
    /// Where the main one tells of itself, for the commands that are run for it.
    pub(super) fn variable(&self) -> Option<(OsString, OsString)> {
        self.heard.as_ref().and_then(|(_, notify, _)| notify.variable())
    }

    /// When to hear it again by itself.
    pub(super) fn wake(&self) -> Option<Instant> {
        let asking = self.asking.as_ref().and_then(Asking::wake);
        asking.into_iter().chain(self.heard.as_ref().and_then(|(_, notify, _)| notify.wake())).min()
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let asking = self.asking.as_ref().and_then(Asking::fd);
        let living = self.living.as_ref().map(|(_, living)| living.fd());
        asking.into_iter().chain(living).chain(self.heard.as_ref().and_then(|(_, notify, _)| notify.fd()))
    }
}

/// Somebody has told something of the life `name` who is not believed.
fn tell_refused(voice: &Voice, name: &str, told: &Notification) {
    if let Some(who) = &told.refused {
        voice.warn(format!("{name}: a message over NOTIFY_SOCKET is ignored: it is from {who}"));
    }
}

impl KeeperLoop<'_> {
    /// Hears whether it serves, and says so when its time to is over.
    pub(super) fn health(&mut self) {
        self.readiness();
        self.liveness();
        self.hear();
    }

    /// When the next sign of life is due.
    pub(super) fn sign_due(&self) -> Option<Instant> {
        let (.., last) = self.health.heard.as_ref()?;
        Some(clock::after(*last, self.request.watchdog?))
    }

    fn readiness(&mut self) {
        let (who, until) = match self.keeper.state() {
            KeeperState::Readying(who, until) | KeeperState::Updating { next: Some(who), until, .. } => {
                (who, until)
            }
            KeeperState::Running(who) => {
                // Not asked for readiness, but for signs of life. What an update that was undone has left is
                // nobody's.
                if let Some(notify) = self.notify_of(who.pid) {
                    self.health.heard = Some((who.pid, notify, Instant::now()));
                }
                (self.health.asking, self.health.notify) = (None, None);
                return;
            }
            _ => {
                self.health.asking = None;
                return;
            }
        };
        let lives = &self.lives;
        let told = self.health.asking.as_mut().map(|asking| asking.hear(&|pid| lives.part(who.pid, pid)));
        told.iter().for_each(|told| tell_refused(self.voice, name(self.request), told));
        match (told, &self.request.ready) {
            (Some(told), _) if told.ready => {
                self.voice.step(format!("{}: serves", name(self.request)));
                self.story.note("serves");
                let notify = self
                    .health
                    .asking
                    .take()
                    .and_then(Asking::into_notify)
                    .or_else(|| self.notify_of(who.pid));
                self.health.heard = notify.map(|notify| (who.pid, notify, Instant::now()));
                self.health.status = told.status;
                self.happen(KeeperEvent::Ready);
            }
            (Some(told), Some(ready)) => {
                self.health.status = told.status.or(self.health.status.take());
                if let Some(asking) = self.health.asking.as_ref().filter(|_| Instant::now() >= until) {
                    let limit = if matches!(self.keeper.state(), KeeperState::Updating { .. }) {
                        self.request.policy.update
                    } else {
                        ready.limit
                    };
                    self.health.not_serving =
                        format!("it does not serve within {}: {}", span::show(limit), asking.last());
                    self.voice.warn(format!(
                        "{}: {}",
                        name(self.request),
                        self.health.not_serving.trim_start_matches("it ")
                    ));
                }
            }
            (None, Some(ready)) => {
                let tells = matches!(ready.by, By::Socket | By::Line(_));
                let notify = if tells { self.notify_of(who.pid) } else { None };
                match Asking::begin(ready, who.pid, notify) {
                    Ok(asking) => self.health.asking = Some(asking),
                    Err(error) => self.voice.warn(error),
                }
            }
            _ => {}
        }
    }

    /// Where the life tells of itself whose process that is.
    fn notify_of(&mut self, pid: Pid) -> Option<Notify> {
        self.health.notify.take_if(|(of, _)| *of == pid).map(|(_, notify)| notify)
    }

    /// One that serves is asked whether it goes on to. A life that is going, or beside another, is let alone.
    fn liveness(&mut self) {
        let Some(live) = &self.request.live else { return };
        let KeeperState::Running(who) = self.keeper.state() else {
            self.health.living = None;
            return;
        };
        match self.health.living.take() {
            Some((pid, living)) if pid == who.pid => match living.lost() {
                Some(why) => self.hung(&why),
                None => self.health.living = Some((pid, living)),
            },
            _ => match LiveWatch::begin(live, who.pid) {
                Ok(living) => self.health.living = Some((who.pid, living)),
                Err(error) => self.voice.warn(error),
            },
        }
    }

    /// What it tells of itself; without a sign of life in time it does not live.
    fn hear(&mut self) {
        let lives = &self.lives;
        let Some((life, notify, last)) = &mut self.health.heard else { return };
        let told = notify.hear(&|pid| lives.part(*life, pid));
        tell_refused(self.voice, name(self.request), &told);
        let Notification { alive, stuck, status, .. } = told;
        if alive {
            *last = Instant::now();
        }
        self.health.status = status.or(self.health.status.take());
        if !matches!(self.keeper.state(), KeeperState::Running(_)) {
            // Whatever it does now, the time begins anew when it is done.
            *last = Instant::now();
        } else if stuck {
            self.hung("it says that it is stuck");
        } else if let Some(limit) = self.request.watchdog
            && last.elapsed() >= limit
        {
            self.hung(&format!("it has not said WATCHDOG=1 for {}", span::show(limit)));
        }
    }

    fn hung(&mut self, why: &str) {
        self.voice.warn(format!("{}: does not serve any more: {why}", name(self.request)));
        self.story.note("hung");
        self.health.heard = None;
        self.happen(KeeperEvent::Hung);
        if self.failed() {
            self.happen(KeeperEvent::GiveUp);
        }
    }
}
