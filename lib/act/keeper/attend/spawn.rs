//! Starting a life: what it is given, and what is known of it on disk before anything else happens.

use super::{KeeperLoop, name};
use crate::act::keeper::KeeperEvent;
use crate::act::keeper::notify::{Notify, Reach};
use crate::act::keeper::readiness::By;
use crate::service::recipe::Recipe;
use crate::sys::child::Spec;
use crate::sys::process::Identity;
use crate::sys::signal::Signal;
use crate::sys::user;
use crate::words::error::Result;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

impl KeeperLoop<'_> {
    pub(super) fn start(&mut self) -> KeeperEvent {
        self.health.not_serving.clear();
        self.stop.renew();
        self.touched = Some(Instant::now());
        if let Err(error) = self.take_lock_again() {
            self.health.not_serving = error.to_string();
            // Whoever has the lock serves in our place; that is no failure of the command.
            self.voice.warn(format!("{}: {error}", name(self.request)));
            return KeeperEvent::NotStarted;
        }
        if !self.keep_place() {
            return KeeperEvent::GiveUp;
        }
        match self.spawn() {
            Ok(identity) => {
                self.voice.step(format!("{}: started as process {}", name(self.request), identity.pid));
                self.story.note("started");
                self.lives.promote(identity);
                self.failures.not_started = None;
                KeeperEvent::Started(identity)
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", name(self.request)));
                self.story.note("not-started");
                self.health.not_serving = error.to_string();
                self.failures.not_started = Some(error);
                // launchd tries a job again and again; a command that cannot be run is a mistake of whoever
                // has typed it.
                let is_command = matches!(self.request.recipe, Recipe::Command(_));
                if is_command && self.keeper.runs() == 1 && !self.failures.may_pass {
                    self.failures.never_started = true;
                    return KeeperEvent::GiveUp;
                }
                if self.failed() { KeeperEvent::GiveUp } else { KeeperEvent::NotStarted }
            }
        }
    }

    /// The lock was given back while nothing ran; whoever had it meanwhile may have been killed.
    fn take_lock_again(&mut self) -> Result<()> {
        if self.place.take_again()? {
            self.record_anew();
            let patience = self.request.policy.exit_timeout;
            self.lives.clear_leftovers(name(self.request), patience, self.voice)?;
        }
        Ok(())
    }

    pub(super) fn start_next(&mut self) -> KeeperEvent {
        self.health.not_serving.clear();
        if !self.keep_place() {
            return KeeperEvent::NextNotStarted;
        }
        match self.spawn() {
            Ok(identity) => {
                self.voice.step(format!("{}: the next life is process {}", name(self.request), identity.pid));
                self.story.note("next-started");
                KeeperEvent::NextStarted(identity)
            }
            Err(error) => {
                self.voice.warn(format!("{}: {error}", name(self.request)));
                self.health.not_serving = error.to_string();
                KeeperEvent::NextNotStarted
            }
        }
    }

    fn spawn(&mut self) -> Result<Identity> {
        let (spec, notify) = self.spec()?;
        self.failures.may_pass = false;
        let started = self.lives.start(spec, self.voice);
        let identity = started.inspect_err(|error| self.failures.may_pass = error.may_pass())?;
        self.health.notify = notify.map(|notify| (identity.pid, notify));
        Ok(identity)
    }

    fn spec(&mut self) -> Result<(Spec, Option<Notify>)> {
        let mut spec = self.request.recipe.spec()?;
        spec.no_new_privileges = self.request.no_new_privileges;
        if let Some(reason) = self.changes.reason.take() {
            spec.env.push(("BAA_RESTART_REASON".into(), reason.into()));
        }
        // It is in a directory that is ours alone: another user could not read it.
        let ours = spec.user.as_ref().is_none_or(|user| user.uid == user::own_uid());
        if let Some(label) = self.place.label.as_ref().filter(|_| ours) {
            spec.env.push(("BAA_RESTART_SENTINEL".into(), label.sentinel.clone().into()));
        }
        let socket = |user| Notify::socket(&Reach::of(user), self.request.notify_access);
        let notify = match self.request.ready.as_ref().map(|ready| &ready.by) {
            Some(By::Socket) => Some(socket(spec.user.as_ref())?),
            Some(By::Line(number)) => {
                let (notify, writer) = Notify::pipe()?;
                spec.pass.push((*number, Arc::new(writer)));
                Some(notify)
            }
            _ if self.request.watchdog.is_some() => Some(socket(spec.user.as_ref())?),
            _ => None,
        };
        spec.env.extend(notify.as_ref().and_then(Notify::variable));
        if let Some(limit) = self.request.watchdog {
            spec.env.push(("WATCHDOG_USEC".into(), limit.as_micros().to_string().into()));
        }
        if self.place.is_locked() {
            // Whoever has the lock next must not find it beside us.
            spec.ends_with_us = Some(Signal::SIGKILL);
        }
        if !self.sockets.is_empty() {
            let names: Vec<&str> = self.sockets.iter().map(|(name, _)| name.as_str()).collect();
            spec.env.push(("LISTEN_FDS".into(), names.len().to_string().into()));
            spec.env.push(("LISTEN_FDNAMES".into(), names.join(":").into()));
            spec.pass.extend((3..).zip(self.sockets.iter().map(|(_, socket)| Arc::clone(socket))));
            // The child writes its own pid there (sd_listen_fds(3)).
            spec.env.push(("LISTEN_PID".into(), OsString::new()));
        }
        Ok((spec, notify))
    }
}
